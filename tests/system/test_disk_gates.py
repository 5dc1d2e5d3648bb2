"""disk-latency and disk-error on a real PostgreSQL, seen from outside: statements, dd, pg_amcheck, /proc.

The server has a mount namespace and a volume (ext4 on a loop device) of its own; a second server stands
beside it in the host's mount namespace.
"""
import os
import re
import signal
import statistics
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from lib_postgres import Server, Session, bin_dir, cgroup_root, children, held, state, title, wait_for


class VolumeServer(Server):
    """Its data directory on an ext4 of its own."""

    def __init__(self, name, port, **more):
        self.volume = None
        super().__init__(name, port, **more)
        # What initdb wrote goes onto the volume; in the server's own mount namespace alone it stays.
        self.image = f"{self.folder}/volume.img"
        with open(self.image, "wb") as f:
            f.truncate(400 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()
        subprocess.run(["cp", "-a", self.data, f"{self.folder}/volume/"], check=True)
        self.data = f"{self.folder}/volume/data"

    def mount(self):
        self.volume = f"{self.folder}/volume"
        os.makedirs(self.volume, exist_ok=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.volume], check=True)
        os.chmod(self.volume, 0o755)

    def remove(self):
        self.stop()
        if self.volume:
            subprocess.run(["umount", self.volume], check=False)
        super().remove()


class World:
    def __init__(self):
        self.things = []
        try:
            self.build()
        except BaseException:
            self.remove()
            raise

    def build(self):
        settings = ["--max_connections=50", "--checkpoint_timeout=1h", "--autovacuum=off",
                    "--bgwriter_lru_maxpages=0", "--temp_buffers=800kB", "--work_mem=64kB"]
        self.server = self.keep(VolumeServer("pga", 55471, settings=settings))
        self.plain = self.keep(Server("pgb", 56000 + os.getpid() % 4000, alone=False, cluster="pjplain", settings=settings))
        for server in (self.server, self.plain):
            subprocess.run(Server.as_postgres(f"{bin_dir()}/pg_checksums", "--enable", "-N", "-D",
                                              server.data), check=True, stdout=subprocess.DEVNULL, cwd="/")
            server.start()
        for server in (self.server, self.plain):
            server.query("create extension pageinspect; create extension amcheck;"
                         "create table t (id int, pad text)")
            server.query("insert into t select i, repeat('x', 500) from generate_series(1, 40000) i")
            server.query("create table w (id serial primary key, v int); checkpoint")
        self.agent = self.keep(Agent.alone())
        self.name = self.agent.instance_of(self.server.postmaster)["name"]
        self.plain_name = self.agent.instance_of(self.plain.postmaster)["name"]

    def keep(self, thing):
        self.things.append(thing)
        return thing

    def tidy(self):
        self.agent.call("POST", "/v1/revert", {})

    def remove(self):
        for thing in reversed(self.things):
            thing.remove()


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
    """pg_amcheck, and each page's checksum by reading every table."""
    subprocess.run([f"{bin_dir()}/pg_amcheck", "-h", server.folder, "-p", str(server.port), "-U",
                    "postgres", "--heapallindexed", "postgres"], check=True, timeout=120)
    assert server.query("show data_checksums") == "on"
    server.query("select sum(length(pad)) from t; select count(*) from w")


