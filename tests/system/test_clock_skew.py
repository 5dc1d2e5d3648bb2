"""clock-skew on a real PostgreSQL, seen from outside: SQL's clock beside the node's, the bytes of each
process's vDSO, bystanders, programs that are not PostgreSQL, and agents that die or stand still."""
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from harness.vdso import is_pristine, vdso
from lib_postgres import (
    Server, Session, bin_dir, cgroup_root, children, title, wait_for)

CLOCK = "select extract(epoch from clock_timestamp())"
HOUR = 3600
CYCLES = 50
# Threads read clocks as fast as they can and look for steps back; asked, it tells the time.
MANAGER = """
import os, sys, threading, time
bad = []
def read():
    last = time.monotonic()
    while True:
        now = time.monotonic()
        if now < last:
            bad.append((last, now))
        last = now
        time.time()
for _ in range(int(sys.argv[1])):
    threading.Thread(target=read, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "fork":
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.write(write_end, repr(time.time()).encode())
            os._exit(0)
        os.wait()
        print(os.read(read_end, 64).decode(), flush=True)
        os.close(read_end)
        os.close(write_end)
    else:
        print(time.time(), time.monotonic(), int(time.time()) - int(time.mktime(time.localtime())),
              len(bad), flush=True)
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class World:
    """One server in namespaces and a cgroup of its own, a plain one beside it, an agent."""

    def __init__(self):
        self.things, self.programs = [], []
        self.server = self.keep(Server(f"ca{os.getpid()}", 55441, cluster=f"pjclock{os.getpid()}"))
        self.plain = self.keep(Server(f"cb{os.getpid()}", free_port(), alone=False,
                                      cluster=f"pjclockplain{os.getpid()}"))
        self.server.start()
        self.plain.start()
        self.agent = self.keep(Agent.alone())
        self.find_names()

    def find_names(self):
        self.name = self.agent.instance_of(self.server.postmaster)["name"]
        self.plain_name = self.agent.instance_of(self.plain.postmaster)["name"]

    def keep(self, thing):
        self.things.append(thing)
        return thing

    def tidy(self):
        """What a failed test left would fail the next ones too."""
        for program in list(self.programs):
            program.end()
        for experiment in self.agent.call("GET", "/v1/experiments")["experiments"]:
            if experiment["state"] not in ("clean", "refused"):
                self.agent.revert(experiment["experiment"])

    def remove(self):
        for program in list(self.programs):
            program.end()
        for thing in reversed(self.things):
            thing.remove()


class Program:
    """A program in the instance's cgroup and namespaces, as its manager is."""

    def __init__(self, world, *command):
        self.world = world
        world.programs.append(self)
        inside = world.server.postmaster
        procs = cgroup_root() + world.server.cgroup + "/cgroup.procs"
        script = 'echo 0 >"$0" && exec nsenter -t "$1" -m -p -u -n -- sh -c \'exec "$@"\' sh "${@:2}"'
        self.process = subprocess.Popen(["bash", "-c", script, procs, str(inside), *command],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, start_new_session=True)

    @property
    def pid(self):
        return wait_for("the program", lambda: children(self.process.pid))[0]

    def line(self, limit=20):
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], limit)
            part = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert part, "the program does not answer"
            text += part
        return text.decode().strip()

    def ask(self, what="time"):
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()
        return self.line()

    def off(self):
        return float(self.ask().split()[0]) - time.time()

    def end(self):
        self.world.programs.remove(self)
        for pid in children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def python(world, threads=4):
    program = Program(world, "/usr/bin/python3", "-c", MANAGER, str(threads))
    assert program.line() == "ready"
    return program


def off(session):
    """How far SQL's clock is from the node's, in seconds."""
    return float(session.ask(CLOCK)) - time.time()


def off_anew(server):
    """The same on a backend of its own."""
    return float(server.query(CLOCK)) - time.time()


def near(value, wanted, slack=3.0):
    assert abs(value - wanted) < slack, f"{value:.3f} s, wanted {wanted} s"


def processes(world):
    folder = cgroup_root() + world.server.cgroup
    with open(f"{folder}/cgroup.procs", encoding="ascii") as f:
        return [int(line) for line in f]


def expect_pristine(world):
    changed = [(pid, title(pid)) for pid in processes(world) if not is_pristine(pid)]
    assert changed == [], changed


def expect_clean(world, experiment):
    info = world.agent.get(experiment)
    assert info["state"] == "clean" and info["verified_clean"], info
    assert world.agent.entries() == [], world.agent.entries()
    expect_pristine(world)


