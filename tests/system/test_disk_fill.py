"""disk-fill on a real PostgreSQL on a disk of its own: what df, dd and PostgreSQL say."""
import os
import shutil
import subprocess
import sys

from disk_world import AgentError, OnFileSystem, Target, World, main, scratch, wait_until

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


def test_one_volume_and_not_the_other(world):
    for volume, other in (("wal", "data"), ("data", "wal")):
        before, beside = world.free(volume), world.free(other)
        experiment = world.inject("disk-fill", volume=volume, leave="16MiB")
        assert full(world, experiment)
        assert world.free(volume) < 17 * MIB and abs(world.free(other) - beside) < 4 * MIB
        assert dd(world, 50) == (volume == "wal")
        world.end(experiment)
        assert world.free(volume) > before - 4 * MIB


def test_no_room_for_wal(world):
    """The server panics, cannot come back before there is room, and has all that it promised then."""
    code, text = world.psql("create table promised (i int, pad text)")
    assert code == 0, text
    experiment = world.inject("disk-fill", volume="wal")
    assert full(world, experiment)
    promised = 0
    while promised < 40:
        code, text = world.psql("insert into promised select 1, repeat('x', 1000) from generate_series(1, 4000)", 60)
        if code:
            break
        promised += 1
    assert code and promised < 40, "160 MiB of WAL found room"
    world.end(experiment)
    assert world.target.answer_ms(30000) is not None
    assert wait_until(lambda: world.psql("select 1")[0] == 0, 30)
    count = int(world.psql("select count(*) / 4000 from promised")[1])
    assert count in (promised, promised + 1), (count, promised)     # the last one may have been cut off after its commit
    with open(os.path.join(world.folder, "postgres.log"), errors="replace") as f:
        assert "No space left on device" in f.read()
    world.psql("drop table promised")


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
    before = world.free("wal")
    experiment = world.inject("disk-fill", volume="wal")
    assert full(world, experiment)
    assert world.free("wal") < MIB
    world.agent.kill()
    assert wait_until(lambda: world.free("wal") > before - 4 * MIB, 2), world.free("wal")
    world.agent.start()
    assert world.agent.entries() == []


def test_the_instance_is_deleted(world):
    experiment = world.inject("disk-fill", leave="32MiB")
    assert full(world, experiment)
    world.target.end()
    info = world.agent.wait_state(experiment, "clean", 10)
    assert info["end_reason"] == "target-gone", info
    assert subprocess.run(["umount", world.data]).returncode == 0, "something holds the volume"
    world.target.mount("data")
    world.target.start()


def test_refused(world):
    world.refused(400, ["leave", "fill"], "disk-fill", leave="1MiB", fill="90%")
    world.refused(400, ["volume"], "disk-fill", volume="root")
    with scratch("fill2") as folder, Target(folder, "fill2") as other:
        nearby = World(folder, other)
        with nearby.agent:
            nearby.refused(403, ["node's own disk"], "disk-fill")
    with scratch("fill3") as folder, OnFileSystem(folder, "fill3", "tmpfs") as other:
        nearby = World(folder, other)
        with nearby.agent:
            nearby.refused(403, ["is tmpfs"], "disk-fill")


class Subvolume(Target):
    """PGDATA is one subvolume of a Btrfs, the folder "beside" another."""

    def make_volume(self, name, mib):
        top, image = os.path.join(self.folder, "top"), os.path.join(self.folder, "btrfs.img")
        commands = [["truncate", "-s", f"{mib}M", image], ["mkfs.btrfs", "-q", image], ["mount", "-o", "loop", image, top],
                    ["btrfs", "-q", "subvolume", "create", f"{top}/{name}"],
                    ["btrfs", "-q", "subvolume", "create", f"{top}/beside"],
                    ["mount", "--bind", f"{top}/{name}", os.path.join(self.folder, name)]]
        os.mkdir(top)
        for command in commands:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def unmount(self):
        return super().unmount() and subprocess.run(["umount", os.path.join(self.folder, "top")]).returncode == 0


def test_another_subvolume_of_the_nodes_disk(_):
    """The journal's subvolume stands for the node's: stat() has another number for each."""
    with open("/proc/filesystems") as f:
        if not shutil.which("mkfs.btrfs") or "btrfs" not in f.read().split():
            print("  left out: there is no Btrfs or no mkfs.btrfs here")
            return
    with scratch("fill4") as folder, Subvolume(folder, "fill4", disk=400) as other:
        nearby = World(folder, other)
        journal = os.path.join(folder, "top", "beside", "journal")
        assert os.stat(os.path.dirname(journal)).st_dev != os.stat(nearby.data).st_dev
        nearby.agent.journal = journal
        with nearby.agent:
            nearby.refused(403, ["node's own disk", "beside"], "disk-fill")
        nearby.agent.journal = os.path.join(folder, "journal")
        with nearby.agent:
            try:
                nearby.agent.arm("disk-fill", other.name)
            except AgentError as e:
                raise AssertionError("a Btrfs of its own is refused") from e


if __name__ == "__main__":
    sys.exit(main("fill", [value for name, value in sorted(globals().items())
                           if name.startswith("test_")]))
