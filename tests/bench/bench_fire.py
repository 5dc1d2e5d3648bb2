"""Fire and cold inject of a net-partition, beside nsenter and iptables doing the same cut."""
import json
import os
import re
import subprocess
import tempfile
import time

from benchlib import (CLIENT_ADDRESS, Agent, Api, Spawn, Table, Target, experiment_of, median, ms,
                      program, quantile, scratch, tool)
from harness.agent import BUILD

PEER = f"{CLIENT_ADDRESS}/32"
ROUNDS, ROUNDS_SHORT = 500, 30


class Cut:
    """The same cut by nsenter and iptables."""

    def __init__(self, spawn, target, folder):
        self.spawn = spawn
        self.enter = f"{program('nsenter')} -t {target.postmaster()} -n "
        self.words = f"{self.enter}{program('iptables')} -w"
        self.rules = os.path.join(folder, "rules")
        with open(self.rules, "w") as f:
            f.write(f"*filter\n-A INPUT -s {PEER} -j DROP\n-A OUTPUT -d {PEER} -j DROP\nCOMMIT\n")

    def two(self):
        return self.spawn.run(f"{self.words} -A INPUT -s {PEER} -j DROP",
                              f"{self.words} -A OUTPUT -d {PEER} -j DROP")

    def restore(self):
        return self.spawn.run(f"{self.enter}{program('iptables-restore')} -w -n {self.rules}")

    def undo(self):
        self.spawn.run(f"{self.words} -D INPUT -s {PEER} -j DROP",
                       f"{self.words} -D OUTPUT -d {PEER} -j DROP")

    def nothing(self):
        return self.spawn.run(f"{self.enter}{program('true')}")


def row(table, name, values, base, goal=""):
    p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
    table.row(name, ms(p50), ms(p99), ms(max(values)), goal,
              f"{quantile(base, 0.5) / p50:.3g}" if values is not base else "1")


def warm(api, target):
    """Fires over a connection that is there: (ns in the agent, ns of the call)."""
    body = experiment_of(target, "net-partition", peers=[PEER])
    path = f"/v1/experiments/{body['experiment']}"
    fire = api.request("POST", path + "/fire")
    api.call("POST", "/v1/experiments", body)
    ns, raw = api.exchange(fire)
    inside = api.parse(raw)["fire_duration_ns"]
    api.call("POST", path + "/revert")
    return inside, ns


def cold(agent, target):
    """A new connection, arm, fire: (ns of all, ns to arm as the agent counts it)."""
    body = experiment_of(target, "net-partition", peers=[PEER])
    path = f"/v1/experiments/{body['experiment']}"
    arm, fire = Api.request("POST", "/v1/experiments", body), Api.request("POST", path + "/fire")
    api = Api(agent.socket)
    start = time.monotonic_ns()
    api.connect()
    armed = api.exchange(arm)[1]
    fired = api.exchange(fire)[1]
    ns = time.monotonic_ns() - start
    armed = api.parse(armed)
    api.parse(fired)
    api.call("POST", path + "/revert")
    api.close()
    return ns, armed["armed_ns"] - armed["created_ns"]


def check_cuts(api, target, cut):
    """Both do cut, else the figures compare nothing."""
    body = experiment_of(target, "net-partition", peers=[PEER])
    path = f"/v1/experiments/{body['experiment']}"
    api.call("POST", "/v1/experiments", body)
    api.call("POST", path + "/fire")
    cut_by_us = target.answer_ms(300) is None and api.call("GET", path)["hits"] > 0
    api.call("POST", path + "/revert")
    between = target.answer_ms(2000) is not None
    cut.two()
    cut_by_them = target.answer_ms(300) is None
    cut.undo()
    if not (cut_by_us and between and cut_by_them and target.answer_ms(2000) is not None):
        raise RuntimeError("a cut does not cut, or does not heal")


def fire(short):
    rounds = ROUNDS_SHORT if short else ROUNDS
    inside, call, theirs, restore = [], [], [], []
    table = Table("Fire of an armed net-partition",
                  ["", "p50", "p99", "max", "goal, p99", "iptables -A twice / this (p50)"])
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchf") as target, \
            Api(agent.socket) as api, Spawn() as spawn:
        cut = Cut(spawn, target, folder)
        check_cuts(api, target, cut)
        for _ in range(rounds):
            a, b = warm(api, target)
            inside.append(a)
            call.append(b)
            theirs.append(cut.two())
            cut.undo()
            restore.append(cut.restore())
            cut.undo()
    row(table, "in the agent: the clock, the store, the clock (`fire_duration_ns`)", inside, theirs)
    row(table, "the whole HTTP call on a warm connection", call, theirs, "< 1 ms")
    row(table, "nsenter iptables -A, twice", theirs, theirs)
    row(table, "nsenter iptables-restore -n, both rules at once", restore, theirs)
    table.note(f"{rounds} rounds, each of all four. iptables knows no armed state: its commands are the fire.")
    return [table]


STRACE_CALL = re.compile(r"(bpf\(BPF_\w+)\b.*<([\d.]+)>$")
STRACE_RESUMED = re.compile(r"^(\d+) .*<\.\.\. bpf resumed>.*<([\d.]+)>$")
STRACE_OPENED = re.compile(r"^(\d+) .*?(bpf\(BPF_\w+).*<unfinished \.\.\.>$")


