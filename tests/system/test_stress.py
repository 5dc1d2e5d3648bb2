"""cpu-, mem- and disk-stress: what /proc, the groups' own accounts and the disk's statistics say."""
# labels: alone
import os
import subprocess
import sys
import time

from disk_world import Target, WithoutIo, cpu_seconds, main, process_state, read, scratch, wait_until, write

MIB = 1 << 20


def gone_soon(pids, world):
    start = time.monotonic()
    assert wait_until(lambda: all(process_state(p) in ("Z", "X", None) for p in pids), 5, 0.001)
    took = time.monotonic() - start
    assert not [p for p in world.target.pids() if p in pids]
    return took * 1000


def rss(pid):
    return int(read(f"/proc/{pid}/statm").split()[1]) * 4096


def memory_used(target):
    """Of the group, without what can be dropped at once."""
    words = dict(line.split()[:2] for line in read(target.group("memory"), "memory.stat").splitlines())
    if "total_rss" in words:
        return int(words["total_rss"]) + int(words["total_shmem"])
    return int(words["anon"]) + int(words["shmem"])


class Limit:
    """A memory limit of the group while inside."""

    def __init__(self, world, mib):
        self.group, self.mib = world.target.group("memory"), mib
        self.v2 = os.path.exists(f"{self.group}/memory.max")
        self.name = "memory.max" if self.v2 else "memory.limit_in_bytes"

    def __enter__(self):
        write(str(self.mib * MIB), self.group, self.name)
        return self

    def __exit__(self, *_):
        write("max" if self.v2 else "-1", self.group, self.name)

    def kills(self):
        text = read(self.group, "memory.events" if self.v2 else "memory.oom_control")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


def expect_workers(world, n, descriptors=0):
    """So many, all in the instance's groups. Their pids."""
    pids = world.workers()
    everywhere = world.of_agent(int(name) for name in os.listdir("/proc") if name.isdigit())
    assert len(pids) == n and set(everywhere) == set(pids), (pids, everywhere)
    for pid in pids:
        assert read(f"/proc/{pid}/comm") == "pgjolt-stress"
        assert len(os.listdir(f"/proc/{pid}/fd")) == descriptors, "descriptors of the agent"
        status = read(f"/proc/{pid}/status")
        assert "SigBlk:\t0000000000000000" in status and "SigIgn:\t0000000000000000" in status, status
        for group in world.target.groups():
            controller = os.path.basename(os.path.dirname(group))
            if controller not in ("freezer", "devices", "systemd"):
                assert str(pid) in read(group, "cgroup.procs").split(), group
    return pids


def test_cpu_workers_are_the_groups(world):
    experiment = world.agent.arm("cpu-stress", world.target.name, workers=3, load="30%")
    pids = expect_workers(world, 3)
    idle = sum(map(cpu_seconds, pids))
    time.sleep(0.5)
    assert sum(map(cpu_seconds, pids)) == idle, "armed: they do nothing"
    world.agent.fire(experiment)
    start = time.monotonic()

    def used():
        return sum(map(cpu_seconds, pids)) - idle
    # How soon is up to who else wants the processors; that it is not more than asked, to the workers.
    assert wait_until(lambda: used() > 1.5, 30, 0.1), used()
    share = used() / (time.monotonic() - start)
    info = world.agent.get(experiment)
    print(f"  3 workers at 30 %: {share:.2f} processors, the agent says {info['evidence']['processors']:.2f}")
    assert share < 1.2, share
    assert abs(info["evidence"]["processors"] - share) < 0.2, info
    assert info["lifetime"] == "held" and info["evidence"]["running"] == 3, info
    assert world.target.answer_ms(10000) is not None
    world.end(experiment)
    gone_soon(pids, world)