def test_flush_latency(world):
    session, other = Session(world.server), Session(world.plain)
    before = write_ms(session)
    experiment = world.agent.arm("disk-latency", world.name,
                                 {"delay": "80ms", "operations": ["fsync", "fdatasync"], "paths": ["wal"]})
    armed = write_ms(session)
    assert armed < 60, f"armed is not in effect: {armed:.1f} ms"
    info = world.agent.fire(experiment)
    assert info["state"] == "active" and info["lifetime"] == "held", info
    assert info["mechanism"] == "syscall gate", info
    slow = write_ms(session)
    assert 75 < slow < 400, slow
    late = Session(world.server)                    # born while it is active
    assert 75 < write_ms(late, 2) < 400
    beside = write_ms(other)
    assert beside < 60, f"the other server's writes: {beside:.1f} ms"
    _, took = timed(session.ask, "select 1")
    assert took < 0.06, took
    evidence = world.agent.get(experiment)["evidence"]["syscall_gate"]
    assert set(evidence["operations"]) == {"fdatasync"} and set(evidence["paths"]) == {"wal"}, evidence
    assert evidence["delay_min_ms"] >= 80 and evidence["missed"] == 0, evidence
    world.agent.revert(experiment)
    after = write_ms(session)
    assert after < 60, after
    expect_clean(world, experiment)
    print(f"  commit {before:.2f} ms, armed {armed:.2f}, 80 ms asked {slow:.1f}, beside {beside:.2f}, "
          f"after {after:.2f}; late p99 <= {evidence['error_p99_ms']} ms")
    session.close()
    other.close()
    late.close()


def read_one_ms(session, page):
    """One of the table's first pages, which were pushed out of the shared buffers by its last ones."""
    answer, took = timed(session.ask, f"select count(*) from heap_page_items(get_raw_page('t', {page}))", 60)
    assert int(answer) > 0, answer
    return took * 1000


def test_read_latency_old_and_new_sessions(world):
    """A session that had its files open before (the syscall gate's) and one that opens them (the file gate's)."""
    old = Session(world.server)
    assert old.ask("select count(*) from heap_page_items(get_raw_page('t', 0))") != "0"
    path = world.server.query("select pg_relation_filepath('t')")
    experiment = world.agent.inject("disk-latency", world.name,
                                    {"delay": "60ms", "operations": ["read"], "paths": ["data"]})
    info = world.agent.get(experiment)
    assert info["mechanism"] == "file gate and syscall gate", info
    took = read_one_ms(old, 100)
    assert 55 < took < 600, f"old session, one page: {took:.1f} ms"
    seen = world.agent.get(experiment)["evidence"]
    assert seen["syscall_gate"]["operations"].get("read", 0) >= 1, seen
    assert seen["file_gate"]["delayed"] == 0, seen
    new = Session(world.server)
    _, took = timed(new.ask, "select 1", 60)
    assert took > 0.11, f"a new session reads its catalogue files: {took:.3f} s"
    read_one_ms(new, 200)
    before = world.agent.get(experiment)["evidence"]
    took = read_one_ms(new, 250)
    assert 55 < took < 600, f"new session, one page: {took:.1f} ms"
    seen = world.agent.get(experiment)["evidence"]
    assert seen["file_gate"]["delayed"] > 1 and seen["file_gate"]["delay_min_ms"] >= 60, seen
    assert seen["syscall_gate"]["delayed"] == before["syscall_gate"]["delayed"], "hit twice"
    assert seen["file_gate"]["delayed"] == before["file_gate"]["delayed"] + 1, (before, seen)
    # The host's own read of the same file: 4,096 reads would be minutes.
    _, host = timed(lambda: subprocess.run(
        ["dd", f"if={world.server.data}/{path}", "of=/dev/null", "bs=1k", "count=4096"], check=True,
        stderr=subprocess.DEVNULL))
    assert host < 5, host
    world.agent.revert(experiment)
    assert read_one_ms(old, 300) < 50 and read_one_ms(new, 301) < 50
    expect_clean(world, experiment)
    print(f"  the host read 4,096 KiB of the file in {host * 1000:.0f} ms; file gate late p99 <= "
          f"{seen['file_gate']['error_p99_ms']} ms")
    old.close()
    new.close()


def test_write_error_of_temporary_files(world):
    session = Session(world.server)
    sort = "select count(*) from (select pad || id from t order by 1 offset 0) x"
    assert session.ask(sort, 30) == "40000"
    experiment = world.agent.inject("disk-error", world.name, {
        "errno": "ENOSPC", "operations": ["write"], "paths": ["temp"]})
    answer = session.ask(sort, 30)
    assert "No space left on device" in answer, answer
    assert session.ask("insert into w (v) values (2) returning 'ok'") == "ok"
    world.agent.revert(experiment)
    assert session.ask(sort, 30) == "40000"
    expect_clean(world, experiment)
    expect_whole(world.server)
    session.close()


