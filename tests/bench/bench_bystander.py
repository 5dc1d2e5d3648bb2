"""What an active fault costs the traffic that it does not match."""
import contextlib
import os
import re
import subprocess

from benchlib import (Agent, Api, Spawn, Table, Target, Traffic, fault, median, program,
                      ratio_of_pairs, scratch, tool)

# Of documentation (RFC 5737): nobody's traffic.
OTHERS = "192.0.2.0/24"


@contextlib.contextmanager
def iptables(spawn, target):
    words = f"{program('nsenter')} -t {target.postmaster()} -n {program('iptables')} -w"
    spawn.run(f"{words} -A INPUT -s {OTHERS} -j DROP", f"{words} -A OUTPUT -d {OTHERS} -j DROP")
    try:
        yield
    finally:
        spawn.run(f"{words} -D INPUT -s {OTHERS} -j DROP", f"{words} -D OUTPUT -d {OTHERS} -j DROP")


@contextlib.contextmanager
def statistics():
    p = subprocess.Popen([tool("stats")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if p.stdout.readline() != "ready\n":
            raise RuntimeError("no statistics of BPF programs")
        yield
    finally:
        p.stdin.close()
        p.wait(10)
        p.stdout.close()


def run_times(pid):
    """What the kernel has counted of a process's BPF programs: [(ns, runs)], by descriptor."""
    found = []
    for fd in sorted(os.listdir(f"/proc/{pid}/fdinfo"), key=int):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                text = f.read()
        except FileNotFoundError:
            continue
        numbers = [re.search(rf"^{name}:\s*(\d+)", text, re.M) for name in ("run_time_ns", "run_cnt")]
        if all(numbers):
            found.append(tuple(int(m.group(1)) for m in numbers))
    return found


def programs(short):
    """The kernel's own count of what a program takes that matches nothing, a frame, beside what a
    transaction takes: of little meaning where the machine is loaded, so the fastest round counts."""
    rounds, length = (2, 500) if short else (10, 1000)
    table = Table("A program that does not match, by the kernel's own count (BPF_ENABLE_STATS)",
                  ["fault", "frames", "a frame, fastest round", "median round",
                   "two frames, of a transaction", "less what counting takes", "goal"])
    found, bare = [], []
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchp") as target, \
            Api(agent.socket) as api, Traffic(target, pin=True) as traffic:
        for name, fired, params in (("net-partition", False, {}), ("net-partition", True, {}),
                                    ("net-shape", True, {"delay": "20ms"})):
            bare += [traffic.rr(length) for _ in range(rounds)]
            with fault(api, target, name, fired, peers=[OTHERS], **params), statistics():
                each, frames = [], 0
                for _ in range(rounds):
                    before = run_times(agent.pid)
                    traffic.rr(length)
                    counts = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, run_times(agent.pid))]
                    frames += sum(n for _, n in counts)
                    each.append(sum(ns for ns, _ in counts) / sum(n for _, n in counts))
            found.append((f"{name} of others{'' if fired else ', armed and not fired'}", frames, each))
    transaction, counting = 1e9 / max(bare), min(found[0][2])
    for name, frames, each in found:
        table.row(name, frames, f"{min(each):.0f} ns", f"{median(each):.0f} ns",
                  f"{2 * min(each) / transaction:.1%}", f"{2 * (min(each) - counting) / transaction:.1%}",
                  "" if each is found[0][2] else "< 2 %")
    table.note(f"A transaction is one frame in and one out, and took {transaction / 1000:.1f} us without a fault "
               "(fastest round). The kernel's count includes the reading of its clock at both ends of each run; "
               "that is nearly all of the first row, whose program returns at once.")
    return table


def bystander(short):
    rounds, length = (3, 500) if short else (20, 600)
    found = {}
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchb") as target, \
            Api(agent.socket) as api, Traffic(target, pin=True) as traffic, Spawn() as spawn:
        cases = {
            "nothing": contextlib.nullcontext,
            "net-partition of others": lambda: fault(api, target, "net-partition", peers=[OTHERS]),
            "net-shape of others": lambda: fault(api, target, "net-shape", peers=[OTHERS],
                                                 delay="20ms"),
            "nothing, again": contextlib.nullcontext,
            "iptables of others": lambda: iptables(spawn, target),
        }
        names = list(cases)
        for n in range(rounds):
            # Each comes first, second, ... equally often.
            for i in range(len(names)):
                name = names[(i + n) % len(names)]
                with cases[name]():
                    found.setdefault(name, []).append(
                        (traffic.stream("out", length, 200), traffic.stream("in", length, 200),
                         traffic.rr(length)))
    table = Table("Traffic that a fault does not match",
                  ["active meanwhile", "TCP out", "ratio", "TCP in", "ratio", "1-byte transactions",
                   "ratio", "goal"])
    base = list(zip(*found["nothing"]))
    for name in names:
        cells = [name]
        for values, against, form in zip(zip(*found[name]), base, ("{:.2f} Gbit/s",) * 2 + ("{:.0f}/s",)):
            rate = median(values)
            ratio, low, high = ratio_of_pairs(values, against)
            cells += [form.format(rate / 1e9 if "bit" in form else rate),
                      "1" if name == "nothing" else f"{ratio:.3f} ({low:.3f}-{high:.3f})"]
        table.row(*cells, "> 0.98" if name.startswith("net-") else "")
    table.note(f"{rounds} rounds, in each all five in rotating order, {length / 1000:g} s a figure. Ratio: median "
               "over the rounds of (this / nothing in the same round), and its quartiles. \"nothing, again\" "
               "shows what the method itself cannot tell apart.")
    return [table, programs(short)]