def test_memory_and_disk_workers_are_the_groups_alone(world):
    """Beside another instance, in a group and on a disk of its own: nothing of it is there."""
    with scratch("stress2") as folder, Target(folder, "stress2", disk=200) as other:
        beside = type(world)(folder, other)
        assert beside.psql("checkpoint")[0] == 0
        others, used, stat, free = {other.postmaster()}, memory_used(beside.target), beside.disk_stat(), beside.free()
        for fault, workers, params in (("mem-stress", 1, {"bytes": "64MiB"}),
                                       ("disk-stress", 2, {"size": "32MiB", "rate": "16MiB"})):
            experiment = world.agent.arm(fault, world.target.name, **params)
            pids = expect_workers(world, workers, 1)
            written = world.disk_stat()[1]
            world.agent.fire(experiment)

            def is_felt(memory=fault == "mem-stress", pids=pids, written=written):
                return sum(map(rss, pids)) > 64 * MIB if memory else world.disk_stat()[1] - written > 16 * MIB
            assert wait_until(is_felt, 10)
            expect_workers(world, workers, 1)
            info = world.end(experiment)
            gone_soon(pids, world)
            assert others <= set(other.pids()), (others, other.pids())
        assert info["evidence"]["io_group"] == world.target.group("blkio"), info
        assert abs(memory_used(beside.target) - used) < 8 * MIB and abs(beside.free() - free) < 2 * MIB
        assert beside.disk_stat()[1] - stat[1] < 2 * MIB, "somebody wrote to the other's disk"


def test_disk_stress_without_an_io_controller(world):
    with WithoutIo(world):
        experiment = world.inject("disk-stress", size="16MiB", rate="16MiB")
        assert wait_until(lambda: world.agent.get(experiment)["hits"] > 0, 10)
        info = world.end(experiment)
    assert "io.max" in info["evidence"]["no_io_controller"] and "io_group" not in info["evidence"], info


def test_cpu_full_load(world):
    experiment = world.inject("cpu-stress", workers=1)
    pid, = world.workers()
    start, used = time.monotonic(), cpu_seconds(pid)
    time.sleep(2)
    share = (cpu_seconds(pid) - used) / (time.monotonic() - start)
    world.end(experiment)
    print(f"  one worker at 100 %: {share:.2f} processors")
    assert share > 0.4, share


def test_cpu_stress_within_a_throttle(world):
    """Other faults pass the workers, and the group's limit holds for them."""
    stress = world.inject("cpu-stress", workers=2)
    throttle = world.inject("cpu-throttle", quota="20%")
    pids = world.workers()
    start, used = time.monotonic(), sum(map(cpu_seconds, pids))
    time.sleep(2)
    share = (sum(map(cpu_seconds, pids)) - used) / (time.monotonic() - start)
    world.agent.revert(throttle)
    world.agent.wait_state(throttle, "clean")
    freeze = world.inject("proc-freeze", mechanism="cgroup")
    world.agent.revert(freeze)
    world.end(stress)
    gone_soon(pids, world)
    assert share < 0.3, share


def test_agent_killed(world):
    for fault, params in (("cpu-stress", {"workers": 4}), ("mem-stress", {"bytes": "64MiB"}),
                          ("disk-stress", {"workers": 2, "size": "32MiB"})):
        free = world.free()
        world.inject(fault, **params)
        pids = world.workers()
        assert pids
        wait_until(lambda: False, 0.5)
        world.agent.kill()
        took = gone_soon(pids, world)
        assert took < 500, f"{fault}: {took:.0f} ms"
        assert wait_until(lambda: world.free() > free - 8 * MIB, 2)
        print(f"  {fault}: gone {took:.0f} ms after the agent")
        world.agent.start()
        assert world.agent.entries() == []


def test_a_worker_that_is_killed_is_told(world):
    experiment = world.inject("cpu-stress", workers=2)
    os.kill(world.workers()[0], 9)
    assert wait_until(lambda: world.agent.get(experiment)["evidence"]["running"] == 1, 5)
    ended = world.agent.get(experiment)["evidence"]["ended"]
    assert len(ended) == 1 and ended[0]["killed_by"] == "KILL", ended
    world.end(experiment)


def test_the_instance_is_deleted(world):
    experiment = world.inject("cpu-stress", workers=2)
    pids = world.workers()
    world.target.process.kill()     # its processes, and not the group's others
    info = world.agent.wait_state(experiment, "clean", 15)
    assert info["end_reason"] == "target-gone", info
    gone_soon(pids, world)
    world.target.end()
    world.target.start()


def test_memory_grows_and_comes_back(world):
    before = memory_used(world.target)
    experiment = world.inject("mem-stress", bytes="96MiB", rate="48MiB")
    time.sleep(1)
    half = memory_used(world.target) - before
    assert 24 * MIB < half < 90 * MIB, half
    info = wait_until(lambda: (e := world.agent.get(experiment))["evidence"]["reached"] and e, 15)
    pid, = world.workers()
    assert info and info["evidence"]["held_bytes"] == 96 * MIB, world.agent.get(experiment)
    assert 92 * MIB < memory_used(world.target) - before < 110 * MIB
    assert rss(pid) > 96 * MIB and read(f"/proc/{pid}/oom_score_adj") == "1000"
    world.end(experiment)
    assert wait_until(lambda: memory_used(world.target) - before < 8 * MIB, 5)


