#!/usr/bin/python3
"""What may happen to an agent, its journal, its owner and its targets; each ends in clear words and a
clean node. Arguments choose tests by name."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import (Agent, AgentError, BINARY, process_state, scratch,  # noqa: E402
                           wait_until)
from harness.target import Target  # noqa: E402

# Shadow memory is not the agent's own.
with open(BINARY, "rb") as _binary:
    SANITIZED = b"__asan_init" in _binary.read()
CUT = {"peers": ["all"]}


def revert_all(agent, *options):
    done = subprocess.run([BINARY, "revert-all", "--journal", agent.journal, *options],
                          capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


def refused(code, function, *arguments, **named):
    """Runs it; the words of the refusal, which must have this code."""
    try:
        function(*arguments, **named)
    except AgentError as e:
        assert e.code == code, f"expected {code}: {e}"
        return str(e)
    raise AssertionError("was not refused")


def put_entry(agent, name, text):
    os.makedirs(agent.journal, 0o700, exist_ok=True)
    with open(os.path.join(agent.journal, name), "w") as f:
        f.write(text)


@contextlib.contextmanager
def read_only(path):
    """A file that cannot be written, not even by root."""
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def entry(**changes):
    return json.dumps({
        "experiment": "ex-1", "run": "run-1", "fault": "net-partition", "instance": "x/y",
        "pid": 7, "start_ticks": 1, "boot_id": boot_id(), "written_realtime_ns": 1, "undo": {},
        **changes})


def cut(agent, target, **named):
    """A partition in effect."""
    experiment = agent.arm("net-partition", target.name, **CUT, **named)
    agent.fire(experiment)
    assert target.answer_ms(200) is None, "the partition has no effect"
    return experiment


def ended(agent, experiment, reason, seconds=5):
    e = agent.wait_state(experiment, "clean", seconds)
    assert e["end_reason"] == reason, e
    assert not agent.entries(), agent.entries()
    return e


def test_second_agent_is_refused(folder, target):
    with Agent(folder) as first, scratch("second") as other:
        second = Agent(other, journal=first.journal)
        os.close(second.spawn())
        assert second.process.wait(10) == 3, second.tail()
        assert f"pid {first.pid}" in second.tail(), second.tail()
        second = Agent(other)
        second.socket = first.socket
        os.close(second.spawn())
        assert second.process.wait(10) == 3, second.tail()
        code, words = revert_all(first)
        assert code == 3 and f"pid {first.pid}" in words and "pgjolt stop --all" in words, words
        assert first.node()["accepting"]


def test_broken_journal_entries_stop_new_faults(folder, target):
    whole = entry()
    for text in ("", "\0\1garbage", whole[:len(whole) // 2], entry(fault="no-such-fault"),
                 entry(undo=[])):
        agent = Agent(folder)
        put_entry(agent, "ex-1.json", text)
        with agent:
            assert agent.entries() == ["ex-1.json.bad"], agent.entries()
            assert not agent.node()["accepting"]
            words = refused("EBUSY", agent.arm, "net-partition", target.name, **CUT)
            assert "ex-1.json.bad" in words and "--discard-bad" in words, words
            agent.stop()
        code, words = revert_all(agent)
        assert code == 5 and "--discard-bad" in words, words
        assert agent.entries() == ["ex-1.json.bad"]
        code, words = revert_all(agent, "--discard-bad")
        assert code == 0 and "1 broken" in words, words
        assert agent.entries() == []
        with agent:
            agent.revert(cut(agent, target))
            agent.stop()


def test_ids_that_served_outlive_the_agent(folder, target):
    def request(experiment, fault="net-partition"):
        return {"experiment": experiment, "run": "run-test", "fault": fault, "instance": target.name, "params": CUT,
                "duration_ms": 30000, "lease_ms": 30000}

    def send(*what):
        return agent.call("POST", "/v1/experiments", request(*what))

    agent = Agent(folder)
    with agent:
        assert send("ex-armed")["state"] == "armed"
        assert send("ex-ended")["state"] == "armed"
        agent.revert("ex-ended")
        refused("EINVAL", send, "ex-refused", "no-such-fault")
    with agent:
        for experiment in ("ex-armed", "ex-ended", "ex-refused"):
            words = refused("EEXIST", send, experiment)
            assert experiment in words, words
        agent.kill()
        with open(os.path.join(agent.journal, "ids"), "r+b") as f:
            whole = f.read()
            f.seek(0)
            f.write(b"\0garbage" + whole[len(whole) // 3:])
    with agent:
        assert "damaged" in agent.tail() and agent.node()["accepting"], agent.tail()
        refused("EEXIST", send, "ex-refused")
        assert send("ex-new")["state"] == "armed"
        agent.revert("ex-new")
        assert agent.stop() == 0


def test_entry_of_an_earlier_boot_is_dropped(folder, target):
    agent = Agent(folder)
    put_entry(agent, "ex-1.json", entry(boot_id="00000000-dead"))
    with agent:
        assert agent.entries() == [] and agent.node()["accepting"]
        assert "earlier boot" in agent.tail(), agent.tail()


def test_revert_all_undoes_a_dead_agents_fault(folder, target):
    with Agent(folder) as agent:
        experiment = agent.arm("proc-freeze", target.name, mechanism="cgroup")
        agent.fire(experiment)
        agent.kill()
        assert target.answer_ms(200) is None
        code, words = revert_all(agent)
        assert code == 0 and experiment in words, words
        assert target.answer_ms(5000) is not None
        assert agent.entries() == []


def test_what_cannot_be_undone_is_stuck(folder, target):
    """The file that thaws is read-only for a while."""
    freezer = os.path.join(target.cgroup, "cgroup.freeze")
    with Agent(folder) as agent:
        experiment = agent.arm("proc-freeze", target.name, mechanism="cgroup")
        agent.fire(experiment)
        with read_only(freezer):
            try:
                agent.revert(experiment)
            except AgentError as e:
                assert e.status >= 500, e
            e = agent.wait_state(experiment, "stuck")
            assert "cgroup.freeze" in e["error"] and not e["verified_clean"], e
            assert experiment in agent.node()["reason"]
            refused("EBUSY", agent.arm, "net-partition", target.name, **CUT)
            time.sleep(1)
            assert agent.tail().count("STUCK") == 1, agent.tail()
            assert agent.stop() == 5, agent.tail()
            assert agent.entries() == [f"{experiment}.json"]
            code, words = revert_all(agent)
            assert code == 5 and experiment in words and "cgroup.freeze" in words, words
            agent.start()
            assert agent.get(experiment)["state"] == "stuck"
            assert target.answer_ms(100) is None
        ended(agent, experiment, "replay", 10)
        assert agent.node()["accepting"]
        assert target.answer_ms(5000) is not None


def test_full_disk_under_the_journal(folder, target):
    disk = os.path.join(folder, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "pj-spine", disk], check=True)
    try:
        with Agent(folder, journal=os.path.join(disk, "journal")) as agent:
            filler = os.path.join(disk, "filler")
            with open(filler, "wb", buffering=0) as f:
                try:
                    while f.write(b"x" * 4096):
                        pass
                except OSError:
                    pass
            try:
                agent.arm("net-partition", target.name, **CUT)
                raise AssertionError("armed without a journal")
            except AgentError as e:
                assert "No space left" in str(e) and "nothing is in effect" in str(e), e
            assert target.answer_ms(5000) is not None
            assert agent.entries() == [] and agent.node()["accepting"]
            os.unlink(filler)
            agent.revert(cut(agent, target))
            assert agent.stop() == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_lease_ends_it(folder, target):
    with Agent(folder) as agent:
        experiment = cut(agent, target, lease_ms=800)
        for _ in range(4):
            time.sleep(0.3)
            agent.renew(experiment, 800)
        assert target.answer_ms(50) is None
        ended(agent, experiment, "lease")
        assert target.answer_ms(5000) is not None


def test_duration_ends_it(folder, target):
    with Agent(folder) as agent:
        e = ended(agent, cut(agent, target, duration_ms=600), "duration")
        lasted_ms = (e["reverted_ns"] - e["fired_ns"]) / 1e6
        assert 600 <= lasted_ms < 1600, lasted_ms
        assert e["hits"] > 0 and e["verified_clean"], e
        assert target.answer_ms(5000) is not None


def test_sigterm_reverts_all(folder, target):
    with Agent(folder) as agent:
        cut(agent, target)
        agent.fire(agent.arm("proc-freeze", target.name, mechanism="cgroup"))
        assert len(agent.entries()) == 2
        assert agent.stop() == 0, agent.tail()
        assert agent.entries() == []
        assert target.answer_ms(5000) is not None
        assert not os.path.exists(agent.socket)


def test_owner_ends(folder, target):
    with subprocess.Popen(["sleep", "60"]) as owner:
        agent = Agent(folder, "--owner-pid", str(owner.pid))
        try:
            agent.start()
            cut(agent, target)
            owner.kill()
            owner.wait()
            assert agent.process.wait(10) == 0, agent.tail()
            assert agent.entries() == [] and target.answer_ms(5000) is not None
        finally:
            agent.kill()
            owner.kill()


def test_owner_that_is_gone_already(folder, target):
    with subprocess.Popen(["true"]) as owner:
        owner.wait()
        agent = Agent(folder, "--owner-pid", str(owner.pid))
        os.close(agent.spawn())
        assert agent.process.wait(10) == 1, agent.tail()
        assert "owner" in agent.tail(), agent.tail()


def test_postmaster_ends_while_armed(folder, target):
    with Agent(folder) as agent:
        experiment = agent.arm("net-partition", target.name, **CUT)
        target.kill_postmaster()
        ended(agent, experiment, "target-gone")
        words = refused("ESTALE", agent.fire, experiment)
        assert "target-gone" in words, words
        assert target.answer_ms(30000) is not None


def test_postmaster_restarts_while_active(folder, target):
    """The network namespace lives on, and so does the cut; another process is not hit by mistake."""
    with Agent(folder) as agent:
        experiment = cut(agent, target)
        before = target.postmaster()
        target.kill_postmaster()
        assert wait_until(lambda: target.postmaster() not in (None, before), 30)
        assert agent.get(experiment)["state"] == "active"
        assert target.answer_ms(300) is None
        _, events = agent.request("GET", "/v1/events")
        assert f"postmaster {before}" in events, events
        agent.revert(experiment)
        assert target.answer_ms(30000) is not None


def test_target_vanishes_while_active(folder, target):
    """As a pod that is deleted: processes, cgroup and interfaces go, then come anew."""
    with Agent(folder) as agent:
        running = [cut(agent, target)]
        for fault, params in (("proc-freeze", {}), ("net-shape", {"delay": "5ms", **CUT})):
            running.append(agent.arm(fault, target.name, **params))
            agent.fire(running[-1])
        target.end()
        subprocess.run(["ip", "-n", target.client_netns, "link", "delete", "eth0"], check=True)
        time.sleep(1)
        for experiment in running:
            if agent.get(experiment)["state"] == "active":
                agent.revert(experiment)
            assert agent.get(experiment)["state"] == "clean", agent.get(experiment)
        assert agent.entries() == [] and agent.node()["accepting"]
        target.link()
        target.start()
        agent.revert(cut(agent, target))
        assert target.answer_ms(5000) is not None


def test_overlapping_faults_end_each_alone(folder, target):
    with Agent(folder) as agent:
        first = cut(agent, target)
        second = cut(agent, target)
        frozen = agent.arm("proc-freeze", target.name)
        agent.fire(frozen)
        agent.revert(first)
        assert target.answer_ms(200) is None
        agent.revert(frozen)
        assert target.answer_ms(200) is None
        agent.revert(second)
        assert target.answer_ms(5000) is not None
        assert agent.entries() == []


def test_refuses_what_it_must(folder, target):
    with Agent(folder, "--max-duration", "10s", "--max-concurrent", "1", "--allow-fault",
               "net-partition", "--allow-target", f"{target.cluster}/*") as agent:
        def arm(fault="net-partition", instance=target.name, **named):
            return agent.arm(fault, instance, **{"duration_ms": 5000, **CUT, **named})
        assert "10s" in refused("EPERM", arm, duration_ms=11000)
        assert "allow" in refused("EPERM", agent.arm, "proc-kill", target.name, duration_ms=5000)
        assert "no-such/pg" in refused("ENOENT", arm, instance="no-such/pg")
        assert "peers" in refused("EINVAL", arm, peers=["10.0.0.300"])
        assert "percent" in refused("EINVAL", arm, percent="101%")
        arm()
        assert "limit" in refused("EBUSY", arm)


def test_idle_agent_sleeps(folder, target):
    """No timer, no wakeup once the last client's connection is over; little memory."""
    with Agent(folder) as agent:
        agent.revert(cut(agent, target))

        def status(field):
            with open(f"/proc/{agent.pid}/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))

        def sleeps():
            before = status("voluntary_ctxt_switches")
            time.sleep(3)
            return status("voluntary_ctxt_switches") == before
        assert wait_until(sleeps, 20), "it never sleeps for 3 s"
        assert status("VmRSS") < 10 * 1024 or SANITIZED, status("VmRSS")
        assert status("Threads") == 1
        assert process_state(agent.pid) == "S"


def run_test(name, test, target):
    with scratch("agent") as folder:
        try:
            test(folder, target)
            print(f"ok   {name}", flush=True)
            return True
        except Exception as e:      # pylint: disable=broad-except
            print(f"FAIL {name}: {type(e).__name__}: {e}", flush=True)
            try:
                with open(os.path.join(folder, "agent.log"), errors="replace") as f:
                    print(f.read()[-3000:])
            except OSError:
                pass
            return False


def main():
    if os.geteuid() != 0:
        print("needs root")
        return 77
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    tests = {name[5:]: test for name, test in globals().items() if name.startswith("test_")}
    failed = 0
    with scratch("target") as folder, Target(folder, "agent") as target:
        for name, test in tests.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                failed += not run_test(name, test, target)
                target.thaw()
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
