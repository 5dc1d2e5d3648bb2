#!/usr/bin/python3
"""Kills the agent at every point of every fault and looks, from outside, at what is left.

For each case: an agent that stops itself at the point, driven there over its socket; SIGKILL; what
was held must be gone within 100 ms; a new agent must find, revert and forget what was journaled
within 2 s. With "replay-" before the point, the agent that is killed there is a second one, which
was undoing what a first one had left. At the end each target's data are checked. A new fault is one more row
of harness/faults.py. Arguments choose cases:
FAULT[:POINT]... Several processes share the cases, each with a target of its own, since a case mostly
waits; what was only late there is tried again when all else is done.
"""
import multiprocessing
import os
import queue
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import hook  # noqa: E402
from harness.agent import BINARY, TIME_SCALE, Agent, scratch, wait_until  # noqa: E402
from harness.faults import FAULTS  # noqa: E402
from harness.target import Target  # noqa: E402

BEFORE = ["new", "arming", "armed-unjournaled", "armed", "firing"]
IN_EFFECT = ["fired", "active", "reverting"]
AFTER = ["released", "reverted", "verifying", "verified", "clean"]
REPLAY = ["replay-reverting", "replay-reverted", "replay-verified", "replay-clean"]
JOURNALED = {"armed", "firing", *IN_EFFECT, "released", "reverted", "verifying", "verified"}
HELD_MS = 100 * TIME_SCALE
SKEWED_S = 1800
JOURNALED_S = 2
TLS = shutil.which("openssl") is not None     # without it there is no certificate to make wrong
TRIES = 3   # a case that was only late, on a busy machine, is tried again; a leak is late each time
WORKERS = 3 if TIME_SCALE == 1 else 1
# Where the journal is on disk and the fault is not yet in effect, of all drivers.
JUST_BEFORE = ["before-fire", "stopping", "resetting", "stopped", "patched", "writing", "before-place",
               "qdisc-made", "filter-added", "placed"]


class Late(Exception):
    """The right thing, but not in its time."""


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def ask(row, target):
    """How this fault's effect is seen: a call with a limit in ms, None when it took longer."""
    return getattr(target, row.get("ask", "answer_ms"))


def in_effect(row, point):
    if row["leaves"] in ("dead", "reset"):
        return False
    held_on = ["released"] if row["leaves"] in ("frozen", "skewed") else []
    return point in IN_EFFECT + row["during"] + held_on


def has_effect(row, target):
    if row["leaves"] == "skewed":
        return abs(target.clock_off()) > SKEWED_S
    return ask(row, target)(250) is None


def drive(agent, row, target):
    """All the way through; somewhere on it the agent stops."""
    try:
        experiment = agent.arm(row["fault"], target.name, **row["params"])
        agent.fire(experiment)
        agent.revert(experiment)
    except Exception:   # pylint: disable=broad-except
        pass            # the agent was killed under the request


def has_entry(row, point):
    """Is the experiment in the journal when the agent stops there for the first time?"""
    own = [*row["before"], *row["during"], *row["after"]]
    if point in own:
        return point in row["during"] + row["after"] or point in JUST_BEFORE
    if row["fault"] == "proc-kill" and point in ("arming", "armed"):
        return False    # the driver has points of these names, inside its arm()
    return point in JOURNALED


def replay_case(row, point, target, folder):
    """The first agent dies with the fault active, the second in the middle of undoing it."""
    agent = Agent(folder, *row.get("options", []))
    agent.start()
    try:
        agent.fire(agent.arm(row["fault"], target.name, **row["params"]))
    finally:
        agent.kill()
    os.close(agent.spawn("--halt-at", f"{row['fault']}:{point}"))
    try:
        expect(agent.wait_halted(), f"the agent never came to this point: {agent.tail()}")
        expect(bool(agent.entries()) == (point != "clean"), f"journal: {agent.entries()}")
    finally:
        agent.kill()
    check_filters(row, f"replay-{point}", target)
    if row["leaves"] == "frozen" and point == "reverting":
        expect(row["seen"](target) if "seen" in row else target.answer_ms(100) is None,
               "thawed before it was reverted")
    after_restart(agent, target)
    expect("seen" not in row or not row["seen"](target), "in effect after the restart")


def case(row, point, target, folder):
    agent = Agent(folder, *row.get("options", []))
    pid_before = target.postmaster()
    session = target.connect()
    agent.start("--halt-at", f"{row['fault']}:{point}")
    driver = threading.Thread(target=drive, args=(agent, row, target))
    try:
        driver.start()
        expect(agent.wait_halted(), f"the agent never came to this point: {agent.tail()}")
        expect(bool(agent.entries()) == has_entry(row, point), f"journal: {agent.entries()}")
        if "seen" in row:
            now = in_effect(row, point)
            expect(wait_until(lambda: row["seen"](target) == now, 5 if now else 0),
                   "not in effect where it should be" if now else "in effect where it should not be")
        elif in_effect(row, point):
            expect(has_effect(row, target), "not in effect where it should be")
        elif row["leaves"] != "dead" and point not in row.get("waits", []):
            expect(ask(row, target)(5000) is not None, "in effect where it should not be")
            expect(row["leaves"] != "skewed" or not has_effect(row, target), "skewed too early or late")
        check_filters(row, point, target)
    finally:
        agent.kill()
    held = None
    if row["leaves"] == "dead":
        check_killed(point, target, pid_before)
    elif row["leaves"] == "reset":
        hit = point not in BEFORE + row["before"]
        expect(target.is_reset(session) == hit, "reset" if not hit else "not reset")
    elif row["leaves"] == "nothing" and "seen" in row:
        start = time.monotonic()
        expect(wait_until(lambda: not row["seen"](target), 5, 0.001), "it outlives the agent")
        held = (time.monotonic() - start) * 1000
    elif row["leaves"] in ("nothing", "skewed"):
        held = ask(row, target)(5000)
        expect(held is not None, "the instance does not answer after the agent's death")
    driver.join(20)
    session.close()
    after_restart(agent, target)
    expect("seen" not in row or not row["seen"](target), "in effect after the restart")
    if held is not None and held > HELD_MS:
        raise Late(f"{held:.0f} ms until the instance answered")
    return held


