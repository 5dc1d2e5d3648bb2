"""cpu-throttle: a busy process of the instance and one beside it, by their own processor time."""
# labels: alone
import os
import subprocess
import sys
import time

from disk_world import cpu_seconds, main, read, wait_until, write

BUSY = [sys.executable, "-c", "while True: pass"]
QUOTA = 0.1


def share(pid, seconds=2.0):
    """Of one processor."""
    start, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - start)


def share_of_the_free(pid):
    """Once it is clearly more than the quota: other programs may have the processors for a while."""
    return wait_until(lambda: (s := share(pid)) > 2 * QUOTA and s, 20)


def limit(world):
    """All that the group says about its limit, of either version."""
    group = world.target.group("cpu")
    names = ["cpu.max"] if os.path.exists(f"{group}/cpu.max") else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    return {name: read(group, name) for name in names}


class Busy:
    def __init__(self, world):
        self.process = world.in_group(BUSY)

    def __enter__(self):
        return self.process.pid

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_only_the_instance_is_held_back(world):
    before = limit(world)
    with Busy(world) as pid:
        experiment = world.agent.arm("cpu-throttle", world.target.name, quota=f"{QUOTA:.0%}")
        assert limit(world) == before, "armed: nothing is set"
        free = share_of_the_free(pid)
        world.agent.fire(experiment)
        throttled = share(pid)
        outside = subprocess.Popen(BUSY)
        try:
            beside = share_of_the_free(outside.pid)
        finally:
            outside.kill()
            outside.wait()
        info = world.agent.get(experiment)
        assert info["lifetime"] == "journaled" and info["hits"] >= 10, info
        world.end(experiment)
        assert limit(world) == before, (before, limit(world))
        after = share_of_the_free(pid)
    print(f"  {free:.0%} free, {throttled:.1%} throttled, {beside:.0%} beside it, {after:.0%} after; "
          f"{info['evidence']['throttled_periods']} of {info['evidence']['periods']} periods")
    assert throttled < 1.5 * QUOTA, "not held back"
    assert free and after and beside, "held back without the fault"
    assert info["evidence"]["throttled_ms"] > 500, info


def test_an_earlier_limit_comes_back(world):
    group = world.target.group("cpu")
    name, value, none = ("cpu.max", "150000 50000", "max 100000") \
        if os.path.exists(f"{group}/cpu.max") else ("cpu.cfs_quota_us", "80000", "-1")
    write(value, group, name)
    try:
        before = limit(world)
        experiment = world.inject("cpu-throttle", quota="30%")
        assert limit(world) != before
        world.end(experiment)
        assert limit(world) == before
        strict = "1200 50000" if name == "cpu.max" else "2000"
        write(strict, group, name)
        world.refused(400, ["stricter"], "cpu-throttle", quota="30%")
    finally:
        write(none, group, name)


def test_more_than_one_processor(world):
    """Half a processor less than the node has: what busy programs get together stays below it."""
    processors, before = os.cpu_count(), limit(world)
    percent = processors * 100 - 50
    world.refused(400, ["would limit nothing", f"{processors} processor", f"less than {processors * 100}%"],
                  "cpu-throttle", quota=f"{processors * 100}%")
    world.refused(400, ["above 10000%"], "cpu-throttle", quota="10001%")
    experiment = world.inject("cpu-throttle", quota=f"{percent}%")
    during = limit(world)
    quota, period = during["cpu.max"].split() if "cpu.max" in during else \
        (during["cpu.cfs_quota_us"], during["cpu.cfs_period_us"])
    assert int(quota) * 100 == int(period) * percent, during
    busy = [Busy(world) for _ in range(processors * 2)]
    try:
        pids = [b.process.pid for b in busy]
        start, used = time.monotonic(), sum(map(cpu_seconds, pids))
        time.sleep(2)
        got = (sum(map(cpu_seconds, pids)) - used) / (time.monotonic() - start)
    finally:
        for b in busy:
            b.__exit__()
    print(f"  {len(pids)} busy programs at {percent}%: {got:.2f} of {processors} processors")
    assert got < percent / 100 + 0.2, got
    info = world.end(experiment)
    assert info["evidence"]["quota_us"] == int(quota) and limit(world) == before, info


def test_one_at_a_time(world):
    before = limit(world)
    first = world.inject("cpu-throttle", quota="50%")
    try:
        world.agent.arm("cpu-throttle", world.target.name, quota="10%")
    except Exception as e:  # pylint: disable=broad-except
        assert "409" in str(e) and "another fault" in str(e), e
    else:
        raise AssertionError("a second one was let in")
    world.end(first)
    assert limit(world) == before
    world.end(world.inject("cpu-throttle", quota="10%"))


def test_somebody_changed_it_meanwhile(world):
    group = world.target.group("cpu")
    name, value, none = ("cpu.max", "70000 100000", "max 100000") \
        if os.path.exists(f"{group}/cpu.max") else ("cpu.cfs_quota_us", "70000", "-1")
    experiment = world.agent.arm("cpu-throttle", world.target.name, quota="10%")
    write(value, group, name)
    try:
        try:
            world.agent.fire(experiment)
        except Exception as e:  # pylint: disable=broad-except
            assert "changed since" in str(e), e
        else:
            raise AssertionError("fired all the same")
    finally:
        write(none, group, name)
    world.agent.wait_state(experiment, "clean")


def test_agent_killed(world):
    before = limit(world)
    world.inject("cpu-throttle", quota="20%")
    during = limit(world)
    world.agent.kill()
    assert limit(world) == during != before, "journaled: it stays"
    world.agent.start()
    assert limit(world) == before and world.agent.entries() == []


def test_the_instance_is_deleted(world):
    experiment = world.inject("cpu-throttle", quota="20%")
    world.target.end()
    info = world.agent.wait_state(experiment, "clean", 10)
    assert info["end_reason"] == "target-gone", info
    world.target.start()


def test_deleted_and_made_anew_while_the_agent_is_dead(world):
    world.inject("cpu-throttle", quota="20%")
    world.agent.kill()
    world.target.end()
    world.target.start()
    group = world.target.group("cpu")
    name, value, none = ("cpu.max", "70000 100000", "max 100000") \
        if os.path.exists(f"{group}/cpu.max") else ("cpu.cfs_quota_us", "70000", "-1")
    write(value, group, name)
    world.agent.start()
    assert read(group, name) == value, "the limit of another group was touched"
    assert world.agent.entries() == []
    write(none, group, name)


def test_a_stranger_in_the_group(world):
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        write(str(stranger.pid), world.target.group("cpu"), "cgroup.procs")
        world.refused(403, ["sleep", "not the instance's own"], "cpu-throttle")
    finally:
        stranger.kill()
        stranger.wait()


if __name__ == "__main__":
    sys.exit(main("cputh", [value for name, value in sorted(globals().items())
                            if name.startswith("test_")]))
