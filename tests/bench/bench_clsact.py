"""What a network fault costs traffic that it does not match where there is no tcx (before Linux 6.6): a stand-in in a
clsact filter, which asks a table for the program, beside the same program in a tcx link."""
import contextlib
import json
import re
import subprocess

from bench_bystander import OTHERS, run_times, statistics
from benchlib import Agent, Api, Table, Target, Traffic, fault, median, program, ratio_of_pairs, scratch

FAULTS = {"net-partition": {}, "net-shape": {"delay": "20ms"}}
HOOKS = {"tcx": (), "clsact": ("--without-tcx",)}


@contextlib.contextmanager
def agents():
    """One for each hook, on sockets and journals of their own."""
    with contextlib.ExitStack() as stack:
        found = {}
        for hook, options in HOOKS.items():
            agent = stack.enter_context(Agent(stack.enter_context(scratch("benchc")), *options))
            found[hook] = agent, stack.enter_context(Api(agent.socket))
        yield found


def stand_ins(target):
    """The ids of the programs in the target's filters: no process has a descriptor of them."""
    found = []
    for where in ("ingress", "egress"):
        text = subprocess.run(["tc", "-n", target.netns, "filter", "show", "dev", "eth0", where], check=True,
                              capture_output=True, text=True).stdout
        found += re.findall(r"pgjolt.* id (\d+)", text)
    return found


def filter_times(target):
    shown = [json.loads(subprocess.run([program("bpftool"), "-j", "prog", "show", "id", i], check=True,
                                       capture_output=True, text=True).stdout) for i in stand_ins(target)]
    return [(p.get("run_time_ns", 0), p.get("run_cnt", 0)) for p in shown]


def a_frame(times, traffic, rounds, length):
    """(ns of a frame, each round, frames in all), by the kernel's own count."""
    each, frames = [], 0
    with statistics():
        for _ in range(rounds):
            before = times()
            traffic.rr(length)
            counts = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, times())]
            n = sum(n for _, n in counts)
            if not n:
                raise RuntimeError("no program has seen a frame")
            frames += n
            each.append(sum(ns for ns, _ in counts) / n)
    return each, frames


def clsact(short):
    rounds, length = (2, 400) if short else (15, 700)
    counted = Table("A program that does not match, in a tcx link and behind a clsact stand-in (BPF_ENABLE_STATS)",
                    ["fault", "mechanism", "frames", "a frame, fastest round", "median round", "more than tcx"])
    felt = Table("Traffic that a fault does not match, by hook",
                 ["active meanwhile", "hook", "1-byte transactions", "ratio", "TCP out", "ratio"])
    found, names = {}, [(None, ""), *((f, h) for f in FAULTS for h in HOOKS), (None, "again")]
    with agents() as hooks, scratch("bench") as folder, Target(folder, "benchq") as target, \
            Traffic(target, pin=True) as traffic:
        def active(name, hook):
            return fault(hooks[hook][1], target, name, peers=[OTHERS], **FAULTS[name]) if name \
                else contextlib.nullcontext()

        for name in FAULTS:
            fastest = None
            for hook in HOOKS:
                with active(name, hook) as experiment:
                    mechanism = experiment()["mechanism"]
                    times = (lambda: filter_times(target)) if stand_ins(target) else \
                        (lambda agent=hooks[hook][0]: run_times(agent.pid))
                    each, frames = a_frame(times, traffic, rounds, length)
                more = f"{min(each) - fastest:.0f} ns" if fastest is not None else ""
                fastest = min(each) if fastest is None else fastest
                counted.row(f"{name} of others", mechanism, frames, f"{min(each):.0f} ns",
                            f"{median(each):.0f} ns", more)
        for n in range(rounds):
            for i in range(len(names)):
                case = names[(i + n) % len(names)]
                with active(*case):
                    found.setdefault(case, []).append((traffic.rr(length), traffic.stream("out", length, 200)))
    for case in names:
        cells = [f"{case[0]} of others" if case[0] else f"nothing{', again' if case[1] else ''}",
                 case[1] if case[0] else ""]
        for k, form in enumerate(("{:.0f}/s", "{:.2f} Gbit/s")):
            values, base = [v[k] for v in found[case]], [v[k] for v in found[names[0]]]
            ratio, low, high = ratio_of_pairs(values, base)
            cells += [form.format(median(values) / (1e9 if k else 1)),
                      "1" if case is names[0] else f"{ratio:.3f} ({low:.3f}-{high:.3f})"]
        felt.row(*cells)
    counted.note("Whatever the hook, the time from the program's beginning to its end: behind the stand-in that of both, the "
                 "table asked included. What the hook itself takes before is not in it, but in the transactions below.")
    felt.note(f"{rounds} rounds, in each all six in rotating order, {length / 1000:g} s a figure; ratio: median over the rounds "
              "of (this / nothing in the same round), and its quartiles.")
    return [counted, felt]
