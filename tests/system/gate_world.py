"""For the tests of the gates: a PostgreSQL on three volumes of its own, another beside it, programs within."""
import os
import re
import shutil
import statistics
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from harness.ports import free_port
from lib_postgres import Server, bin_dir, children, held, state, title


class VolumeServer(Server):
    """Its data, its WAL and a tablespace ("far") each on an ext4 of its own."""

    def __init__(self, name, port, **more):
        self.volumes = {}
        super().__init__(name, port, **more)
        for volume, mib in (("volume", 400), ("wal", 300), ("far", 100)):
            self.make_volume(volume, mib)
        # What initdb wrote goes onto them; in the server's own mount namespace alone they stay.
        subprocess.run(["cp", "-a", self.data, f"{self.folder}/volume/"], check=True)
        self.data = f"{self.folder}/volume/data"
        subprocess.run(["mv", f"{self.data}/pg_wal", f"{self.folder}/wal/"], check=True)
        os.symlink(f"{self.folder}/wal/pg_wal", f"{self.data}/pg_wal")
        os.mkdir(f"{self.folder}/far/space")
        shutil.chown(f"{self.folder}/far/space", "postgres", "postgres")

    def make_volume(self, name, mib):
        path = self.volumes[name] = f"{self.folder}/{name}"
        with open(f"{path}.img", "wb") as f:
            f.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", f"{path}.img"], check=True)
        os.makedirs(path)
        subprocess.run(["mount", "-o", "loop", f"{path}.img", path], check=True)
        os.chmod(path, 0o755)

    def remove(self):
        self.stop()
        for path in self.volumes.values():
            subprocess.run(["umount", path], check=False)
        self.volumes = {}
        super().remove()


class World(suite.Things):
    def __init__(self):
        super().__init__()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise

    def build(self):
        settings = ["--max_connections=50", "--checkpoint_timeout=1h", "--autovacuum=off",
                    "--bgwriter_lru_maxpages=0", "--temp_buffers=800kB", "--work_mem=64kB",
                    "--max_wal_size=160MB"]
        self.server = self.keep(VolumeServer("pga", 25471, settings=settings))
        self.plain = self.keep(Server("pgb", free_port(), alone=False, cluster="pjplain",
                                      settings=settings))
        for server in (self.server, self.plain):
            subprocess.run(Server.as_postgres(f"{bin_dir()}/pg_checksums", "--enable", "-N", "-D",
                                              server.data), check=True, stdout=subprocess.DEVNULL, cwd="/")
            server.start()
        self.server.query(f"create tablespace far location '{self.server.folder}/far/space'")
        for server in (self.server, self.plain):
            server.query("create extension pageinspect; create extension amcheck;"
                         "create table t (id int, pad text); create table f (id int, pad text)"
                         + (" tablespace far" if server is self.server else ""))
            server.query("insert into f select i, repeat('x', 500) from generate_series(1, 8000) i")
            server.query("insert into t select i, repeat('x', 500) from generate_series(1, 40000) i")
            server.query("create table w (id serial primary key, v int); checkpoint")
        self.agent = self.keep(Agent.alone())
        self.name = self.agent.instance_of(self.server.postmaster)["name"]
        self.plain_name = self.agent.instance_of(self.plain.postmaster)["name"]

    def tidy(self):
        self.agent.call("POST", "/v1/revert", {})


def timed(call, *args):
    start = time.monotonic()
    answer = call(*args)
    return answer, time.monotonic() - start


def write_ms(session, n=5):
    times = []
    for _ in range(n):
        answer, took = timed(session.ask, "insert into w (v) values (1) returning 'ok'")
        assert answer == "ok", answer
        times.append(took * 1000)
    return statistics.median(times)


def expect_clean(world, experiment):
    info = world.agent.get(experiment)
    assert info["state"] == "clean" and info["verified_clean"], info
    assert world.agent.entries() == [], world.agent.entries()
    stand = [pid for pid in [world.server.postmaster, *children(world.server.postmaster)] if held(pid)]
    assert stand == [], [(pid, title(pid), state(pid)) for pid in stand]


def expect_whole(server):
    """pg_amcheck; the checksums on the disk are test_zy_data_are_whole()'s."""
    subprocess.run([f"{bin_dir()}/pg_amcheck", "-h", server.folder, "-p", str(server.port), "-U",
                    "postgres", "--heapallindexed", "postgres"], check=True, timeout=120)
    assert server.query("show data_checksums") == "on"
    server.query("select sum(length(pad)) from t; select sum(length(pad)) from f; select count(*) from w")


def read_one_ms(session, page, table="t"):
    """One of t's first pages, which were pushed out of the shared buffers by its last ones, or one of f's."""
    answer, took = timed(session.ask, f"select count(*) from heap_page_items(get_raw_page('{table}', {page}))", 60)
    assert int(answer) > 0, answer
    return took * 1000


def inside(server, command, limit=60):
    """The words of a program that the server starts: it is one of the instance's processes."""
    return server.query(f"create temp table words (line text); copy words from program $$({command}) 2>&1; true$$; "
                        "select line from words", limit=limit)


def dd_inside(server, path, count):
    """How many reads of 8 KiB it could do, and its words."""
    words = inside(server, f"dd if={path} of=/dev/null bs=8k count={count}")
    return int(re.search(r"^(\d+)\+0 records in", words, re.M).group(1)), words


def path_of(server, table):
    return server.query(f"select pg_relation_filepath('{table}')")


READS = """import os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
for i in range(int(sys.argv[2])):
    start = time.monotonic()
    os.pread(fd, 512, i * 512)
    print((time.monotonic() - start) * 1000)
"""


def reads_ms(world, n):
    """How long each of n reads takes a program of the instance's."""
    script = f"{world.server.folder}/reads.py"
    with open(script, "w", encoding="ascii") as f:
        f.write(READS)
    words = inside(world.server, f"/usr/bin/python3 -B {script} {path_of(world.server, 't')} {n}")
    return [float(line) for line in words.splitlines()]


def refused(world, status, words, instance, params, fault="disk-latency"):
    before = world.agent.entries()
    try:
        world.agent.arm(fault, instance, params)
    except AgentError as e:
        assert e.status == status and all(w in str(e) for w in words), str(e)
        assert world.agent.entries() == before
        return
    raise AssertionError(f"not refused: {params}")
