"""clock-skew on a real PostgreSQL, seen from outside: SQL's clock beside the node's, the bytes of each
process's vDSO, bystanders, programs that are not PostgreSQL, and agents that die or stand still."""
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from harness.ports import free_port
from harness.vdso import is_pristine, vdso
from lib_postgres import (
    Server, Session, bin_dir, cgroup_root, children, title, wait_for)

CLOCK = "select extract(epoch from clock_timestamp())"
HOUR = 3600
CYCLES = 50
ETCD_CLIENTS, ETCD_PEERS = "http://127.0.0.1:23791", "http://127.0.0.1:23801"
# Threads read clocks as fast as they can and look for steps back; asked, it tells the time: by
# clock_gettime, monotonic, how far gettimeofday and time are from clock_gettime, how many steps back.
MANAGER = """
import ctypes, os, sys, threading, time
bad = []
libc = ctypes.CDLL(None)
libc.time.restype = ctypes.c_long
def disagree():
    day, now = (ctypes.c_long * 2)(), time.clock_gettime(time.CLOCK_REALTIME)
    libc.gettimeofday(day, None)
    return max(abs(day[0] + day[1] / 1e6 - now), abs(libc.time(None) + 0.5 - now))
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
        print(time.time(), time.monotonic(), disagree(), len(bad), flush=True)
"""


class World(suite.Things):
    """One server in namespaces and a cgroup of its own, a plain one beside it, an agent."""

    def __init__(self):
        super().__init__()
        self.programs = []
        self.server = self.keep(Server(f"ca{os.getpid()}", 25441, cluster=f"pjclock{os.getpid()}"))
        self.plain = self.keep(Server(f"cb{os.getpid()}", free_port(), alone=False,
                                      cluster=f"pjclockplain{os.getpid()}"))
        self.server.start()
        self.plain.start()
        self.agent = self.keep(Agent.alone())
        self.find_names()

    def find_names(self):
        self.name = self.agent.instance_of(self.server.postmaster)["name"]
        self.plain_name = self.agent.instance_of(self.plain.postmaster)["name"]

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
        super().remove()


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


class Monotonic:
    """How far a program's monotonic clock is from the node's, beside what it was."""

    def __init__(self, program):
        self.program, self.before = program, 0
        self.before = self.off()

    def off(self):
        return float(self.program.ask().split()[1]) - time.monotonic() - self.before


def test_monotonic(world):
    for threads, sign, offset in ((0, 1, 600), (0, -1, 60), (4, -1, 60)):
        # Python's threads wait for one another by the kernel's clock: forward they would stand.
        program = python(world, threads)
        clock = Monotonic(program)
        experiment = world.agent.inject("clock-skew", world.name, {
            "offset": f"{offset}s", "processes": "manager", "clocks": "monotonic",
            "direction": "forward" if sign > 0 else "back"})
        near(program.off(), 0)
        near(clock.off(), sign * offset)
        told = world.agent.get(experiment)["evidence"].get("waits_longer_ms")
        assert told == (offset * 1000 if sign > 0 else None), told
        world.agent.revert(experiment)
        near(clock.off(), 0)
        near(program.off(), 0)
        expect_clean(world, experiment)
        program.end()


def test_monotonic_forward_with_threads(world):
    """They stand; what they wait for comes the offset later at the most, as the evidence says."""
    program = python(world, 4)
    clock = Monotonic(program)
    experiment = world.agent.inject("clock-skew", world.name, {
        "offset": "3s", "processes": "manager", "clocks": "both"}, duration_ms=60000)
    assert world.agent.get(experiment)["evidence"]["waits_longer_ms"] == 3000
    program.process.stdin.write(b"time\n")
    program.process.stdin.flush()
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    start = time.monotonic()
    program.line(30)
    near(clock.off(), 0)
    near(program.off(), 0)
    took = time.monotonic() - start
    assert took < 20, took
    print(f"  threads went on {took:.1f} s after the end of 3 s ahead")
    program.end()


def explained_ms(session, statement):
    """What PostgreSQL measured by its monotonic clock, and what passed here."""
    start, text = time.monotonic(), ""
    session.send(f"explain (analyze, timing off, costs off) {statement}")
    while not re.search(r"Execution Time: \S+ ms", text):
        line = session.receive(20)
        assert line, text
        text += line + "\n"
    took = time.monotonic() - start
    return float(re.search(r"Execution Time: (\S+) ms", text)[1]), took * 1000


