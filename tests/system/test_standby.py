"""Faults between a primary and its streaming standby, told by PostgreSQL's own logs and views, by /proc and by
what is on the disk."""
import hashlib
import os
import re
import socket
import threading
import time

import suite
from lib_postgres import Session, bin_dir, cgroup_root, inside, state, wait_for
from standby_world import HOST, PORT, PRIMARY, STANDBY, FromStandby, Log, World

OTHER_PORT = 7000
# What PostgreSQL says of a record that is not as it was written.
DAMAGE = "incorrect resource manager data checksum|invalid resource manager ID|incorrect prev-link|invalid magic number"
MB = 1 << 20


def stays(what, call, seconds=0.5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert call(), f"no longer: {what}"
        time.sleep(0.02)


# ---- a wire that changes bytes ----

def complaints(server):
    """The kernel's counters of TCP in the server's network that would tell of damage, or of a connection that
    the kernel and no program gave up."""
    found = {}
    for name in ("snmp", "netstat"):
        with open(f"/proc/{server.postmaster}/net/{name}", encoding="ascii") as f:
            lines = [line.split() for line in f]
        for heads, values in zip(lines[::2], lines[1::2]):
            found.update(dict(zip((heads[0] + head for head in heads[1:]), values[1:])))
    return {name: found[name] for name in ("Tcp:InErrs", "Tcp:InCsumErrors", "Ip:InHdrErrors",
                                           "TcpExt:TCPAbortOnTimeout", "TcpExt:TCPAbortOnMemory",
                                           "TcpExt:TCPAbortFailed")}


def exchange(world, size):
    """Megabytes from the primary's host to the standby's over a connection of no PostgreSQL; did they arrive as
    they were?"""
    def listen():
        s = socket.create_server((STANDBY, OTHER_PORT))
        s.settimeout(20)
        return s
    data = os.urandom(size)
    with inside(world.standby.postmaster, listen) as listener, \
            inside(world.primary.postmaster, lambda: socket.create_connection((STANDBY, OTHER_PORT), 20)) as client:
        def send():
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        peer, _ = listener.accept()
        sender = threading.Thread(target=send)
        sender.start()
        got = hashlib.sha256()
        with peer:
            peer.settimeout(20)
            while block := peer.recv(1 << 16):
                got.update(block)
        sender.join()
    return got.hexdigest() == hashlib.sha256(data).hexdigest()


def test_corrupt_wal(world):
    world.follow()
    primary, standby = world.primary, world.standby
    before = complaints(primary), complaints(standby)
    log, session = Log(standby), Session(primary)
    experiment = world.inject("net-shape", primary, **{"peers": [STANDBY], "direction": "out", "corrupt": "5%",
                                                       "corrupt-mode": "payload", "seed": 1})
    session.send("with new as (insert into t (pad) select repeat(md5(random()::text), 200) "
                 "from generate_series(1, 2000) returning 1) select count(*) from new")
    assert exchange(world, 16 * MB), "another connection between the same hosts was changed"
    assert session.receive(20) == "2000"
    session.close()
    until = log.wait(DAMAGE)
    assert not re.search("could not receive data from WAL stream|Connection reset", until), until
    assert exchange(world, 16 * MB), "another connection between the same hosts was changed"
    assert (complaints(primary), complaints(standby)) == before, "TCP noticed"
    lsn = primary.query("select pg_current_wal_flush_lsn()")
    stays("damaged WAL is not replayed", lambda: not world.has(lsn))
    info = world.end(experiment)
    assert info["hits"] >= 1 and info["evidence"]["corrupted"] == info["hits"], info
    # docs/drills-results.md: a startup process that has met damage does not leave it by itself.
    standby.stop()
    standby.start()
    wait_for("the standby has all", lambda: world.has(lsn))
    world.expect_same()


# ---- certificates ----

def digests(world):
    """Of all that is on the volume, as the host has it."""
    found = {}
    for name in sorted(os.listdir(world.authority.folder)):
        with open(world.authority.path(name), "rb") as f:
            stat = os.fstat(f.fileno())
            found[name] = hashlib.sha256(f.read()).hexdigest(), stat.st_ino, stat.st_mode, stat.st_mtime_ns
    return found


def refused_meanwhile(world, server, said_by_standby, said_by_primary=None, **params):
    """The standby streams on with its old connection, is refused once that is reset, and streams again afterwards."""
    before, old = digests(world), world.sender()
    experiment = world.inject("tls-cert", server, **params)
    world.caught_up()
    assert world.sender() == old, "the present connection ended"
    logs = Log(world.standby), Log(world.primary)
    reset = world.inject("conn-reset", world.primary, role="replication")
    logs[0].wait(said_by_standby)
    if said_by_primary:
        logs[1].wait(said_by_primary)
    stays("no walsender streams", lambda: world.sender() == "")
    assert digests(world) == before
    assert world.end(reset)["hits"] == 1
    assert world.end(experiment)["hits"] >= 1
    world.caught_up()
    assert digests(world) == before


VERIFY_FAILED = "could not accept SSL connection: certificate verify failed"
# The alert of TLS 1.3 comes after the handshake: a client may find the connection closed first, but not each time.
ALERT = "could not connect to the primary server: .*alert "


def test_client_certificate(world):
    world.follow(tls=True)
    key = world.authority.path("ca.key")
    refused_meanwhile(world, world.standby, ALERT + "certificate expired", VERIFY_FAILED,
                      **{"file": "client", "mode": "expired", "ca-key": key})
    refused_meanwhile(world, world.standby, ALERT + "unknown ca", VERIFY_FAILED, file="client", mode="untrusted")
    refused_meanwhile(world, world.standby, "could not read certificate file .*standby.crt",
                      file="client", mode="unreadable")


def test_ca_of_the_primary(world):
    world.follow(tls=True)
    for mode, alert in (("expired", "certificate expired"), ("not-yet-valid", "bad certificate"),
                        ("untrusted", "unknown ca")):
        refused_meanwhile(world, world.primary, ALERT + alert, VERIFY_FAILED, file="ca", mode=mode)


def test_ca_of_the_primary_unreadable(world):
    """The primary goes on with what it has loaded."""
    world.follow(tls=True)
    before, old, log = digests(world), world.sender(), Log(world.primary)
    experiment = world.inject("tls-cert", world.primary, file="ca", mode="unreadable")
    log.wait("could not load root certificate file .*ca.crt.*ermission denied")
    log.wait("SSL configuration was not reloaded")
    reset = world.inject("conn-reset", world.primary, role="replication")
    wait_for("another walsender", lambda: (s := world.sender()) != old and s, 10)
    world.end(reset)
    world.end(experiment)
    world.caught_up()
    assert digests(world) == before


# ---- processes ----

def one(server, kind):
    """The pid of the one process of that title."""
    return wait_for(f"one {kind}", lambda: (p := server.backends(kind)) and len(p) == 1 and p)[0]


def kill(world, server, kind, signal):
    """Once, of one process; its pid and the experiment."""
    pid = one(server, kind)
    experiment = world.inject("proc-kill", server, process="title", titles=[kind], signal=signal)
    info = world.agent.get(experiment)
    assert info["hits"] == 1, info
    wait_for(f"the {kind} is gone", lambda: state(pid) in (None, "Z"))
    return pid, experiment


def test_kill_walsender(world):
    """By SIGKILL: the primary's postmaster ends all sessions and recovers."""
    world.follow()
    postmaster, old = world.primary.postmaster, world.sender()
    log = Log(world.primary)
    pid, experiment = kill(world, world.primary, "walsender", "KILL")
    log.wait("was terminated by signal 9: Killed")
    new = wait_for("another walsender", lambda: (s := world.sender()) != old and s, 10)
    assert one(world.primary, "walsender") != pid and new.split()[0] != old.split()[0]
    assert world.primary.postmaster == postmaster
    world.end(experiment)
    world.caught_up()


def test_kill_by_title_others_stay(world):
    """By SIGTERM: the one process is replaced, and no other notices."""
    world.follow()
    for server, kind, other in ((world.primary, "walsender", "autovacuum launcher"),
                                (world.standby, "walreceiver", "startup"),
                                (world.primary, "autovacuum launcher", "walsender")):
        session, stands = Session(server), one(server, other)
        assert session.ask("select 1") == "1"
        pid, experiment = kill(world, server, kind, "TERM")
        wait_for(f"another {kind}", lambda: server.backends(kind) not in ([], [pid]), 10)
        world.end(experiment)
        world.caught_up()
        assert one(server, other) == stands and session.ask("select 2") == "2"
        session.close()


def test_kill_startup(world):
    """A standby does not live without it: its postmaster leaves, too."""
    world.follow()
    log = Log(world.standby)
    _, experiment = kill(world, world.standby, "startup", "KILL")
    log.wait(r"startup process \(PID \d+\) was terminated by signal 9")
    world.standby.process.wait(20)
    world.end(experiment)
    world.standby.start()
    world.expect_same()


def frozen(world, server, kind):
    pid = one(server, kind)
    experiment = world.inject("proc-freeze", server, processes="titles", titles=[kind])
    assert world.agent.get(experiment)["hits"] == 1 and state(pid) == "t"
    assert state(server.postmaster) != "t" and server.query("select 1") == "1"
    return pid, experiment


def thaw(world, server, kind, pid, experiment):
    world.end(experiment)
    assert state(pid) not in ("t", "T") and one(server, kind) == pid
    world.caught_up()


def test_freeze_startup(world):
    world.follow()
    pid, experiment = frozen(world, world.standby, "startup")
    lsn = world.write()
    wait_for("it is received", lambda: world.has(lsn, "receive"))
    stays("it is not replayed", lambda: not world.has(lsn) and world.sender())
    thaw(world, world.standby, "startup", pid, experiment)


def test_freeze_walreceiver(world):
    world.follow()
    old = world.sender()
    pid, experiment = frozen(world, world.standby, "walreceiver")
    lsn = world.write()
    wait_for("it is sent", lambda: world.primary.query(f"select sent_lsn >= '{lsn}' from pg_stat_replication") == "t")
    stays("it is not received", lambda: not world.has(lsn, "receive"))
    thaw(world, world.standby, "walreceiver", pid, experiment)
    assert world.sender() == old, "the connection was broken"


def test_freeze_walsender(world):
    world.follow()
    old = world.sender()
    pid, experiment = frozen(world, world.primary, "walsender")
    lsn = world.write()
    stays("it is not sent", lambda: not world.has(lsn, "receive") and
          world.primary.query(f"select sent_lsn < '{lsn}' from pg_stat_replication") == "t")
    thaw(world, world.primary, "walsender", pid, experiment)
    assert world.sender() == old, "the connection was broken"


def test_freeze_autovacuum_launcher(world):
    world.follow()
    pid, experiment = frozen(world, world.primary, "autovacuum launcher")
    world.caught_up()
    assert state(pid) == "t"
    thaw(world, world.primary, "autovacuum launcher", pid, experiment)


# ---- connections ----

def test_reset_replication(world):
    world.follow()
    client = Session(FromStandby(world))
    backend = client.ask("select pg_backend_pid()")
    old, logs = world.sender(), (Log(world.primary), Log(world.standby))
    experiment = world.inject("conn-reset", world.primary, role="replication")
    logs[0].wait("could not (receive data from|send data to) client|terminating walsender|connection to client lost")
    logs[1].wait("could not receive data from WAL stream")
    new = wait_for("another walsender", lambda: (s := world.sender()) != old and s, 10)
    assert all(a != b for a, b in zip(new.split(), old.split())), (old, new)
    info = world.end(experiment)
    assert info["hits"] == 1 and info["evidence"]["reset"]["replication"] == 1, info
    assert [c["local"] for c in info["evidence"]["connections"]] == [f"{PRIMARY}:{PORT}"], info
    assert client.ask("select pg_backend_pid()") == backend, "a client's session was hit"
    client.close()
    world.caught_up()


# ---- the standby's disk ----

def commit_ms(world, session, level, times):
    """The quickest of so many, each on a standby that has flushed all before it."""
    took = []
    for _ in range(times):
        wait_for("all is flushed", lambda: world.primary.query(
            "select flush_lsn >= pg_current_wal_flush_lsn() from pg_stat_replication") == "t")
        start = time.monotonic()
        assert session.ask(f"set synchronous_commit = {level}; insert into t (pad) values ('x') returning 'ok'") == "ok"
        took.append((time.monotonic() - start) * 1000)
    return round(min(took))


def set_synchronous(world, names):
    world.primary.query(f"alter system set synchronous_standby_names = '{names}'")
    world.primary.query("select pg_reload_conf()")


def write_beside_wal(world, session):
    """A megabyte by the session's own backend, where the WAL lies."""
    path = f"{world.standby.data}/pg_wal/beside"
    try:
        assert session.ask(f"copy (select repeat('x', {MB})) to '{path}'; select 1", 60) == "1"
        assert os.path.getsize(path) > MB
    finally:
        if os.path.exists(path):
            os.unlink(path)


def test_latency_of_the_walreceiver(world):
    """A flush that is late delays commits that wait for it; a late write those that wait for that alone, too."""
    world.follow()
    set_synchronous(world, "*")
    wait_for("it is synchronous", lambda: world.primary.query("select sync_state from pg_stat_replication") == "sync")
    session, reader = Session(world.primary), Session(world.standby)
    try:
        for operation, slow in (("fdatasync", ["on"]), ("write", ["on", "remote_write"])):
            for level in ("on", "remote_write"):
                assert commit_ms(world, session, level, 3) < 1000, level
            experiment = world.inject("disk-latency", world.standby, delay="2s", paths=["wal"],
                                      titles=["walreceiver"], operations=[operation])
            times = {level: commit_ms(world, session, level, 1 if level in slow else 3)
                     for level in ("local", "remote_write", "on")}
            print(f"  {operation} 2 s late, commits in ms: {times}")
            assert all(ms > 1980 if level in slow else ms < 1000 for level, ms in times.items()), times
            write_beside_wal(world, reader)
            info = world.end(experiment)
            assert info["hits"] >= len(slow), info
            for gate in (gate for name, gate in info["evidence"].items() if name.endswith("_gate")):
                assert set(gate["operations"]) <= {operation} and set(gate["paths"]) <= {"wal"}, gate
                assert gate["held_peak"] <= 1 and gate["bytes"] < MB, f"another process was hit: {gate}"
            world.caught_up()
    finally:
        set_synchronous(world, "")
        session.close()
        reader.close()
    world.expect_same()


# ---- names ----

def test_name_of_the_primary(world):
    world.follow(named=True)
    assert world.names.asked > 0, "nobody asked for the name"
    for mode in ("nxdomain", "timeout"):
        old, asked, log = world.sender(), world.names.asked, Log(world.standby)
        experiment = world.inject("dns", world.standby, mode=mode)
        world.caught_up()
        assert world.sender() == old, "the present connection ended"
        reset = world.inject("conn-reset", world.standby, role="replication")
        log.wait(f'could not translate host name "{HOST}" to address')
        stays("it cannot come back", lambda: world.sender() == "", 1)
        assert world.names.asked == asked, "a query left"
        assert world.end(reset)["hits"] == 1
        assert world.end(experiment)["hits"] >= 1
        wait_for("it comes back", world.sender)
        world.caught_up()
        assert world.names.asked > asked and world.sender() != old


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
