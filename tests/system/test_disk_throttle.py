"""disk-throttle: how long dd takes inside the instance, beside it, before and after."""
import os
import subprocess
import sys
import time

from disk_world import OnFileSystem, WithoutIo, World, main, read, scratch, wait_until, write

MIB = 1 << 20
V1 = ["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
      "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"]


def limits(world):
    group = world.target.group("blkio")
    names = ["io.max"] if os.path.exists(f"{group}/io.max") else V1
    return {name: read(group, name) for name in names}


def dd_command(world, way, mib, block="1M", volume="data"):
    path = os.path.join(world.folder_of(volume), "dd-test")
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.write(b"x" * 8 * MIB)
            os.fsync(f.fileno())
    count = mib * MIB // (MIB if block == "1M" else 4096)
    if way == "read":
        return ["dd", f"if={path}", "of=/dev/null", f"bs={block}", f"count={count}", "iflag=direct"]
    return ["dd", "if=/dev/zero", f"of={path}", f"bs={block}", f"count={count}", "oflag=direct",
            "conv=notrunc"]


def seconds(process):
    start = time.monotonic()
    text = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0, text
    return time.monotonic() - start


def inside(world, *arguments, volume="data"):
    return seconds(world.in_group(dd_command(world, *arguments, volume=volume)))


def outside(world, *arguments):
    return seconds(subprocess.Popen(dd_command(world, *arguments), stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT))


def test_written_bytes(world):
    before = limits(world)
    free = inside(world, "write", 8)
    experiment = world.agent.arm("disk-throttle", world.target.name, write_bytes="4MiB")
    assert limits(world) == before, "armed: nothing is set"
    world.agent.fire(experiment)
    throttled, reads, beside = inside(world, "write", 8), inside(world, "read", 8), outside(world, "write", 8)
    info = world.agent.get(experiment)
    assert info["lifetime"] == "journaled", info
    assert info["evidence"]["device"] == world.device(), info
    assert info["hits"] >= 1 and info["evidence"]["done"]["write-bytes"] >= 8 * MIB, info
    world.end(experiment)
    assert limits(world) == before, (before, limits(world))
    after = inside(world, "write", 8)
    print(f"  8 MiB at 4 MiB/s: {free:.2f} s free, {throttled:.2f} s throttled, reads {reads:.2f} s, "
          f"beside it {beside:.2f} s, {after:.2f} s after")
    assert 1.6 < throttled < 3.5, throttled
    assert max(free, reads, beside, after) < 1.2, (free, reads, beside, after)


def test_read_operations(world):
    experiment = world.inject("disk-throttle", read_operations=100)
    throttled, beside = inside(world, "read", 1, "4K"), outside(world, "read", 1, "4K")
    info = world.end(experiment)
    print(f"  256 reads at 100 a second: {throttled:.2f} s, beside it {beside:.2f} s")
    assert 2.0 < throttled < 4.0, throttled
    assert beside < 1.0, beside
    assert info["hits"] >= 256, info


def test_one_volume_and_not_the_other(world):
    for volume, other in (("wal", "data"), ("data", "wal")):
        experiment = world.inject("disk-throttle", volume=volume, write_bytes="1MiB")
        throttled, beside = inside(world, "write", 8, volume=volume), inside(world, "write", 8, volume=other)
        info = world.end(experiment)
        print(f"  8 MiB at 1 MiB/s on {volume}: {throttled:.2f} s, on {other} {beside:.2f} s")
        assert info["evidence"]["device"] == world.device(volume) != world.device(other), info
        assert throttled > 6.5 and beside < throttled / 2, (throttled, beside)


def test_what_postgresql_feels(world):
    def load():
        start = time.monotonic()
        code, text = world.psql("create table t (x text); insert into t select repeat('x', 1000) "
                                "from generate_series(1, 6000); drop table if exists u; "
                                "alter table t rename to u", 60)
        assert code == 0, text
        return time.monotonic() - start
    assert wait_until(lambda: world.psql("select 1")[0] == 0, 30)
    free = load()
    experiment = world.inject("disk-throttle", volume="data", write_bytes="2MiB")
    throttled = load()
    world.end(experiment)
    print(f"  a load of 6 MiB: {free:.2f} s, at 2 MiB/s {throttled:.2f} s")
    assert throttled > free + 1.5
    world.psql("drop table u")


def test_earlier_limits_come_back(world):
    group = world.target.group("blkio")
    v2 = os.path.exists(f"{group}/io.max")
    if v2:
        write(f"{world.device()} wbps=50000000 riops=9000", group, "io.max")
    else:
        write(f"{world.device()} 50000000", group, V1[1])
        write(f"{world.device()} 9000", group, V1[2])
    before = limits(world)
    experiment = world.inject("disk-throttle", read_bytes="1MiB", write_bytes="1MiB", read_operations=50,
                              write_operations=60)
    during = limits(world)
    assert during != before
    world.end(experiment)
    assert limits(world) == before, (before, limits(world))
    world.refused(400, ["write-bytes", "stricter"], "disk-throttle", write_bytes="100MiB")
    world.inject("disk-throttle", read_bytes="1MiB", write_bytes="1MiB")
    world.agent.kill()
    assert limits(world) != before, "journaled: it stays"
    world.agent.start()
    assert limits(world) == before and world.agent.entries() == []
    if v2:
        write(f"{world.device()} rbps=max wbps=max riops=max wiops=max", group, "io.max")
    else:
        for name in V1:
            write(f"{world.device()} 0", group, name)


def test_refused(world):
    world.refused(400, ["is required"], "disk-throttle")
    world.refused(400, ["write-bytes"], "disk-throttle", write_bytes="10")
    first = world.inject("disk-throttle", write_bytes="8MiB")
    try:
        world.agent.arm("disk-throttle", world.target.name, read_bytes="8MiB")
    except Exception as e:  # pylint: disable=broad-except
        assert "409" in str(e) and "another fault" in str(e), e
    else:
        raise AssertionError("a second one was let in")
    world.end(first)


def test_no_disk_below(_):
    for file_system in ("tmpfs", "overlay"):
        with scratch("dskth2") as folder, OnFileSystem(folder, "dskth2", file_system) as other:
            nearby = World(folder, other)
            with nearby.agent:
                nearby.refused(422, [file_system, "no block device"], "disk-throttle", write_bytes="8MiB")


def test_no_io_controller(world):
    with WithoutIo(world):
        world.refused(422, ["io.max", "blkio"], "disk-throttle", write_bytes="8MiB")


def test_the_instance_is_deleted(world):
    experiment = world.inject("disk-throttle", write_bytes="8MiB")
    world.target.end()
    info = world.agent.wait_state(experiment, "clean", 10)
    assert info["end_reason"] == "target-gone", info
    world.target.start()


if __name__ == "__main__":
    sys.exit(main("dskth", [value for name, value in sorted(globals().items())
                            if name.startswith("test_")]))
