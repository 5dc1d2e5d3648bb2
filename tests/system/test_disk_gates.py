"""disk-latency and disk-error on a real PostgreSQL, seen from outside: statements, dd, pg_amcheck, /proc.

The server has a mount namespace of its own and three volumes (ext4 on loop devices): of the data, of the WAL and
of a tablespace. A second server stands beside it in the host's mount namespace.
"""
import os
import re
import signal
import statistics
import subprocess
import time

import suite
from gate_world import (World, dd_inside, expect_clean, expect_whole, inside, path_of, read_one_ms, reads_ms, refused, timed,
                        write_ms)
from lib_postgres import Server, Session, bin_dir, cgroup_root, children, state, wait_for


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


def test_writes_of_temporary_files_fail(world):
    """With each errno as the client has it; not elsewhere, and not another server's."""
    session, other = Session(world.server), Session(world.plain)
    sort = "select count(*) from (select pad || id from t order by 1 offset 0) x"
    assert session.ask(sort, 30) == other.ask(sort, 30) == "40000"
    for name, words in (("ENOSPC", "No space left on device"), ("EDQUOT", "Disk quota exceeded"),
                        ("EROFS", "Read-only file system")):
        experiment = world.agent.inject("disk-error", world.name, {
            "errno": name, "operations": ["write"], "paths": ["temp"]})
        answer = session.ask(sort, 30)
        assert words in answer, (name, answer)
        assert session.ask("insert into w (v) values (2) returning 'ok'") == "ok"
        assert other.ask(sort, 30) == "40000"
        info = world.agent.get(experiment)
        assert (info["mechanism"] == "syscall gate") == (name == "EROFS"), info
        assert name != "EROFS" or "EROFS" in info["evidence"]["no_file_gate"], info
        world.agent.revert(experiment)
        assert session.ask(sort, 30) == "40000"
        expect_clean(world, experiment)
    session.close()
    other.close()


def test_reads_fail_after_so_many(world):
    """At SQL and by dd within the instance: N reads, then none. The host reads the same file all the while."""
    session, other = Session(world.server), Session(world.plain)
    path, page = path_of(world.server, "t"), 500
    host = f"{world.server.data}/{path}"
    for mechanism in ("auto", "syscall"):
        experiment = world.agent.inject("disk-error", world.name, {
            "operations": ["read"], "paths": [path], "titles": ["backend"], "after": 3, "mechanism": mechanism})
        answers = [session.ask(f"select count(*) > 0 from heap_page_items(get_raw_page('t', {n}))", 20)
                   for n in range(page, page + 50, 10)]
        assert answers[:3] == ["t"] * 3 and all("Input/output error" in a for a in answers[3:]), answers
        assert read_one_ms(other, page) < 1000
        assert world.agent.get(experiment)["hits"] == 2
        world.agent.revert(experiment)
        expect_clean(world, experiment)
        assert session.ask("select count(*) from t", 60).endswith("40000")
        page += 50
        experiment = world.agent.inject("disk-error", world.name, {
            "operations": ["read"], "paths": [path], "after": 5, "mechanism": mechanism})
        done, words = dd_inside(world.server, path, 20)
        assert done == 5 and "Input/output error" in words, words
        subprocess.run(["dd", f"if={host}", "of=/dev/null", "bs=8k", "count=20"], check=True, stderr=subprocess.DEVNULL)
        world.agent.revert(experiment)
        assert dd_inside(world.server, path, 20)[0] == 20
        expect_clean(world, experiment)
    session.close()
    other.close()


def test_the_plain_servers_reads_fail(world):
    """By the syscall gate; the other server's and the host's do not."""
    path = path_of(world.plain, "t")
    experiment = world.agent.inject("disk-error", world.plain_name, {"operations": ["read"], "paths": [path], "after": 4})
    done, words = dd_inside(world.plain, path, 20)
    assert done == 4 and "Input/output error" in words, words
    subprocess.run(["dd", f"if={world.plain.data}/{path}", "of=/dev/null", "bs=8k", "count=20"], check=True,
                   stderr=subprocess.DEVNULL)
    assert dd_inside(world.server, path_of(world.server, "t"), 20)[0] == 20
    world.agent.revert(experiment)
    expect_clean(world, experiment)


