#!/usr/bin/python3
"""Every fault, armed and active, when its instance ends: its postmaster is killed and started again, or the
whole instance is deleted. Nobody reverts anything. What of the fault must end then has ended long before its
time, and nothing of it keeps a process, a mount, a control group, the volume or the network namespace.

Several processes share the cases, each with an instance of its own, since a case mostly waits. Arguments
choose cases: FAULT[:STATE:EVENT]...
"""
import ctypes
import glob
import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import hook  # noqa: E402
from harness.agent import TIME_SCALE, Agent, scratch, wait_until  # noqa: E402
from harness.faults import FAULTS  # noqa: E402
from harness.target import PREPARED, Target  # noqa: E402

CLONE_NEWNS = 0x20000
TLS = shutil.which("openssl") is not None
WORKERS = min(4, os.cpu_count() + 1) if TIME_SCALE == 1 else 1
# They are about one postmaster and its descendants.
ENDS_WITH_POSTMASTER = ["disk-latency", "disk-latency-file", "disk-error", "clock-skew"]
# They find the instance by its name, whenever it is there, and hold nothing of it meanwhile.
FOLLOW_IT = ["proc-kill", "conn-reset"]
STANDS_STILL = ["proc-freeze", "proc-freeze-cgroup"]    # so does who would start the postmaster again
LONG_MS = round(300000 * TIME_SCALE)
LEASE_MS = 60000    # the longest that an agent gives
CASE_S = 180
ENDS_S = 20


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def children(pid):
    """Processes of that parent which are not just being reaped."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                words = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[1]) == pid and words[0] not in "ZX":
            found.append(int(path.split("/")[2]))
    return found


def mounts(target):
    """Lines of ours on its files, in any mount namespace."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/mountinfo"):
        try:
            with open(path) as f:
                found |= {line.strip() for line in f if " - tmpfs pgjolt" in line and
                          target.folder in line}
        except OSError:
            pass
    return found


def client_is_linked(target):
    """Their end of the veth goes with the namespace that has the other, which a descriptor may keep."""
    return subprocess.run(["ip", "-n", target.client_netns, "link", "show", "eth0"], check=False,
                          capture_output=True).returncode == 0


def held(agent, inode):
    """The agent's descriptors of a namespace."""
    found = []
    for path in glob.glob(f"/proc/{agent.pid}/fd/*"):
        try:
            if os.readlink(path).endswith(f":[{inode}]"):
                found.append(path)
        except OSError:
            pass
    return found


def has_loop(target):
    return subprocess.run(["losetup", "-j", os.path.join(target.folder, "data.img")], check=True,
                          capture_output=True, text=True).stdout


def unmount(target):
    """In this namespace, and then no other has it."""
    data = os.path.join(target.folder, "data")
    expect(wait_until(lambda: subprocess.run(["umount", data], check=False, stderr=subprocess.DEVNULL)
                      .returncode == 0, ENDS_S, 0.05), "the volume cannot be unmounted")
    if not PREPARED:
        expect(wait_until(lambda: not has_loop(target), ENDS_S, 0.05), "the volume is still mounted elsewhere")


def check_agent(agent, target):
    expect(wait_until(lambda: not children(agent.pid), ENDS_S), f"workers: {children(agent.pid)}")
    expect(not agent.entries(), f"journal: {agent.entries()}")
    expect(not mounts(target), f"mounts: {mounts(target)}")
    node = agent.node()
    expect(node["accepting"], f"node does not accept: {node['reason']}")


def ended(agent, experiment, reason):
    found = agent.wait_state(experiment, "clean", ENDS_S)
    expect(found["end_reason"] == reason, f"ended by {found['end_reason']}, not {reason}")


def deleted(agent, target, experiment, follows):
    inode = os.stat(f"/run/netns/{target.netns}").st_ino
    expect(client_is_linked(target), "there is no veth")
    expect(PREPARED or has_loop(target), "the volume is on no loop device")
    target.delete()
    try:
        if not follows:
            ended(agent, experiment, "target-gone")
        expect(wait_until(lambda: not target.pids(), ENDS_S), f"processes: {target.pids()}")
        expect(wait_until(target.remove_cgroup, ENDS_S), "the control group cannot be removed")
        expect(wait_until(lambda: not client_is_linked(target), ENDS_S, 0.05),
               "the network namespace is still there")
        expect(not held(agent, inode), "the agent has a descriptor of the network namespace")
        unmount(target)
        if follows:
            expect(agent.get(experiment)["state"] == "active", f"it does not go on: {agent.get(experiment)}")
            agent.revert(experiment)
        check_agent(agent, target)
    finally:
        agent.leave()       # whatever a failed case has left goes with it
        wait_until(lambda: not client_is_linked(target), ENDS_S, 0.05)
        if os.path.ismount(os.path.join(target.folder, "data")):
            unmount(target)
        target.again()


