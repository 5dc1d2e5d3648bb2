"""The delay line: how exact its delays are, and how much passes through it."""
from bench_kernel import has_netem
from benchlib import (CLIENT_ADDRESS, Agent, Api, Table, Target, Traffic, fault, median, ms, quantile,
                      scratch)

PEER = f"{CLIENT_ADDRESS}/32"
DELAYS_MS = (0.5, 2, 20, 200)


def below(histogram, share):
    """Upper bound of a histogram's bucket in which that share of the frames ends."""
    total, seen = sum(b["frames"] for b in histogram), 0
    for bucket in histogram:
        seen += bucket["frames"]
        if seen >= share * total:
            return f"< {bucket['below_us']} us"
    return "none"


def delay(short):
    pings, blocks = (200, 1) if short else (1000, 4)
    table = Table("Delay error (two frames held each round trip, one each way)",
                  ["delay asked", "round trip without, p50", "error p50", "error p99", "error max",
                   "a frame's lateness by the line's own count, p99", "goal, p99", "lost"])
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchd") as target, \
            Api(agent.socket) as api, Traffic(target) as traffic:
        for asked in DELAYS_MS:
            base, rtts, lost, line = [], [], 0, []
            for _ in range(blocks):
                base += traffic.ping(pings // 2, 5000)[0]
                with fault(api, target, "net-shape", peers=[PEER], delay=f"{asked}ms") as now:
                    got, gone = traffic.ping(pings, 5000)
                    rtts += got
                    lost += gone
                    line += now()["evidence"]["error_histogram"]
            line.sort(key=lambda b: b["from_us"])
            without = median(base)
            errors = [abs(r - 2 * asked * 1e6 - without) for r in rtts]
            table.row(f"{asked} ms", ms(without), ms(median(errors)), ms(quantile(errors, 0.99)),
                      ms(max(errors)), below(line, 0.99), "< 0.5 ms", lost)
    table.note(f"{blocks} x {pings} UDP round trips of 64 bytes, one every 5 ms, for each delay, after "
               f"{blocks} x {pings // 2} without. Error: |round trip - 2 x delay - median round trip without|, "
               "so it is that of two frames and of the echo's and the clock reader's own wake-ups together.")
    table.note("Beside it: " + ("tc netem: the benchmark netem."
               if has_netem() else "nothing. The alternative is tc netem, which this kernel does not have."))
    return [table]


def bits(rate):
    return f"{rate / 1e9:.2f} Gbit/s"


def throughput(short):
    rounds, length = (1, 1500) if short else (3, 4000)
    cases = [("no fault", None, {}),
             ("20 ms in the data's direction", "one", {"delay": "20ms"}),
             ("20 ms in both directions (round trip + 40 ms)", "both", {"delay": "20ms"})]
    table = Table("TCP through the delay line, one connection",
                  ["", "data", "median", "least", "most", "goal", "of that without a fault"])
    found, overflowed, least_ms = {}, 0, float("inf")
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "bencht") as target, \
            Api(agent.socket) as api, Traffic(target) as traffic:
        for _ in range(rounds):
            for way in ("out", "in"):
                for name, direction, params in cases:
                    if not direction:
                        rate = traffic.stream(way, length, 1000)
                    else:
                        with fault(api, target, "net-shape", peers=[PEER],
                                   direction="both" if direction == "both" else way, **params) as now:
                            rate = traffic.stream(way, length, 3000)
                            seen = now()["evidence"]
                            overflowed += seen["overflowed"] + seen["write_errors"] + seen["unread"]
                            least_ms = min(least_ms, seen["delay_ms"]["min"])
                    found.setdefault((way, name), []).append(rate)
    for way, words in (("out", "from the instance"), ("in", "to the instance")):
        for name, direction, _ in cases:
            rates = found[way, name]
            table.row(name, words, bits(median(rates)), bits(min(rates)), bits(max(rates)),
                      "1.3 Gbit/s" if direction == "one" else "",
                      f"{median(rates) / median(found[way, 'no fault']):.2f}")
    table.note(f"{rounds} rounds of all; {length / 1000:g} s each after 3 s (1 s without) to open the window; "
               "buffers up to 64 MiB; counted by the receiver. By the line's own count no frame was held for less "
               f"than {least_ms:.2f} ms, and {overflowed} were dropped.")
    table.note("Beside it: " + ("tc netem: the benchmark netem."
               if has_netem() else "the same link without a fault. netem is not in this kernel."))
    return [table]