def test_read_errors(world):
    session = Session(world.server)
    experiment = world.agent.inject("disk-error", world.name, {
        "operations": ["read"], "paths": ["base/*"], "titles": ["backend"], "after": 1})
    answers = [session.ask(f"select count(*) > 0 from heap_page_items(get_raw_page('t', {page}))", 20)
               for page in (500, 510, 520)]
    assert any("Input/output error" in a for a in answers), answers
    world.agent.revert(experiment)
    session.ask("rollback")
    assert session.ask("select count(*) from t", 60).endswith("40000")
    expect_clean(world, experiment)
    expect_whole(world.server)
    session.close()


def test_wal_flush_error_panics_and_recovers(world):
    session = Session(world.server)
    assert session.ask("insert into w (v) values (77) returning 'ok'") == "ok"
    before = world.server.query("select count(*) from w")
    experiment = world.agent.inject("disk-error", world.name, {
        "operations": ["fdatasync"], "paths": ["wal"], "titles": ["backend"]})
    answer = session.ask("insert into w (v) values (78) returning 'ok'", 20) or ""
    assert "ok" not in answer.split(), answer
    world.agent.revert(experiment)
    wait_for("crash recovery", lambda: world.server.query("select 1", check=False) == "1", 40)
    with open(f"{world.server.folder}/log", encoding="utf-8", errors="replace") as f:
        log = f.read()
    assert re.search(r"PANIC:  could not f.*sync file .*pg_wal|PANIC:  could not fdatasync", log), log[-2000:]
    assert "database system was not properly shut down" in log or "automatic recovery" in log, log[-2000:]
    assert int(world.server.query("select count(*) from w")) >= int(before)
    expect_clean(world, experiment)
    expect_whole(world.server)
    session.close()


def test_open_latency(world):
    experiment = world.agent.inject("disk-latency", world.name,
                                    {"delay": "100ms", "operations": ["open"], "paths": ["PG_VERSION", "base/*"]})
    session = Session(world.server)
    _, took = timed(session.ask, "select length(pg_read_file('PG_VERSION'))", 30)
    assert took > 0.19, took
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def test_agent_killed(world):
    """Two sessions held, one by each gate: both run on at once."""
    flush, read = Session(world.server), Session(world.server)
    assert flush.ask("select 1") == "1" and read.ask("select 1") == "1"
    world.agent.inject("disk-latency", world.name, {"delay": "60s", "paths": ["wal", "data"]})
    flush.send("insert into w (v) values (3) returning 'done'")
    late = Session(world.server)
    late.send("select 5")
    assert flush.receive(0.7) is None and late.receive(0.1) is None
    start = time.monotonic()
    world.agent.kill()
    assert flush.receive(5) == "done"
    first = time.monotonic() - start
    assert late.receive(5) == "5"
    took = time.monotonic() - start
    assert took < 1.0, took
    for pid in [world.server.postmaster, *children(world.server.postmaster)]:
        assert state(pid) not in ("t", "T"), (pid, state(pid))     # a child that just ended may be a zombie yet
    print(f"  {first * 1000:.1f} and {took * 1000:.1f} ms after kill -9 of the agent")
    world.agent.start()
    assert world.agent.entries() == []
    expect_whole(world.server)
    for session in (flush, read, late):
        session.close()


def test_deadline(world):
    session = Session(world.server)
    assert session.ask("select 1") == "1"
    experiment = world.agent.inject("disk-latency", world.name,
                                    {"delay": "60s", "operations": ["fdatasync"]}, duration_ms=1200)
    answer, took = timed(session.ask, "insert into w (v) values (4) returning 'ok'")
    assert answer == "ok" and 0.8 < took < 4, (answer, took)
    wait_for("the end", lambda: world.agent.get(experiment)["state"] == "clean", 10)
    expect_clean(world, experiment)
    session.close()


