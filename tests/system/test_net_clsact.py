"""Network faults where there is no tcx: filters of a clsact qdisc, among those of others. What is not
about others is in test_net_partition.py, test_net_shape.py and test_dns.py, which run so with
PGJOLT_WITHOUT_TCX in the environment."""
import json
import os
import subprocess
import sys

os.environ["PGJOLT_WITHOUT_TCX"] = "1"
import test_net_partition as base  # noqa: E402
from harness import hook  # noqa: E402
from test_net_partition import Echo, Fault  # noqa: E402

OURS = ["ingress", "egress"]


def tc(world, *words):
    done = subprocess.run(["tc", "-n", world.instance, *words], capture_output=True, text=True, timeout=10,
                          check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def filters(world, where, interface="eth0"):
    """[(priority, first words)] in the order in which they are asked."""
    found = []
    for line in tc(world, "filter", "show", "dev", interface, where).splitlines():
        words = line.split()
        if "handle" in words or "fh" in words:
            found.append((int(words[words.index("pref") + 1]), line))
    return found


def has_qdisc(world, interface="eth0"):
    return "clsact" in tc(world, "qdisc", "show", "dev", interface)


def left(world):
    return hook.left(world.instance, "eth0") + hook.left(world.instance, "eth1")


def add_foreign(world, where, priority):
    """A filter of somebody else's: a program that returns 0, which matches nothing."""
    tc(world, "filter", "add", "dev", "eth0", where, "pref", str(priority), "protocol", "all", "bpf",
       "bytecode", "1,6 0 0 0,")


def foreign(world):
    return [f for where in OURS for f in filters(world, where) if "pgjolt" not in f[1]]


def end(fault):
    for step in ("release", "revert", "verify"):
        fault.do(step)


def test_a_qdisc_of_ours_goes_with_the_last_fault(world):
    for first_ends_first in (True, False):
        with Fault(world, peers=["all"]) as one:
            with Fault(world, "net-shape", delay="1ms") as two, Fault(world, "dns", mode="timeout") as three:
                order = [one, two, three]
                assert has_qdisc(world)
                for fault in order if first_ends_first else reversed(order):
                    assert has_qdisc(world)
                    end(fault)
        assert not left(world), left(world)


def test_a_qdisc_of_others_stays(world):
    tc(world, "qdisc", "add", "dev", "eth0", "clsact")
    try:
        with Fault(world, peers=["all"]) as fault:
            fault.do("fire 20000")
            echo = Echo(world)
            assert not echo.out() and not echo.back()
            echo.close()
            assert [f["our_qdisc"] for f in fault.record["clsact"]["filters"]] == [False] * 2 + [True] * 2
            end(fault)
        assert has_qdisc(world) and not filters(world, "ingress") and not filters(world, "egress")
        assert not has_qdisc(world, "eth1")
    finally:
        tc(world, "qdisc", "del", "dev", "eth0", "clsact")


def test_filters_of_others_stay_and_run(world):
    """Before ours, between and behind them, on a qdisc that is ours as well: who comes later keeps it."""
    with Fault(world, peers=[base.PEER_B]) as other, Fault(world, peers=["all"]) as fault:
        after_ours = max(p for p, _ in filters(world, "ingress")) + 1
        for where in OURS:
            for priority in (1, after_ours, 50000):
                add_foreign(world, where, priority)
        before = foreign(world)
        assert len(before) == 6, before
        end(other)
        with Fault(world, "net-shape", delay="1ms", peers=[base.PEER_B]):
            assert after_ours + 1 in [p for p, line in filters(world, "egress") if "pgjolt" in line]
        fault.do("fire 20000")
        echo = Echo(world)
        assert not echo.out() and not echo.back()
        end(fault)
        assert echo.out() and echo.back()
        echo.close()
    try:
        assert foreign(world) == before
        assert has_qdisc(world), "it has filters of others"
        assert not has_qdisc(world, "eth1")
    finally:
        tc(world, "qdisc", "del", "dev", "eth0", "clsact")


def test_faults_run_in_the_order_of_arming(world):
    with Fault(world, peers=["all"]), Fault(world, "net-shape", delay="1ms"), \
            Fault(world, peers=[base.PEER]):
        for where in OURS:
            found = filters(world, where)
            assert len(found) == 3 and found == sorted(found), found
    assert not left(world), left(world)


def test_what_a_killed_agent_leaves_passes_everything(world):
    echo, second = Echo(world), Echo(world, base.US_B, base.PEER_B)
    tc(world, "qdisc", "add", "dev", "eth1", "clsact")
    for name, params in (("net-partition", {"peers": ["all"]}), ("net-shape", {"delay": "5s"})):
        with Fault(world, name, **params) as fault:
            fault.do("fire 60000")
            assert not echo.out() and not second.back()
            fault.process.kill()
            took = base.wait_for(lambda: all(e.out(0.01) and e.back(0.01) for e in (echo, second)))
            print(f"  {name}: killed, normal after {took * 1000:.1f} ms")
            assert took < 0.2, took
            assert len(left(world)) == 2 + 2 + 2, left(world)
            # A filter in the place of ours, as the kernel would tell it apart.
            record = json.loads(json.dumps(fault.record))
            record["clsact"]["filters"][0]["program"] += 1
            hook.undo(name, record)
            assert len(filters(world, "ingress")) == 1, "another program's filter was removed"
            hook.undo(name, fault.record)
            hook.undo(name, fault.record)
        assert has_qdisc(world, "eth1") and not filters(world, "ingress", "eth1")
        assert not has_qdisc(world, "eth0"), left(world)
    tc(world, "qdisc", "del", "dev", "eth1", "clsact")
    for e in (echo, second):
        e.close()


def test_found_without_a_process_in_the_namespace(world):
    """Only its mount is left, as of a pod whose containers have ended."""
    name = base.PREFIX + "d"
    base.run("ip", "netns", "add", name)
    try:
        base.run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        keeper = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
        host = os.stat("/proc/self/ns/net").st_ino
        base.wait_for(lambda: os.stat(f"/proc/{keeper.pid}/ns/net").st_ino != host)
        fault = Fault(world, pid=keeper.pid, peers=["all"])
        record = fault.do("arm")["record"]
        keeper.kill()
        keeper.wait()
        fault.__exit__()
        assert len(hook.left(name, "eth0")) == 3, hook.left(name, "eth0")
        hook.undo("net-partition", record)
        assert not hook.left(name, "eth0") + hook.left(name, "eth1")
    finally:
        base.run("ip", "netns", "del", name)
    hook.undo("net-partition", record)      # it is gone: nothing to do


def test_an_ingress_qdisc_is_refused(world):
    tc(world, "qdisc", "add", "dev", "eth0", "ingress")
    try:
        fault = Fault(world, peers=["all"])
        answer = fault.say("arm")
        assert not answer["ok"] and answer["error"].startswith("eth0: "), answer
        for words in ('qdisc "ingress"', '"tc qdisc del dev eth0 ingress"', "use clsact"):
            assert words in answer["error"], (words, answer)
        fault.__exit__()
        assert not hook.left(world.instance, "eth1")
    finally:
        tc(world, "qdisc", "del", "dev", "eth0", "ingress")


def test_what_the_refusal_says_to_do_helps(world):
    tc(world, "qdisc", "add", "dev", "eth0", "ingress")
    fault = Fault(world, peers=["all"])
    error = fault.say("arm")["error"]
    fault.__exit__()
    tc(world, *error.split('"')[3].split()[1:])
    with Fault(world, peers=["all"]):
        assert has_qdisc(world)
    assert not left(world), left(world)


def test_probe_names_it(world):
    for name, params in hook.PARAMS.items():
        fault = Fault(world, name, **params)
        answer = fault.do("probe")
        assert answer["mechanism"].startswith("clsact") and "journaled" in answer["reason"], answer
        fault.__exit__()


# What others test with tcx, the briefest of it.
test_fires_and_heals = base.test_fires_and_heals
test_composes_with_a_delay = base.test_composes_with_a_delay
test_killed_it_heals = base.test_killed_it_heals


if __name__ == "__main__":
    sys.exit(base.main(globals()))