def test_spread_of_delays(world):
    """Whose sample is so far off comes by once in a hundred thousand runs; lateness only makes delays longer, so it
    is the short ones that show the spread."""
    path = path_of(world.server, "t")
    for mechanism in ("auto", "syscall"):
        for distribution, n in (("uniform", 80), ("normal", 200)):
            experiment = world.agent.inject("disk-latency", world.name, {
                "delay": "20ms", "jitter": "8ms", "distribution": distribution, "operations": ["read"], "paths": [path],
                "mechanism": mechanism})
            times = reads_ms(world, n)
            world.agent.revert(experiment)
            expect_clean(world, experiment)
            mean, near = statistics.mean(times), statistics.median(times)
            print(f"  {mechanism}, {distribution}: mean {mean:.1f} ms, median {near:.1f}, {min(times):.1f}..{max(times):.1f}")
            assert len(times) == n and mean > 15 and 14 < near < 60, times
            assert min(times) < 19 and max(times) > 25, times
            assert (min(times) < 12) == (distribution == "normal"), times


def test_a_share_is_late(world):
    """30 % of 200: 60, and five standard deviations (6.5) around it."""
    path = path_of(world.server, "t")
    for mechanism in ("auto", "syscall"):
        experiment = world.agent.inject("disk-latency", world.name, {
            "delay": "25ms", "percent": "30%", "operations": ["read"], "paths": [path], "mechanism": mechanism})
        times = reads_ms(world, 200)
        hits = world.agent.get(experiment)["hits"]
        world.agent.revert(experiment)
        expect_clean(world, experiment)
        late = sum(t >= 25 for t in times)
        print(f"  {mechanism}: {late} of 200 reads late")
        assert len(times) == 200 and 27 < hits < 93 and hits <= late < 100, (hits, late)


def test_slow_checkpointer(world):
    """While a session's own commit stays quick."""
    session, other = Session(world.server), Session(world.server)
    assert session.ask("insert into w (v) select 5 from generate_series(1, 5000) returning 'ok' limit 1") != ""
    experiment = world.agent.inject("disk-latency", world.name, {
        "delay": "400ms", "titles": ["checkpointer"], "operations": ["write", "fsync", "fdatasync"]})
    write_ms(other, 1)
    other.send("checkpoint")
    assert write_ms(session) < 200
    assert other.receive(0.4) is None, "the checkpoint was quick"
    world.agent.revert(experiment)
    assert other.ask("select 'done'", 30) == "done"
    info = world.agent.get(experiment)
    assert info["hits"] >= 1, info
    expect_clean(world, experiment)
    session.close()
    other.close()


def test_a_write_that_flushes_is_a_write(world):
    """wal_sync_method open_datasync: O_DSYNC, and no call to flush."""
    session = Session(world.server)
    world.server.query("alter system set wal_sync_method = open_datasync")
    world.server.query("select pg_reload_conf()")
    wait_for("the setting", lambda: session.ask("show wal_sync_method") == "open_datasync")
    write_ms(session, 1)
    try:
        for operations, slow in ((["fsync", "fdatasync"], False), (["write"], True)):
            experiment = world.agent.inject("disk-latency", world.name, {
                "delay": "200ms", "operations": operations, "paths": ["wal"], "mechanism": "syscall"})
            took = write_ms(session)
            world.agent.revert(experiment)
            expect_clean(world, experiment)
            assert (took > 195) == slow, (operations, took)
    finally:
        world.server.query("alter system reset wal_sync_method")
        world.server.query("select pg_reload_conf()")
    session.close()


