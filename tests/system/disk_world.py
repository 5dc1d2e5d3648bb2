"""For the tests of disk, processor and memory faults: a target on a disk of its own, an agent, helpers."""
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from harness.agent import BINARY, Agent, AgentError, process_state, scratch, wait_until  # noqa: E402
from harness.target import Target  # noqa: E402

DISK_MIB = WAL_MIB = 400


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read().strip()


def write(text, *path):
    with open(os.path.join(*path), "w") as f:
        f.write(text)


class World:
    def __init__(self, folder, target):
        self.folder, self.target = folder, target
        self.agent = Agent(folder)
        self.data = os.path.join(folder, "data")

    def folder_of(self, volume="data"):
        return self.data if volume == "data" else os.path.realpath(os.path.join(self.data, "pg_wal"))

    def device(self, volume="data"):
        number = os.stat(self.folder_of(volume)).st_dev
        return f"{os.major(number)}:{os.minor(number)}"

    def disk_stat(self, volume="data"):
        """(bytes read, bytes written, reads, writes) of the target's disk."""
        words = read("/sys/dev/block", self.device(volume), "stat").split()
        return int(words[2]) * 512, int(words[6]) * 512, int(words[0]), int(words[4])

    def free(self, volume="data"):
        s = os.statvfs(self.folder_of(volume))
        return s.f_bavail * s.f_frsize

    def inject(self, fault, **params):
        experiment = self.agent.arm(fault, self.target.name, **params)
        self.agent.fire(experiment)
        return experiment

    def end(self, experiment):
        self.agent.revert(experiment)
        info = self.agent.wait_state(experiment, "clean")
        assert info["verified_clean"], info
        assert self.agent.entries() == [], self.agent.entries()
        return info

    def refused(self, status, words, fault, **params):
        try:
            self.agent.arm(fault, self.target.name, **params)
        except AgentError as e:
            assert str(e).startswith(str(status)) and all(w in str(e) for w in words), e
            assert self.agent.entries() == []
            return
        raise AssertionError(f"not refused: {params}")

    def in_group(self, command):
        """A program as a process of the instance: in all of its groups and in its mount namespace."""
        groups = " ".join(self.target.groups())
        script = 'for g in $0; do echo 0 >"$g/cgroup.procs" || exit; done; exec "$@"'
        process = subprocess.Popen(
            ["sh", "-c", script, groups, "nsenter", "-t", str(self.target.postmaster()), "-m", "--",
             *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        ours = os.readlink("/proc/self/ns/mnt")
        wait_until(lambda: process.poll() is not None or
                   os.readlink(f"/proc/{process.pid}/ns/mnt") != ours, 5, 0.002)
        return process

    def psql(self, sql, limit=30):
        done = subprocess.run(["psql", "-XAtq", "-h", self.folder, "-U", "postgres", "-c", sql, "postgres"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
        return done.returncode, done.stdout.decode().strip()

    def of_agent(self, pids):
        """Those that the agent started."""
        found = []
        for pid in pids:
            try:
                if int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[1]) == self.agent.pid:
                    found.append(pid)
            except OSError:
                pass
        return found

    def workers(self):
        """Processes in the group that the agent started."""
        return self.of_agent(self.target.pids())

    def tidy(self):
        """After a test that failed: what it left is no matter of the next one's."""
        if self.agent.process.poll() is not None:
            self.agent.start()
        self.agent.call("POST", "/v1/revert", {})


def cpu_seconds(pid):
    words = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class OnFileSystem(Target):
    """PGDATA on a tmpfs or an overlay."""

    def make_volume(self, name, mib):
        options = f"size={mib}m"
        if self.file_system == "overlay":
            for part in ("lower", "upper", "work"):
                os.mkdir(os.path.join(self.folder, part))
            options = ",".join(f"{part}dir={os.path.join(self.folder, part)}" for part in ("lower", "upper", "work"))
        subprocess.run(["mount", "-t", self.file_system, "-o", options, self.file_system,
                        os.path.join(self.folder, name)], check=True)

    def __init__(self, folder, label, file_system):
        super().__init__(folder, label, disk=DISK_MIB)
        self.file_system = file_system


class WithoutIo:
    """Where no io controller applies to the instance: a v1 hierarchy is hidden from the agent; in v2 the instance
    is in a group below, which has only what its parent's subtree_control names: nothing."""

    def __init__(self, world):
        self.world, self.own = world, world.agent
        group = world.target.cgroup
        self.inner = os.path.join(group, "inner") if os.path.exists(f"{group}/io.max") else None
        v1 = world.target.group("blkio")
        folder = os.path.join(world.folder, "without-io")
        binary = BINARY
        if v1 != group:
            binary = folder + ".sh"
            write("#!/bin/sh\nexec unshare --mount sh -c 'umount -l \"$0\" && exec \"$@\"' "
                  f'{os.path.dirname(v1)} {BINARY} "$@"\n', binary)
            os.chmod(binary, 0o755)
        os.makedirs(folder, exist_ok=True)
        self.agent = Agent(folder, binary=binary)

    def __enter__(self):
        if self.inner:
            os.mkdir(self.inner)
            self.move(self.world.target.cgroup, self.inner)
        self.world.agent = self.agent.start()

    def __exit__(self, *_):
        self.agent.leave()
        self.world.agent = self.own
        if self.inner:
            self.move(self.inner, self.world.target.cgroup)
            os.rmdir(self.inner)

    @staticmethod
    def move(group, to):
        for pid in read(group, "cgroup.procs").split():
            write(pid, to, "cgroup.procs")


def test_data_are_whole(world):
    """The last one: after all the faults."""
    world.target.check_whole()


def main(label, tests):
    if os.geteuid() != 0:
        print("needs root")
        return 77
    only, failed = sys.argv[1:], 0
    with scratch(label) as folder, Target(folder, label, disk=DISK_MIB, wal=WAL_MIB,
                                          settings="max_wal_size = 128MB\n") as target:
        world = World(folder, target)
        with world.agent:
            for test in [*tests, test_data_are_whole]:
                if only and test.__name__ not in only:
                    continue
                start = time.monotonic()
                try:
                    test(world)
                    print(f"ok {test.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
                except Exception:   # pylint: disable=broad-except
                    failed += 1
                    print(f"FAILED {test.__name__}\n{traceback.format_exc()}", flush=True)
                    world.tidy()
            if failed:
                print(world.agent.tail())
    return 1 if failed else 0


__all__ = ["Agent", "AgentError", "OnFileSystem", "Target", "WithoutIo", "World", "cpu_seconds", "main", "process_state",
           "read", "scratch", "wait_until", "write"]