def test_plain_server_by_the_syscall_gate(world):
    """In the host's mount namespace: no file gate, and it says why; reads and writes are gated all the same."""
    session = Session(world.plain)
    assert session.ask("select count(*) from heap_page_items(get_raw_page('t', 0))") != "0"
    experiment = world.agent.inject("disk-latency", world.plain_name,
                                    {"delay": "100ms", "operations": ["read", "fdatasync"]})
    info = world.agent.get(experiment)
    assert info["mechanism"] == "syscall gate", info
    assert "mount namespace" in info["evidence"]["no_file_gate"], info
    assert 95 < read_one_ms(session, 400) < 900
    assert 95 < write_ms(session, 2) < 900
    new = Session(world.plain)
    assert new.ask("select 1", 60) == "1"
    took = read_one_ms(new, 200)
    assert took > 95, took
    world.agent.revert(experiment)
    assert read_one_ms(session, 480) < 60
    assert write_ms(session, 3) < 60
    session.close()
    new.close()
    expect_whole(world.plain)


def refused(world, status, words, instance, params, fault="disk-latency"):
    before = world.agent.entries()
    try:
        world.agent.arm(fault, instance, params)
    except AgentError as e:
        assert e.status == status and all(w in str(e) for w in words), str(e)
        assert world.agent.entries() == before
        return
    raise AssertionError(f"not refused: {params}")


def test_refusals(world):
    refused(world, 422, ["mount namespace"], world.plain_name,
            {"delay": "1ms", "operations": ["read"], "mechanism": "file"})
    refused(world, 422, ["open"], world.plain_name, {"operations": ["open"]}, "disk-error")
    refused(world, 400, ["fly"], world.name, {"delay": "1ms", "operations": ["fly"]})
    freeze = world.agent.inject("proc-freeze", world.name,
                                {"processes": "titles", "titles": ["walwriter"]})
    refused(world, 409, ["is held by "], world.name, {"delay": "1ms"})
    world.agent.revert(freeze)
    expect_clean(world, freeze)


def test_a_foreign_sigcont_passes(world):
    """A stopped session goes on by somebody's SIGCONT while the gate is open, and is not held by it."""
    session = Session(world.server)
    pid = int(session.ask("select pg_backend_pid()"))
    outside = [p for p in world.server.backends("postgres postgres")][-1]
    assert pid > 0
    experiment = world.agent.inject("disk-latency", world.name, {"delay": "60s", "operations": ["fsync"]})
    os.kill(outside, signal.SIGSTOP)
    wait_for("stopped", lambda: state(outside) in ("T", "t"), 5)
    session.send("select 9")
    assert session.receive(0.3) is None
    os.kill(outside, signal.SIGCONT)
    assert session.receive(5) == "9"
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def test_pgbench_under_gates_that_choose_nothing(world):
    """What it costs is measured by tests/bench/run gates-idle."""
    world.server.pgbench("-i", "-q", "-s", "2")
    for params in ({"operations": ["fsync", "fdatasync", "open"], "paths": ["tablespace"]},
                   {"operations": ["fdatasync"], "titles": ["nobody"]},
                   {"operations": ["read", "write"], "paths": ["tablespace"], "mechanism": "file"}):
        experiment = world.agent.inject("disk-latency", world.name, {"delay": "5s", **params})
        assert world.server.pgbench("-T", "1", "-c", "4") > 0
        assert world.agent.get(experiment)["hits"] == 0
        world.agent.revert(experiment)
        expect_clean(world, experiment)
    expect_whole(world.server)


def test_zz_the_target_ends_meanwhile(world):
    experiment = world.agent.inject("disk-latency", world.name, {"delay": "5s"})
    world.server.stop()
    wait_for("the experiment ends by itself",
             lambda: world.agent.get(experiment)["state"] == "clean")
    assert world.agent.get(experiment)["end_reason"] == "target-gone", world.agent.get(experiment)
    assert world.agent.entries() == []
    world.server.start()
    expect_whole(world.server)


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