def test_an_hour_ahead_and_back(world):
    for direction, wanted in (("forward", HOUR), ("back", -HOUR)):
        for mechanism in ("detour", "stub"):
            old, other = Session(world.server), Session(world.plain)
            near(off(old), 0)
            experiment = world.agent.arm("clock-skew", world.name, {
                "offset": "1h", "direction": direction, "mechanism": mechanism})
            near(off(old), 0)
            expect_pristine(world)      # armed: nothing is there yet
            info = world.agent.fire(experiment)
            assert info["mechanism"] == mechanism and info["lifetime"] == "expiring", info
            near(off(old), wanted)
            near(off_anew(world.server), wanted)
            near(off(other), 0)
            near(off_anew(world.plain), 0)
            info = world.agent.get(experiment)
            everything = [world.server.postmaster, *children(world.server.postmaster)]
            assert info["hits"] >= len(everything) - 1, info
            kinds = {p["kind"] for p in info["evidence"]["listed"]}
            assert {"postmaster", "checkpointer", "walwriter", "backend"} <= kinds, kinds
            assert {p["mechanism"] for p in info["evidence"]["listed"]} == {mechanism}, info
            assert info["evidence"]["skew"]["direction"] == direction, info
            late = Session(world.server)        # born skewed, lives on
            near(off(late), wanted)
            assert not is_pristine(world.server.postmaster)
            assert is_pristine(world.plain.postmaster) and is_pristine(world.agent.process.pid)
            world.agent.revert(experiment)
            for session in (old, late, other):
                near(off(session), 0)
            near(off_anew(world.server), 0)
            expect_clean(world, experiment)
            print(f"  {direction} {mechanism}: {len(everything)} processes, stood "
                  f"{info['evidence']['stop_ms']} ms, {info['evidence']['tries']} tries")
            for session in (old, late, other):
                session.close()


def test_drift(world):
    session = Session(world.server)
    for direction, sign in (("forward", 1), ("back", -1)):
        experiment = world.agent.inject("clock-skew", world.name,
                                        {"drift": 500000, "direction": direction})
        first, start = off(session), time.monotonic()
        time.sleep(2)
        drifted, took = off(session) - first, time.monotonic() - start
        assert abs(drifted - sign * 0.5 * took) < 0.1, (drifted, took)
        world.agent.revert(experiment)
        near(off(session), 0, 0.2)
        expect_clean(world, experiment)
    session.close()


def test_strobe(world):
    session = Session(world.server)
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h", "strobe": "400ms"})
    seen, changes, end = [], 0, time.monotonic() + 4
    while time.monotonic() < end:
        seen.append(off(session) > HOUR / 2)
        changes += len(seen) > 1 and seen[-1] != seen[-2]
        time.sleep(0.01)
    assert 6 <= changes <= 11, changes
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def test_jump_after(world):
    session = Session(world.server)
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h", "after": "1500ms"})
    start = time.monotonic()
    near(off(session), 0)
    wait_for("the clock jumps", lambda: off(session) > HOUR / 2)
    took = time.monotonic() - start
    assert 1.2 < took < 3, took
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def test_deadline_with_no_agent(world):
    """Killed or standing still: the clock comes right by itself."""
    for number in (signal.SIGKILL, signal.SIGSTOP):
        session = Session(world.server)
        world.agent.inject("clock-skew", world.name, {"offset": "1h"}, duration_ms=3000)
        start = time.monotonic()
        world.agent.process.send_signal(number)
        if number == signal.SIGKILL:
            world.agent.process.wait()
        near(off(session), HOUR)
        near(off_anew(world.server), HOUR)
        wait_for("the clock is right again", lambda: off(session) < HOUR / 2, 10)
        took = time.monotonic() - start
        assert 2 < took < 4.5, took
        near(off(session), 0)
        near(off_anew(world.server), 0)
        print(f"  right again {took:.2f} s after {number.name}, of 3 s")
        if number == signal.SIGKILL:
            world.agent.start()
        else:
            world.agent.process.send_signal(signal.SIGCONT)
        wait_for("the journal is empty", lambda: world.agent.entries() == [], 5)
        expect_pristine(world)
        near(off(session), 0)
        session.close()


def test_agent_killed_and_started_again(world):
    session = Session(world.server)
    world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    world.agent.kill()
    near(off(session), HOUR)
    late = Session(world.server)        # born while nobody is there
    near(off(late), HOUR)
    world.agent.start()
    near(off(session), 0)
    near(off(late), 0)
    assert world.agent.entries() == []
    expect_pristine(world)
    session.close()
    late.close()


