"""What the two gates cost, and how exact they are."""
import contextlib
import json
import os
import subprocess
import sys

from benchlib import (BUILD, HERE, Table, median, ms, program, quantile, ratio_of_pairs, scratch, tool,
                      us)

os.environ.setdefault("PGJOLT_BUILD", BUILD)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))
from harness.agent import Agent         # noqa: E402
from lib_postgres import Server, children    # noqa: E402

SELDOM = "0.0001%"      # open, and idle: practically nothing is hit


class Reader:
    """A process with a folder like PGDATA, in a mount namespace of its own."""

    def __init__(self, folder, *words):
        os.makedirs(f"{folder}/pg_wal")
        with open(f"{folder}/file", "wb") as f:
            f.write(bytes(64 * 8192))
        self.process = subprocess.Popen(["unshare", "--mount", tool("reader"), "file", *words], cwd=folder,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read(10)

    def read(self, n, sleep_ns=0):
        """The times of n reads in ns, or of n sleeps that long."""
        self.process.stdin.write(f"{n} {sleep_ns}\n")
        self.process.stdin.flush()
        return [int(x) for x in self.process.stdout.readline().split()]

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@contextlib.contextmanager
def gate(reader, **params):
    driver = subprocess.Popen(
        [os.path.join(BUILD, "tests/system/fault-driver"), "disk-latency", str(reader.process.pid),
         json.dumps(params)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(command):
        driver.stdin.write(command + "\n")
        driver.stdin.flush()
        answer = json.loads(driver.stdout.readline())
        assert answer["ok"], answer
        return answer

    say("arm")
    say("fire 600000")
    try:
        yield say
    finally:
        for command in ("release", "revert", "verify"):
            say(command)
        driver.stdin.close()
        driver.wait(10)
        driver.stdout.close()


def accesses(short):
    rounds, count, delayed = (2, 500, 50) if short else (10, 4000, 200)
    cases = {
        "nothing": None,
        "file gate, passed": dict(delay="1ms", percent=SELDOM, operations=["read", "write"], mechanism="file"),
        "file gate, another path": dict(delay="1ms", paths=["wal"], operations=["read", "write"],
                                        mechanism="file"),
        "file gate, reads alone passed": dict(delay="1ms", percent=SELDOM, operations=["read"],
                                              mechanism="file"),
        "syscall gate, passed": dict(delay="1ms", percent=SELDOM, operations=["read", "write"],
                                     mechanism="syscall"),
        "syscall gate, another path": dict(delay="1ms", paths=["wal"], operations=["read"],
                                           mechanism="syscall"),
    }
    costs = Table("A cached read of 8 KiB at a gate that lets it pass",
                  ["gate", "median", "p99", "more than nothing", "goal"])
    exact = Table("Delays of the gates", ["gate", "asked", "median error", "p99", "max", "goal"])
    found = {name: [] for name in cases}
    late = {}
    with scratch("benchg") as folder:
        reader, prompt = Reader(f"{folder}/a"), Reader(f"{folder}/b", "real-time")
        for n in range(rounds):
            for name in list(cases)[n % len(cases):] + list(cases)[:n % len(cases)]:
                with gate(reader, **cases[name]) if cases[name] else contextlib.nullcontext():
                    found[name] += reader.read(count)
        for delay in (1, 5, 20):
            late["none: the reader sleeps", delay] = [x - delay * 10**6 for x in prompt.read(delayed, delay * 10**6)]
            for mechanism in ("file", "syscall"):
                with gate(prompt, delay=f"{delay}ms", operations=["read", "write"], mechanism=mechanism):
                    late[f"{mechanism} gate", delay] = [x - delay * 10**6 for x in prompt.read(delayed)]
        reader.end()
        prompt.end()
    for name, values in found.items():
        more = median(values) - median(found["nothing"])
        costs.row(name, us(median(values)), us(quantile(values, 0.99)), us(more) if more else "",
                  "< 8 us" if name == "file gate, passed" else "")
    for (name, delay), values in late.items():
        exact.row(name, f"{delay} ms", us(median(values)), us(quantile(values, 0.99)), ms(max(values)),
                  "p99 < 500 us" if name.endswith("gate") else "")
    costs.note(f"{rounds} rounds of {count} reads each, in rotating order; the times as the reader has them, an ordinary "
               "process as PostgreSQL's are.")
    exact.note(f"{delayed} reads each, one after another, by a real-time reader: an ordinary one is kept waiting by other "
               "processes after the gate has let it go. Beside them the same reader's own sleep of as long: what this "
               "machine's timer and its waking of a process take by themselves.")
    return [costs, exact]


@contextlib.contextmanager
def strace(server):
    words = [program("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e",
             "inject=fsync,fdatasync:delay_exit=0"]
    for pid in [server.postmaster, *children(server.postmaster)]:
        words += ["-p", str(pid)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def idle(short):
    rounds, seconds = (1, 2) if short else (8, 3)
    server = Server("benchg", 25479)
    found = {}
    agent = None
    try:
        server.start()
        server.pgbench("-i", "-q", "-s", "5")
        agent = Agent.alone()
        name = agent.instance_of(server.postmaster)["name"]

        @contextlib.contextmanager
        def open_idle(**params):
            experiment = agent.inject("disk-latency", name, {"delay": "5ms", **params})
            try:
                yield
            finally:
                agent.revert(experiment)

        flushes = ["fsync", "fdatasync"]
        cases = {
            "nothing": contextlib.nullcontext,
            "syscall gate for flushes": lambda: open_idle(operations=flushes, percent=SELDOM),
            "both gates, all but open": lambda: open_idle(percent=SELDOM),
            "nothing, again": contextlib.nullcontext,
        }
        if program("strace"):
            cases["strace --inject of flushes"] = lambda: strace(server)
        names = list(cases)
        server.pgbench("-T", "3", "-c", "4")
        for n in range(rounds):
            for i in range(len(names)):
                case = names[(i + n) % len(names)]
                with cases[case]():
                    found.setdefault(case, []).append(server.pgbench("-T", str(seconds), "-c", "4"))
    finally:
        if agent:
            agent.remove()
        server.remove()
    table = Table("pgbench with a gate that is open and idle", ["meanwhile", "transactions", "ratio", "goal"])
    for case in names:
        ratio, low, high = ratio_of_pairs(found[case], found["nothing"])
        table.row(case, f"{median(found[case]):.0f}/s",
                  "1" if case == "nothing" else f"{ratio:.3f} ({low:.3f}-{high:.3f})",
                  "> 0.9" if case == "syscall gate for flushes" else "")
    table.note(f"pgbench -c 4, scale 5, {seconds} s a figure, {rounds} rounds in rotating order; the file gate was open "
               "when its sessions began.")
    return [table]