def test_memory_stops_before_the_limit(world):
    with Limit(world, 200) as limit:
        kills = limit.kills()
        experiment = world.inject("mem-stress", percent="100%")
        info = wait_until(lambda: (e := world.agent.get(experiment))["evidence"]["stopped_near_limit"]
                          and e, 20)
        assert info, world.agent.get(experiment)
        assert info["evidence"]["limit_bytes"] == 200 * MIB and info["evidence"]["held_bytes"] > 100 * MIB
        code, text = world.psql("select count(*) from pg_class")
        assert code == 0, text
        assert limit.kills() == kills and world.agent.get(experiment)["evidence"]["oom_kills"] == 0
        world.end(experiment)


def test_out_of_memory_kills_one_of_the_instance(world):
    with Limit(world, 200) as limit:
        kills, postmaster = limit.kills(), world.target.postmaster()
        experiment = world.inject("mem-stress", percent="100%", oom=True)
        info = wait_until(lambda: (e := world.agent.get(experiment))["evidence"]["oom_kills"] and e, 30)
        assert info, world.agent.get(experiment)
        assert wait_until(lambda: world.agent.get(experiment)["evidence"]["given_back_after_kill"] or
                          not world.agent.get(experiment)["evidence"]["running"], 5)
        info = world.agent.get(experiment)
        print(f"  {info['evidence']['oom_kills']} killed, worker running: {info['evidence']['running']}, "
              f"the postmaster is {'the same' if world.target.postmaster() == postmaster else 'new'}")
        assert limit.kills() - kills == info["evidence"]["oom_kills"] >= 1
        assert world.agent.process.poll() is None, "the agent did not survive it"
        # A sanitizer makes the worker the biggest; without CAP_SYS_RESOURCE it is then the victim.
        if not info["evidence"]["running"]:
            assert info["evidence"]["ended"][0]["killed_by"] == "KILL", info
        world.end(experiment)
        assert world.target.answer_ms(30000) is not None
    assert wait_until(lambda: world.psql("select 1")[0] == 0, 30)


def test_a_killed_memory_worker_is_told(world):
    experiment = world.inject("mem-stress", bytes="32MiB")
    os.kill(world.workers()[0], 9)
    assert wait_until(lambda: world.agent.get(experiment)["evidence"]["ended"], 5)
    info = world.agent.get(experiment)
    assert info["evidence"]["ended"][0]["killed_by"] == "KILL" and info["evidence"]["held_bytes"] == 0
    world.end(experiment)


def node_has_left():
    return next(int(line.split()[1]) * 1024 for line in read("/proc/meminfo").splitlines()
                if line.startswith("MemAvailable:"))