def test_cycles_under_load(world):
    world.server.pgbench("-i", "-q", "-s", "1")
    seconds = 60
    bench = subprocess.Popen([f"{bin_dir()}/pgbench", "-h", world.server.folder, "-p",
                              str(world.server.port), "-U", "postgres", "-c", "4", "-C", "-T",
                              str(seconds), "-n", "postgres"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    started = world.server.query("select pg_postmaster_start_time()")
    longest, tries = 0, 0
    try:
        for i in range(CYCLES):
            params = {"offset": "1h", "direction": ("forward", "back")[i % 2],
                      "mechanism": ("detour", "stub")[i % 5 == 4]}
            experiment = world.agent.inject("clock-skew", world.name, params)
            detail = world.agent.get(experiment)["evidence"]
            longest, tries = max(longest, detail["stop_ms"]), tries + detail["tries"]
            world.agent.revert(experiment)
            info = world.agent.get(experiment)
            assert info["state"] == "clean", info
        assert bench.poll() is None, "the load ended before the cycles did"
    finally:
        bench.send_signal(signal.SIGINT)
        text = bench.communicate(timeout=30)[0].decode()
    assert "ERROR" not in text and "server closed" not in text, text
    assert world.server.query("select pg_postmaster_start_time()") == started
    with open(f"{world.server.folder}/log", encoding="utf-8") as f:
        log = f.read()
    assert "terminated by signal" not in log, log[-2000:]
    expect_pristine(world)
    assert world.agent.entries() == []
    print(f"  {CYCLES} cycles: longest stop {longest} ms, {tries} tries in all")


def test_manager_and_all(world):
    program, session = python(world), Session(world.server)
    experiment = world.agent.inject("clock-skew", world.name,
                                    {"offset": "1h", "processes": "manager"})
    near(program.off(), HOUR)
    near(float(program.ask("fork")) - time.time(), HOUR)
    near(off(session), 0)
    near(off_anew(world.server), 0)
    world.agent.revert(experiment)
    near(program.off(), 0)
    expect_clean(world, experiment)
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h", "processes": "all"})
    near(program.off(), HOUR)
    near(off(session), HOUR)
    newcomer = python(world)            # an exec: a clean vDSO, until the next look
    wait_for("the newcomer is skewed", lambda: newcomer.off() > HOUR / 2, 5)
    world.agent.revert(experiment)
    for asked in (program.off(), newcomer.off(), off(session)):
        near(asked, 0)
    expect_clean(world, experiment)
    program.end()
    newcomer.end()
    session.close()


def test_monotonic(world):
    program = python(world, 0)      # Python's threads wait for one another by the kernel's clock
    before = float(program.ask().split()[1]) - time.monotonic()
    experiment = world.agent.inject("clock-skew", world.name, {
        "offset": "10m", "processes": "manager", "clocks": "monotonic"})
    wall, monotonic, _, _ = (float(x) for x in program.ask().split())
    near(wall - time.time(), 0)
    near(monotonic - time.monotonic() - before, 600)
    world.agent.revert(experiment)
    wall, monotonic, _, _ = (float(x) for x in program.ask().split())
    near(monotonic - time.monotonic() - before, 0)
    expect_clean(world, experiment)
    program.end()


def test_programs_survive(world):
    """Threads that read clocks all the time, and a Go program."""
    programs = [python(world)]
    etcd = shutil.which("etcd")
    folder = f"{world.server.folder}/etcd"
    if etcd:
        programs.append(Program(world, etcd, "--data-dir", folder, "--listen-client-urls",
                                "http://127.0.0.1:23791", "--advertise-client-urls",
                                "http://127.0.0.1:23791", "--listen-peer-urls",
                                "http://127.0.0.1:23801", "--initial-advertise-peer-urls",
                                "http://127.0.0.1:23801", "--initial-cluster",
                                "default=http://127.0.0.1:23801"))
        wait_for("etcd answers", lambda: etcd_health(world))
    pids = [p.pid for p in programs]
    for i in range(CYCLES):
        experiment = world.agent.inject("clock-skew", world.name, {
            "offset": "1h", "processes": "all", "mechanism": ("detour", "stub")[i % 5 == 4]})
        near(programs[0].off(), HOUR)
        world.agent.revert(experiment)
        near(programs[0].off(), 0)
    assert [p.pid for p in programs] == pids
    assert programs[0].ask().split()[3] == "0", "the monotonic clock went back"
    if etcd:
        assert wait_for("etcd answers", lambda: etcd_health(world))
    expect_clean(world, experiment)
    for program in programs:
        program.end()
    print(f"  {CYCLES} cycles with a Python program of 5 threads" + (" and etcd" if etcd else ""))


def etcd_health(world):
    ask = ("import urllib.request as u; "
           "print(u.urlopen('http://127.0.0.1:23791/health', timeout=5).read().decode())")
    done = subprocess.run(["nsenter", "-t", str(world.server.postmaster), "-n", "/usr/bin/python3",
                           "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return '"true"' in done.stdout.decode()


def refused(world, status, words, instance, params):
    before = world.agent.entries()
    try:
        world.agent.arm("clock-skew", instance, params)
    except AgentError as e:
        text = str(e)
        assert e.status == status and all(w in text for w in words), text
        assert world.agent.entries() == before
        return
    raise AssertionError(f"not refused: {params}")


def test_refusals(world):
    refused(world, 400, ["offset"], world.name, {})
    refused(world, 400, ["offset"], world.name, {"offset": "0"})
    refused(world, 400, ["after"], world.name, {"offset": "1h", "after": "2h"})
    refused(world, 400, ["up for only"], world.name,
            {"offset": "80000h", "clocks": "both", "direction": "back"})
    # The plain server shares its cgroup with this test and the agent.
    refused(world, 403, ["processes=postgres"], world.plain_name, {"offset": "1h", "processes": "all"})
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    refused(world, 409, ["another experiment"], world.name, {"offset": "2h"})
    world.agent.revert(experiment)
    expect_clean(world, experiment)


def test_a_debugger(world):
    """A process that somebody else traces: refused when arming; tried again when reverting."""
    session = Session(world.server)
    near(off(session), 0)
    victim = world.server.backends("postgres postgres")[0]
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17
    assert libc.ptrace(seize, victim, None, None) == 0
    refused(world, 409, ["traced by process"], world.name, {"offset": "1h"})
    libc.ptrace(interrupt, victim, None, None)
    os.waitpid(victim, 0x40000000)
    assert libc.ptrace(detach, victim, None, None) == 0
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    near(off(session), HOUR)
    assert libc.ptrace(seize, victim, None, None) == 0
    try:
        world.agent.revert(experiment)
    except AgentError as e:
        assert "traced by process" in str(e), e
    near(off(session), 0)               # the skew is over, though its code is still there
    assert not is_pristine(victim)
    libc.ptrace(interrupt, victim, None, None)
    os.waitpid(victim, 0x40000000)
    assert libc.ptrace(detach, victim, None, None) == 0
    wait_for("it was tried again", lambda: world.agent.get(experiment)["state"] == "clean", 30)
    expect_clean(world, experiment)
    session.close()


def test_reverted_while_frozen(world):
    session = Session(world.server)
    skew = world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    freeze = world.agent.inject("proc-freeze", world.name, {"processes": "postgres"})
    session.send(CLOCK)
    assert session.receive(0.3) is None
    world.agent.revert(skew)
    expect_clean_but(world, skew, freeze)
    world.agent.revert(freeze)
    near(float(session.receive(5)) - time.time(), 0, 5)
    expect_clean(world, freeze)
    session.close()


def test_reverted_while_a_disk_fault_holds_calls(world):
    """Its gate is the tracer of all sessions, and keeps one call in the middle."""
    session, syncing = Session(world.server), Session(world.server)
    session.send("create table syncs (n int)")
    session.receive(20)
    skew = world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    gate = world.agent.inject("disk-latency", world.name, {
        "delay": "4s", "operations": ["fdatasync", "fsync"], "mechanism": "syscall"})
    refused(world, 409, ["another experiment"], world.name, {"offset": "2h"})
    syncing.send("insert into syncs values (1)")
    near(off(session), HOUR)
    world.agent.revert(skew)
    expect_clean_but(world, skew, gate)
    near(off(session), 0)
    refused(world, 409, [f"held by disk-latency of experiment {gate}"], world.name, {"offset": "1h"})
    world.agent.revert(gate)
    syncing.receive(20)
    expect_clean(world, gate)
    session.send("drop table syncs")
    session.receive(20)
    session.close()
    syncing.close()


def expect_clean_but(world, experiment, other):
    info = world.agent.get(experiment)
    assert info["state"] == "clean" and info["verified_clean"], info
    assert world.agent.get(other)["state"] == "active"
    expect_pristine(world)


def test_the_target_ends_while_armed(world):
    experiment = world.agent.arm("clock-skew", world.name, {"offset": "1h"})
    world.server.stop()
    world.server.start()
    try:
        info = world.agent.fire(experiment)
        assert info["state"] != "active", info
    except AgentError as e:
        assert e.status in (409, 410), e
    wait_for("the experiment is over",
             lambda: world.agent.get(experiment)["state"] in ("clean", "refused"))
    assert world.agent.entries() == []
    near(off_anew(world.server), 0)
    expect_pristine(world)


def test_the_target_ends_while_skewed(world):
    experiment = world.agent.inject("clock-skew", world.name, {"offset": "1h"})
    world.server.stop()
    wait_for("the experiment ends by itself",
             lambda: world.agent.get(experiment)["state"] == "clean")
    assert world.agent.get(experiment)["end_reason"] == "target-gone", world.agent.get(experiment)
    assert world.agent.entries() == []
    world.server.start()
    near(off_anew(world.server), 0)


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root(), "a vDSO": vdso()})