def test_allocating_is_a_write(world):
    """fallocate, by which PostgreSQL 16 makes a table longer."""
    for mechanism in ("auto", "syscall"):
        experiment = world.agent.inject("disk-error", world.name, {
            "errno": "ENOSPC", "operations": ["write"], "paths": ["base/longer"], "mechanism": mechanism})
        words = inside(world.server, "fallocate -l 64k base/longer; rm -f base/longer")
        world.agent.revert(experiment)
        expect_clean(world, experiment)
        assert "No space left on device" in words, words
        assert inside(world.server, "fallocate -l 64k base/longer && rm base/longer") == ""


def test_the_wals_volume_alone(world):
    """By both gates: the WAL is slow, data and tablespace are not."""
    for mechanism, gate in (("syscall", "syscall_gate"), ("file", "file_gate")):
        experiment = world.agent.inject("disk-latency", world.name, {
            "delay": "300ms", "operations": ["write"], "paths": ["wal"], "mechanism": mechanism})
        session = Session(world.server)     # opens its files: the file gate sees no other
        page = 20 if mechanism == "syscall" else 21
        assert read_one_ms(session, page) < 200 and read_one_ms(session, page, "f") < 200
        answer, took = timed(session.ask, "insert into w (v) values (6) returning 'ok'", 30)
        assert answer == "ok" and took > 0.295, (answer, took)
        evidence = world.agent.get(experiment)["evidence"][gate]
        assert set(evidence["paths"]) == {"wal"} and set(evidence["operations"]) == {"write"}, evidence
        world.agent.revert(experiment)
        expect_clean(world, experiment)
        session.close()


def test_the_tablespaces_volume_alone(world):
    """Likewise, and that its reads fail while others do not."""
    old = Session(world.server)
    read_one_ms(old, 30)
    read_one_ms(old, 30, "f")
    for mechanism, gate in (("syscall", "syscall_gate"), ("file", "file_gate")):
        experiment = world.agent.inject("disk-latency", world.name, {
            "delay": "300ms", "operations": ["read"], "paths": ["tablespace"], "mechanism": mechanism})
        session = old if mechanism == "syscall" else Session(world.server)
        page = 31 if mechanism == "syscall" else 32
        assert write_ms(session) < 200 and read_one_ms(session, page) < 200
        assert read_one_ms(session, page, "f") > 295
        evidence = world.agent.get(experiment)["evidence"][gate]
        assert set(evidence["paths"]) == {"tablespace"}, evidence
        world.agent.revert(experiment)
        expect_clean(world, experiment)
    for paths, fails in ((["tablespace"], "f"), (["data"], "t")):
        experiment = world.agent.inject("disk-error", world.name, {
            "operations": ["read"], "paths": paths, "titles": ["backend"], "mechanism": "syscall"})
        for table in ("t", "f"):
            page += 1
            answer = old.ask(f"select count(*) > 0 from heap_page_items(get_raw_page('{table}', {page}))", 20)
            assert ("Input/output error" in answer) == (table == fails) and (table == fails or answer == "t"), answer
        assert old.ask("insert into w (v) values (7) returning 'ok'") == "ok"
        world.agent.revert(experiment)
        expect_clean(world, experiment)
    old.close()


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
    for params in ({"operations": ["fsync", "fdatasync", "open"], "paths": ["temp"]},
                   {"operations": ["fdatasync"], "titles": ["nobody"]},
                   {"operations": ["read", "write"], "paths": ["temp"], "mechanism": "file"}):
        experiment = world.agent.inject("disk-latency", world.name, {"delay": "5s", **params})
        assert world.server.pgbench("-T", "1", "-c", "4") > 0
        assert world.agent.get(experiment)["hits"] == 0
        world.agent.revert(experiment)
        expect_clean(world, experiment)
    expect_whole(world.server)


def test_zy_data_are_whole(world):
    """After all these faults: it ends without a word, and each page on the disk has its checksum."""
    for server in (world.server, world.plain):
        expect_whole(server)
        os.kill(server.postmaster, signal.SIGINT)
        server.process.wait(60)
        done = subprocess.run(Server.as_postgres(f"{bin_dir()}/pg_checksums", "--check", "-D", server.data), cwd="/",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        assert done.returncode == 0, done.stdout
        server.start()


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