def test_a_memory_limit_above_half_of_what_the_node_has(world):
    """Armed alone: nothing of it is taken."""
    left = node_has_left() // MIB
    with Limit(world, left * 7 // 10):
        experiment = world.agent.arm("mem-stress", world.target.name, bytes=f"{left * 52 // 100}MiB")
        info = world.agent.get(experiment)
        assert info["state"] == "armed" and len(world.workers()) == 1, info
        world.end(experiment)
    with Limit(world, left * 2):
        world.refused(403, ["fit below the memory limit", "keeps"], "mem-stress", percent="100%")
        world.refused(403, ["fit below the memory limit"], "mem-stress", percent="100%", oom=True)


def group_cpu_seconds(target):
    usage = f"{target.group('cpuacct')}/cpuacct.usage"
    if os.path.exists(usage):
        return int(read(usage)) / 1e9
    words = dict(line.split() for line in read(target.group("cpu"), "cpu.stat").splitlines())
    return int(words["usage_usec"]) / 1e6


def test_bystanders_of_cpu_and_memory(world):
    """By the kernel's own accounts of the two groups: another instance's has none of ours."""
    with scratch("stressby") as folder, Target(folder, "stressby") as other:
        both = (world.target, other)
        before = [group_cpu_seconds(t) for t in both]
        experiment = world.inject("cpu-stress", workers=2)
        assert wait_until(lambda: group_cpu_seconds(world.target) - before[0] > 1.5, 60)
        ours, theirs = (group_cpu_seconds(t) - b for t, b in zip(both, before))
        assert theirs < 0.5, (ours, theirs)
        assert set(world.workers()).isdisjoint(other.pids())
        world.end(experiment)
        before_memory = [memory_used(t) for t in both]
        experiment = world.inject("mem-stress", bytes="96MiB")
        assert wait_until(lambda: world.agent.get(experiment)["evidence"]["reached"], 30)
        ours_memory, theirs_memory = (memory_used(t) - b for t, b in zip(both, before_memory))
        assert ours_memory > 90 * MIB and theirs_memory < 8 * MIB, (ours_memory, theirs_memory)
        world.end(experiment)
        print(f"  processor: {ours:.2f} s of ours, {theirs:.2f} s of the other's; memory: "
              f"{ours_memory // MIB} MiB of ours, {theirs_memory // MIB} MiB of the other's")


def test_disk_writes_reach_the_disk(world):
    free = world.free()
    for pattern in ("sequential", "random"):
        experiment = world.agent.arm("disk-stress", world.target.name, pattern=pattern, size="64MiB",
                                     rate="16MiB")
        before = world.disk_stat()
        world.agent.fire(experiment)
        time.sleep(3)
        now = world.disk_stat()
        info = world.end(experiment)
        written = now[1] - before[1]
        e = info["evidence"]
        print(f"  {pattern}: {written / MIB / 3:.1f} MiB/s on the disk, {e['bytes_per_s'] / MIB:.1f} told, "
              f"direct {e['direct']}")
        assert 24 * MIB < written < 80 * MIB, written
        assert 8 * MIB < e["bytes_per_s"] < 18 * MIB and e["errors"] == 0 and e["running"] == 2, e
    assert wait_until(lambda: world.free() > free - 8 * MIB, 5), "the file is still there"


def test_fsync_storm_and_read(world):
    experiment = world.inject("disk-stress", pattern="fsync-storm", block_size="8KiB", workers=1,
                              size="16MiB", volume="wal")
    before, beside = world.disk_stat("wal"), world.disk_stat()
    time.sleep(2)
    after, beside_after = world.disk_stat("wal"), world.disk_stat()
    info = world.end(experiment)
    print(f"  fsync-storm: {info['evidence']['operations_per_s']:.0f} a second")
    assert info["hits"] > 20 and after[3] - before[3] > 20, (info, before, after)
    if world.device("wal") != world.device():
        assert beside_after[1] - beside[1] < 2 * MIB, (beside, beside_after)
    experiment = world.inject("disk-stress", pattern="read", workers=1, size="16MiB", rate="8MiB")
    assert wait_until(lambda: world.agent.get(experiment)["evidence"]["prepared"], 20)
    before = world.disk_stat()
    time.sleep(2)
    after = world.disk_stat()
    info = world.end(experiment)
    assert 8 * MIB < after[0] - before[0] < 24 * MIB, (before, after)
    assert info["evidence"]["errors"] == 0, info


def test_refused(world):
    world.refused(400, ["bytes", "percent"], "mem-stress")
    world.refused(400, ["bytes"], "mem-stress", bytes="1MiB", percent="10%")
    world.refused(422, ["no memory limit"], "mem-stress", percent="10%")
    world.refused(422, ["no memory limit"], "mem-stress", bytes="10MiB", oom=True)
    world.refused(403, ["half of that"], "mem-stress", bytes="900GiB")
    world.refused(400, ["are free"], "disk-stress", size="2GiB")
    world.refused(400, ["4KiB"], "disk-stress", block_size="5000")
    world.refused(400, ["workers"], "cpu-stress", workers=65)
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        write(str(stranger.pid), world.target.group("memory"), "cgroup.procs")
        world.refused(403, ["sleep"], "mem-stress", bytes="10MiB")
        write(str(stranger.pid), world.target.cgroup, "cgroup.procs")
        world.refused(403, ["sleep"], "cpu-stress")
        world.refused(403, ["sleep"], "disk-stress")
    finally:
        stranger.kill()
        stranger.wait()
    assert world.workers() == []


if __name__ == "__main__":
    sys.exit(main("stress", [value for name, value in sorted(globals().items())
                             if name.startswith("test_")]))