def strace_sums(lines):
    """{call: (seconds, calls)}; a call may be in two pieces, with other threads' lines between."""
    sums, opened = {}, {}
    for line in lines:
        line = line.rstrip()
        if m := STRACE_OPENED.match(line):
            opened[m.group(1)] = m.group(2)
            continue
        if m := STRACE_RESUMED.match(line):
            name, seconds = opened.pop(m.group(1), "bpf(?"), float(m.group(2))
        elif m := STRACE_CALL.search(line):
            name, seconds = m.group(1), float(m.group(2))
        else:
            continue
        before = sums.get(name, (0, 0))
        sums[name] = before[0] + seconds, before[1] + 1
    return sums


def split(target, rounds):
    """Where arming goes, by the system calls of the driver alone: {part: ns a round}; None without
    strace. --seccomp-bpf: it stops at these calls and no others."""
    strace, driver = program("strace"), os.path.join(BUILD, "tests/system/fault-driver")
    if not strace or not os.access(driver, os.X_OK):
        return None
    sums, counts, total = {}, {}, 0
    for _ in range(rounds):
        with tempfile.NamedTemporaryFile("r") as out:
            p = subprocess.Popen([strace, "-f", "-T", "-qq", "--seccomp-bpf", "-e", "trace=bpf", "-o", out.name,
                                  driver, "net-partition", str(target.postmaster()),
                                  json.dumps({"peers": [PEER]})],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            p.stdin.write("arm\n")
            p.stdin.flush()
            total += json.loads(p.stdout.readline())["us"] * 1000
            p.stdin.close()
            p.wait(30)
            p.stdout.close()
            for name, (seconds, n) in strace_sums(out).items():
                sums[name] = sums.get(name, 0) + seconds
                counts[name] = counts.get(name, 0) + n
    links = "bpf(BPF_LINK_CREATE"
    others = sum(v for k, v in sums.items() if k != links)
    return {"links": sums.get(links, 0) * 1e9 / rounds, "links_each": counts.get(links, 0) / rounds,
            "bpf": others * 1e9 / rounds, "total": total / rounds}


def grace_periods(table, rounds):
    """What an attach is made of."""
    values = {}
    out = subprocess.run([tool("attach"), str(rounds)], check=True, capture_output=True, text=True)
    for line in out.stdout.splitlines():
        name, ns = line.split()
        values.setdefault(name, []).append(int(ns))
    for name, words in (("grace-period", "one RCU grace period: membarrier(MEMBARRIER_CMD_GLOBAL)"),
                        ("tcx-attach", "one tcx link made (program of two instructions)"),
                        ("tcx-attach-two-at-once", "two tcx links, from two threads at once"),
                        ("tcx-detach", "one tcx link closed"),
                        ("netfilter-attach", "one BPF netfilter link made")):
        if name in values:
            v = values[name]
            table.row(words, ms(median(v)), ms(quantile(v, 0.99)), ms(max(v)),
                      f"{median(v) / median(values['grace-period']):.3g}")


def inject(short):
    rounds = ROUNDS_SHORT if short else ROUNDS
    total, armed, theirs, restore, nothing = [], [], [], [], []
    table = Table("Cold inject of a net-partition: a new connection, arm, fire",
                  ["", "p50", "p99", "max", "goal, p99", "iptables -A twice / this (p50)"])
    parts = Table("Where arming goes: the driver by itself, under strace",
                  ["part", "mean", "share"])
    grace = Table("What attaching costs on this kernel",
                  ["", "p50", "p99", "max", "in grace periods (p50)"])
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchc") as target, \
            Spawn() as spawn:
        cut = Cut(spawn, target, folder)
        for _ in range(rounds):
            a, b = cold(agent, target)
            total.append(a)
            armed.append(b)
            nothing.append(cut.nothing())
            theirs.append(cut.two())
            cut.undo()
            restore.append(cut.restore())
            cut.undo()
        pieces = split(target, 5 if short else 50)
    row(table, "connect, arm, fire", total, theirs, "< 10 ms")
    row(table, "of it: arm, as the agent counts it", armed, theirs)
    row(table, "nsenter iptables -A, twice", theirs, theirs)
    row(table, "nsenter iptables-restore -n, both rules at once", restore, theirs)
    row(table, "nsenter true", nothing, theirs)
    table.note(f"{rounds} rounds, each of all.")
    if pieces:
        rest = pieces["total"] - pieces["links"] - pieces["bpf"]
        for name, ns in (("all", pieces["total"]),
                         (f"{pieces['links_each']:.0f} tcx links (BPF_LINK_CREATE)", pieces["links"]),
                         ("the other bpf(2) calls: maps, programs, verifier", pieces["bpf"]),
                         ("the rest: interfaces, libbpf, strace itself", rest)):
            parts.row(name, ms(ns), f"{ns / pieces['total']:.0%}")
    else:
        parts.note("Not split: there is no strace here.")
    grace_periods(grace, 20 if short else 200)
    return [table, parts, grace]