def check_filters(row, point, target):
    found = [line for line in hook.left(target.netns, "eth0") if "pgjolt" in line]
    expect(bool(found) == (point in row.get("filters", [])), f"filters: {found}")


def check_killed(point, target, pid_before):
    hit = point not in BEFORE
    expect(target.answer_ms(30000) is not None, "PostgreSQL was not started again")
    pid = wait_until(target.postmaster, 5)
    expect((pid != pid_before) == hit, f"postmaster {pid_before} -> {pid} at {point}")


def after_restart(agent, target):
    start = time.monotonic()
    agent.start()
    try:
        expect(wait_until(lambda: not agent.entries(), JOURNALED_S),
               f"journal: {agent.entries()}: {agent.tail()}")
        expect(target.answer_ms(10000) is not None, "the instance does not answer")
        expect(abs(target.clock_off()) < SKEWED_S, "the clock is still wrong")
        # A process that was just born may be seen before its vDSO is mapped.
        expect(wait_until(lambda: not target.patched(), JOURNALED_S), "vDSOs still patched")
        expect(not hook.left(target.netns, "eth0"), f"still there: {hook.left(target.netns, 'eth0')}")
        took = time.monotonic() - start
        node = agent.node()
        expect(node["accepting"], f"node does not accept: {node['reason']}")
        expect(all(e["state"] == "clean" for e in agent.experiments()),
               f"experiments: {agent.experiments()}")
        code = agent.stop()
        expect(code == 0, f"the agent left with {code}: {agent.tail()}")
    finally:
        agent.kill()
    if took > JOURNALED_S * TIME_SCALE:
        raise Late(f"{took:.1f} s until a new agent had all clean")


def points(row):
    replay = REPLAY if row["leaves"] != "dead" else []
    if "only" in row:
        return row["only"]
    if row["fault"] in hook.PARAMS and not hook.kernel_has_tcx():
        return []   # as its row of clsact
    return [*BEFORE, *row["before"], *IN_EFFECT, *row["during"], *AFTER, *row["after"], *replay]


def run_case(name, point, target, folder):
    """None, or the failure: (is it only late?, its words)."""
    try:
        if point.startswith("replay-"):
            held = replay_case(FAULTS[name], point[7:], target, folder)
        else:
            held = case(FAULTS[name], point, target, folder)
    except Late as e:
        return True, str(e)
    except Exception as e:      # pylint: disable=broad-except
        subprocess.run([BINARY, "revert-all", "--journal", os.path.join(folder, "journal")], check=False,
                       stdout=subprocess.DEVNULL, timeout=60)
        shutil.rmtree(os.path.join(folder, "journal"), ignore_errors=True)  # the next case's own
        target.thaw()
        return False, f"{type(e).__name__}: {e}"
    print(f"ok   {name}:{point}" + (f"  {held:.0f} ms" if held is not None else ""), flush=True)
    return None


def run_cases(cases, failures):
    """Cases one after another on a target of our own, until the queue is empty (None)."""
    with scratch("matrix") as folder, Target(folder, "matrix", disk=400, tls=TLS) as target:
        while (found := cases.get()) is not None:
            failure = run_case(*found, target, folder)
            if failure:
                failures.put((*found, *failure))
        try:
            target.check_whole()
        except Exception as e:  # pylint: disable=broad-except
            failures.put(("the data", "after all cases", False, f"{type(e).__name__}: {e}"))
    failures.put(None)


def share(cases):
    """Runs them in several processes; the failures, as (fault, point, is it only late?, words)."""
    todo, done = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=run_cases, args=(todo, done)) for _ in range(WORKERS)]
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
            if died:
                failures.append(("a process", "of this test", False, f"exited with {died[0].exitcode}"))
                break
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


def retry(late):
    """Once more, with the machine to themselves: those that stay late."""
    failures = []
    with scratch("matrix") as folder, Target(folder, "matrix", disk=400, tls=TLS) as target:
        for name, point, _, why in late:
            failure = (True, why)
            for attempt in range(1, TRIES):
                if not failure or not failure[0]:
                    break
                print(f"late {name}:{point}: {failure[1]} (try {attempt} of {TRIES})", flush=True)
                failure = run_case(name, point, target, folder)
            if failure:
                failures.append((name, point, *failure))
    return failures


def main():
    if os.geteuid() != 0:
        print("needs root")
        return 77
    chosen = sys.argv[1:]
    start = time.monotonic()
    if not TLS:
        print(f"there is no openssl here: {len(points(FAULTS.pop('tls-cert')))} cases of tls-cert are left out")
    cases = [(name, point) for name, row in FAULTS.items() for point in points(row)
             if not chosen or name in chosen or f"{name}:{point}" in chosen]
    failures = share(cases)
    late = [f for f in failures if f[2]]
    failures = [f for f in failures if not f[2]] + (retry(late) if late else [])
    for name, point, _, why in failures:
        print(f"FAIL {name}:{point}: {why}", flush=True)
    print(f"{len(cases)} cases, {len(failures)} failed, {time.monotonic() - start:.0f} s")
    return 1 if failures or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
