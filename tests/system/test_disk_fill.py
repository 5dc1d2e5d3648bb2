"""disk-fill on a real PostgreSQL on a disk of its own: what df, dd and PostgreSQL say."""
import os
import subprocess
import sys

from disk_world import Target, World, main, scratch, wait_until

MIB = 1 << 20


def dd(world, mib):
    """Can an ordinary user write so much? The file is removed again."""
    path = os.path.join(world.data, "dd-test")
    done = subprocess.run(["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups",
                           "dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={mib}", "conv=fsync"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if os.path.exists(path):
        os.unlink(path)
    return done.returncode == 0


def full(world, experiment):
    return wait_until(lambda: (e := world.agent.get(experiment))["evidence"]["full"] and e, 20)


def test_leaves_what_was_asked(world):
    before, root = world.free(), os.statvfs("/").f_bavail
    assert before > 100 * MIB and dd(world, 50)
    experiment = world.agent.arm("disk-fill", world.target.name, leave="16MiB")
    assert world.free() > before - MIB, "armed: nothing is taken"
    world.agent.fire(experiment)
    info = full(world, experiment)
    assert info and info["lifetime"] == "held", world.agent.get(experiment)
    assert abs(world.free() - 16 * MIB) < MIB, world.free()
    assert info["evidence"]["taken_bytes"] > before - 24 * MIB, info
    assert not dd(world, 20) and dd(world, 10)
    assert os.statvfs("/").f_bavail > root - 600 * MIB / 4096, "the node's own disk has lost too much"
    world.end(experiment)
    assert world.free() > before - 4 * MIB and dd(world, 50), "the space is not back"
    print(f"  {info['evidence']['taken_bytes'] >> 20} MiB taken by {info['evidence']['by']}")


def test_up_to_a_share(world):
    experiment = world.inject("disk-fill", fill="90%")
    assert full(world, experiment)
    s = os.statvfs(world.data)
    used = (s.f_blocks - s.f_bfree) / (s.f_blocks - s.f_bfree + s.f_bavail)
    assert 0.895 < used < 0.915, used   # PostgreSQL writes meanwhile
    world.end(experiment)


def test_takes_again_what_is_given_back(world):
    path = os.path.join(world.data, "ballast")
    with open(path, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 40 * MIB)
    experiment = world.inject("disk-fill", leave="8MiB")
    assert full(world, experiment)
    os.unlink(path)
    assert wait_until(lambda: world.free() < 9 * MIB, 10), world.free()
    assert wait_until(lambda: not dd(world, 20), 10)
    world.end(experiment)


def test_postgresql_is_out_of_space_and_back(world):
    code, text = world.psql("create table big as select repeat('x', 1000) from generate_series(1, 20000)")
    assert code == 0, text
    experiment = world.inject("disk-fill", volume="data")
    assert full(world, experiment)
    code, text = world.psql("insert into big select repeat('y', 1000) from generate_series(1, 60000)")
    assert code != 0 and "No space left" in text, text
    world.end(experiment)
    assert world.target.answer_ms(30000) is not None
    assert wait_until(lambda: world.psql("insert into big select 'z'")[0] == 0, 30)
    assert world.psql("select count(*) from big where repeat < 'y'")[1] == "20000"
    world.psql("drop table big")


def test_agent_killed(world):
    before = world.free()
    experiment = world.inject("disk-fill", volume="wal")
    assert full(world, experiment)
    assert world.free() < MIB
    world.agent.kill()
    assert wait_until(lambda: world.free() > before - 4 * MIB, 2), world.free()
    assert dd(world, 50)
    world.agent.start()
    assert world.agent.entries() == []


def test_the_instance_is_deleted(world):
    experiment = world.inject("disk-fill", leave="32MiB")
    assert full(world, experiment)
    world.target.end()
    info = world.agent.wait_state(experiment, "clean", 10)
    assert info["end_reason"] == "target-gone", info
    assert subprocess.run(["umount", world.data]).returncode == 0, "something holds the volume"
    subprocess.run(["mount", "-o", "loop", os.path.join(world.folder, "disk.img"), world.data], check=True)
    world.target.start()


def test_refused(world):
    world.refused(400, ["leave", "fill"], "disk-fill", leave="1MiB", fill="90%")
    world.refused(400, ["volume"], "disk-fill", volume="root")
    with scratch("fill2") as folder, Target(folder, "fill2") as other:
        nearby = World(folder, other)
        with nearby.agent:
            nearby.refused(403, ["node's own disk"], "disk-fill")


if __name__ == "__main__":
    sys.exit(main("fill", [value for name, value in sorted(globals().items())
                           if name.startswith("test_")]))
