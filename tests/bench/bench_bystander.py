"""What an active fault costs the traffic that it does not match."""
import contextlib

from benchlib import (Agent, Api, Spawn, Table, Target, Traffic, fault, median, program,
                      ratio_of_pairs, scratch)

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
    return [table]