def test_monotonic_of_postgres(world):
    """EXPLAIN's times are the monotonic clock's; what PostgreSQL waits for still comes when it should."""
    session = Session(world.server)
    measured, took = explained_ms(session, "select pg_sleep(1)")
    assert 990 <= measured <= took, (measured, took)
    for clocks in ("monotonic", "both"):
        for direction, sign in (("forward", 1), ("back", -1)):
            params = {"drift": 500000, "direction": direction, "clocks": clocks}
            experiment = world.agent.inject("clock-skew", world.name, params)
            measured, took = explained_ms(session, "select pg_sleep(4)")
            share = measured / took     # 1.5 or 0.5, were it not for what is outside PostgreSQL's own time
            assert share > 1.2 if sign > 0 else share < 0.8, (params, measured, took)
            told = world.agent.get(experiment)["evidence"].get("waits_longer_ms")
            assert (told is not None) == (sign > 0), told
            world.agent.revert(experiment)
            near(off(session), 0)
            expect_clean(world, experiment)
            jump = {"offset": "60s", "direction": direction, "clocks": clocks}
            if clocks == "monotonic":   # pg_sleep() itself counts by the time of day
                jump["after"] = "1s"
            experiment = world.agent.inject("clock-skew", world.name, jump)
            if clocks == "monotonic":
                measured, took = explained_ms(session, "select pg_sleep(2) from generate_series(1, 2)")
                assert abs(measured - took - sign * 60000) < 2000, (jump, measured, took)
            near(off(session), sign * 60 if clocks == "both" else 0)
            near(off_anew(world.server), sign * 60 if clocks == "both" else 0)
            assert session.ask("set statement_timeout = '300ms'; select 7") == "7"
            start = time.monotonic()
            answer = session.ask("select pg_sleep(20)", 20)
            assert answer and "statement timeout" in answer, answer
            assert 0.2 < time.monotonic() - start < 5, "a timeout that came at another time"
            assert session.ask("reset statement_timeout; select 9") == "9"
            world.agent.revert(experiment)
            near(off(session), 0)
            expect_clean(world, experiment)
            measured, took = explained_ms(session, "select pg_sleep(0.5)")
            assert 490 <= measured <= took, (measured, took)
    session.close()


def start_etcd(world):
    etcd = shutil.which("etcd")
    assert etcd, "no etcd: sudo tools/deps lab"
    program = Program(world, etcd, "--data-dir", f"{world.server.folder}/etcd", "--listen-client-urls",
                      ETCD_CLIENTS, "--advertise-client-urls", ETCD_CLIENTS, "--listen-peer-urls", ETCD_PEERS,
                      "--initial-advertise-peer-urls", ETCD_PEERS, "--initial-cluster", f"default={ETCD_PEERS}")
    wait_for("etcd answers", lambda: etcd_answer(world))
    return program


def etcd_answer(world):
    """How far etcd's clock is from the node's, by the Date of an answer; None: it is not healthy."""
    ask = ("import email.utils as e, time, urllib.request as u; "
           f"a = u.urlopen('{ETCD_CLIENTS}/health', timeout=5); "
           "print(a.read().decode(), e.parsedate_to_datetime(a.headers['Date']).timestamp() - time.time())")
    done = subprocess.run(["nsenter", "-t", str(world.server.postmaster), "-n", "/usr/bin/python3",
                           "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    words = done.stdout.decode().split()
    return float(words[-1]) if words and '"true"' in words[0] else None


def test_programs_survive(world):
    """Threads that read clocks all the time, and a Go program: skewed each time, and they go on."""
    reader, etcd = python(world), start_etcd(world)
    pids = [reader.pid, etcd.pid]
    near(etcd_answer(world), 0)
    for i in range(CYCLES):
        mechanism = ("detour", "stub")[i % 5 == 4]
        experiment = world.agent.inject("clock-skew", world.name, {
            "offset": "1h", "processes": "all", "mechanism": mechanism})
        now, _, disagree, _ = (float(x) for x in reader.ask().split())
        near(now - time.time(), HOUR)
        assert disagree < 1, f"clock_gettime, gettimeofday and time are {disagree} s apart"
        evidence = world.agent.get(experiment)["evidence"]
        skewed = {p["pid"]: p["mechanism"] for p in evidence["listed"]}
        assert all(skewed.get(pid) == mechanism for pid in pids), (pids, evidence)
        if i % 5 >= 3:
            near(etcd_answer(world), HOUR)
        world.agent.revert(experiment)
        near(reader.off(), 0)
    assert [reader.pid, etcd.pid] == pids
    _, _, disagree, steps = (float(x) for x in reader.ask().split())
    assert steps == 0, "the monotonic clock went back"
    assert disagree < 1, disagree
    near(etcd_answer(world), 0)
    expect_clean(world, experiment)
    for program in (reader, etcd):
        program.end()
    print(f"  {CYCLES} cycles with a Python program of 5 threads and etcd")


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
    refused(world, 400, ["11m forward", "allowed: up to 10m"], world.name, {"offset": "11m", "clocks": "both"})
    refused(world, 400, ["ahead at the fault's end", "up to 10m"], world.name,
            {"offset": "10m", "drift": 1000, "clocks": "monotonic"})
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