def restarted(agent, target, name, experiment, armed):
    before = target.postmaster()
    target.kill_postmaster()
    if armed or name in ENDS_WITH_POSTMASTER:
        ended(agent, experiment, "target-gone")
    else:
        if name not in STANDS_STILL:
            expect(wait_until(lambda: target.postmaster() not in (None, before), ENDS_S), "it was not started again")
        time.sleep(0.5)     # the agent has seen the other end by now, too
        expect(agent.get(experiment)["state"] == "active", f"it does not go on: {agent.get(experiment)}")
        agent.revert(experiment)
        ended(agent, experiment, "requested")
    check_agent(agent, target)
    expect(target.answer_ms(20000) is not None, "the instance does not answer")
    expect(not hook.left(target.netns, "eth0"), f"still there: {hook.left(target.netns, 'eth0')}")
    links = subprocess.run(["ip", "-n", target.netns, "-br", "link"], check=True, capture_output=True,
                           text=True).stdout
    expect("pjt-" not in links, f"interfaces: {links}")
    expect(not target.patched(), "vDSOs still patched")


def case(name, state, event, target, folder):
    row = FAULTS[name]
    with Agent(folder, *row.get("options", [])) as agent:
        experiment = agent.arm(row["fault"], target.name, **row["params"], lease_ms=LEASE_MS,
                               duration_ms=LONG_MS)
        if state == "active":
            agent.fire(experiment)
            # proc-kill has killed it.
            expect(wait_until(target.postmaster, 10), "there is no postmaster")
        if event == "deleted":
            deleted(agent, target, experiment, state == "active" and name in FOLLOW_IT)
        else:
            restarted(agent, target, name, experiment, state == "armed")


def leave_mounts():
    """For a mount namespace of our own: else the other processes' instances have copies of our volume."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def too_long(*_):
    raise AssertionError(f"it takes too long, as do its remains each {CASE_S} s")


def run_case(found, target, folder):
    start = time.monotonic()
    case(*found, target, folder)
    print(f"ok   {':'.join(found)}  {time.monotonic() - start:.1f} s", flush=True)


def run_cases(number, todo, failures):
    """Cases one after another on a target of our own, until the queue is empty (None). After one that failed
    comes another target: nothing is known of the old one."""
    leave_mounts()
    signal.signal(signal.SIGALRM, too_long)
    found, targets = todo.get(), 0
    while found is not None:
        try:
            signal.setitimer(signal.ITIMER_REAL, CASE_S * TIME_SCALE, CASE_S * TIME_SCALE)
            with scratch("ends") as folder, Target(folder, f"ends{number}x{targets}", disk=400, tls=TLS) as target:
                while found is not None:
                    signal.setitimer(signal.ITIMER_REAL, CASE_S * TIME_SCALE, CASE_S * TIME_SCALE)
                    run_case(found, target, folder)
                    found = todo.get()
        except Exception as e:      # pylint: disable=broad-except
            signal.setitimer(signal.ITIMER_REAL, 0)
            failures.put((*(found or ("the target's", "last", "end")), f"{type(e).__name__}: {e}"))
            found = found and todo.get()
        targets += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    failures.put(None)


def share(cases):
    """Runs them in several processes; the failures."""
    todo, done = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=run_cases, args=(i, todo, done)) for i in range(WORKERS)]
    for found in cases + [None] * WORKERS:
        todo.put(found)
    for w in workers:
        w.start()
    failures, running = [], len(workers)
    while running:
        try:
            failure = done.get(timeout=5)
        except queue.Empty:
            died = [w for w in workers if w.exitcode]
            failures += [("a process", "of this test", "", f"exited with {w.exitcode}") for w in died]
            workers = [w for w in workers if w not in died]
            running -= len(died)
            continue
        if failure:
            failures.append(failure)
        else:
            running -= 1
    for w in workers:
        w.join(60)
        if w.is_alive():
            w.kill()
    return failures


def main():
    if os.geteuid() != 0:
        print("needs root")
        return 77
    start = time.monotonic()
    names = [name for name, row in FAULTS.items() if (TLS or name != "tls-cert") and
             (row["fault"] not in hook.PARAMS or "options" in row or hook.kernel_has_tcx())]
    cases = [(name, state, event) for event in ("restart", "deleted") for state in ("active", "armed")
             for name in names]
    chosen = sys.argv[1:]
    cases = [c for c in cases if not chosen or c[0] in chosen or ":".join(c) in chosen]
    failures = share(cases)
    for *words, why in failures:
        print(f"FAIL {':'.join(words)}: {why}", flush=True)
    print(f"{len(cases)} cases, {len(failures)} failed, {time.monotonic() - start:.0f} s")
    return 1 if failures or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
