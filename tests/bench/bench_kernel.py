"""Beside what kernels have for the same: netem for net-shape, dm-delay for disk-latency. They are modules
that many nodes lack, so these run in a virtual machine: tools/vm run 6.12 -- tests/bench/run netem dm-delay"""
import contextlib
import mmap
import os
import subprocess
import time

from bench_gates import Reader, gate
from benchlib import (CLIENT_ADDRESS, Agent, Api, Table, Target, Traffic, fault, median, ms, program, quantile,
                      scratch)

PEER = f"{CLIENT_ADDRESS}/32"
DELAYS_MS = (0.5, 2, 20, 200)
LOSS = "1%"
BLOCK = 8192


def has_netem():
    """Asked of a namespace that ends with the question."""
    return bool(program("tc")) and subprocess.run(
        ["unshare", "-n", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True, check=False).returncode == 0


def absent(title, what):
    table = Table(title, ["not measured"])
    table.row(f"this kernel has no {what}")
    return [table]


@contextlib.contextmanager
def netem(target, delay_ms, jitter_ms, loss):
    """On both ends' way out, so that each direction is shaped once, as by net-shape."""
    words = ["netem", "limit", "1000000", "delay", f"{delay_ms}ms"]
    words += [f"{jitter_ms}ms"] if jitter_ms else []
    words += ["loss", loss] if loss else []
    ends = (target.netns, target.client_netns)
    for ns in ends:
        subprocess.run(["tc", "-n", ns, "qdisc", "add", "dev", "eth0", "root", *words], check=True)
    try:
        yield
    finally:
        for ns in ends:
            subprocess.run(["tc", "-n", ns, "qdisc", "del", "dev", "eth0", "root"], check=True)


def shaped(api, target, how, delay_ms, jitter_ms=0, loss=None):
    if how == "netem":
        return netem(target, delay_ms, jitter_ms, loss)
    more = {"jitter": f"{jitter_ms}ms"} if jitter_ms else {}
    more |= {"loss": loss} if loss else {}
    return fault(api, target, "net-shape", peers=[PEER], delay=f"{delay_ms}ms", **more)


def busy_seconds():
    with open("/proc/stat", encoding="ascii") as f:
        words = [int(w) for w in f.readline().split()[1:]]
    return (sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK")


def stream(traffic, delay_ms, short):
    """(bits a second, processor seconds a second)."""
    warm = 1000 if short else 3000
    warm += int(10 * delay_ms)
    length = 1500 if short else 4000
    start, used = time.monotonic(), busy_seconds()
    rate = traffic.stream("out", length, warm)
    return rate, (busy_seconds() - used) / (time.monotonic() - start)


def shaping(short):
    if not has_netem():
        return absent("The delay line beside netem", "netem")
    pings = 150 if short else 500
    exact = Table("Delays: the delay line beside netem (two frames held each round trip)",
                  ["delay", "by", "error p50", "error p99", "with jitter of a quarter and 1 % loss: mean error",
                   "standard deviation", "lost"])
    full = Table("TCP from the instance, one connection: the delay line beside netem",
                 ["delay", "by", "throughput", "busy processors", "processor seconds a Gbit"])
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchk") as target, \
            Api(agent.socket) as api, Traffic(target) as traffic:
        without = median(traffic.ping(pings, 10000)[0])
        add_stream(full, "none", "nothing", *stream(traffic, 0, short))
        for delay in DELAYS_MS:
            for how in ("net-shape", "netem"):
                with shaped(api, target, how, delay):
                    errors = [abs(r - 2 * delay * 1e6 - without) for r in traffic.ping(pings, 10000)[0]]
                    add_stream(full, f"{delay} ms", how, *stream(traffic, delay, short))
                with shaped(api, target, how, delay, delay / 4, LOSS):
                    got, lost = traffic.ping(2 * pings, 10000)
                mean = sum(got) / len(got)
                spread = (sum((r - mean) ** 2 for r in got) / len(got)) ** 0.5
                exact.row(f"{delay} ms", how, ms(median(errors)), ms(quantile(errors, 0.99)),
                          ms(abs(mean - 2 * delay * 1e6 - without)), ms(spread), f"{lost} of {2 * pings}")
    exact.note(f"UDP round trips of 64 bytes, one every 10 ms; {ms(without)} without (median). 1 % loss each way is "
               "2 % of the round trips.")
    full.note("Shaped in both directions. Busy processors: all that the machine did meanwhile, both ends included.")
    return [exact, full]


def add_stream(table, delay, how, rate, busy):
    table.row(delay, how, f"{rate / 1e6:.0f} Mbit/s", f"{busy:.2f}", f"{busy / (rate / 1e9):.2f}")


class DirectReads:
    """Reads past the page cache, timed each."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, BLOCK)

    def read(self, count):
        took = []
        for i in range(count):
            start = time.monotonic_ns()
            os.preadv(self.fd, [self.buffer], i % 64 * BLOCK)
            took.append(time.monotonic_ns() - start)
        return took

    def close(self):
        os.close(self.fd)


@contextlib.contextmanager
def dm_delay(device, delay_ms):
    sectors = int(subprocess.run(["blockdev", "--getsz", device], capture_output=True, check=True).stdout)
    environment = {**os.environ, "DM_DISABLE_UDEV": "1"}
    name = f"pgjolt-bench-{os.getpid()}"
    subprocess.run(["dmsetup", "create", name, "--table", f"0 {sectors} delay {device} 0 {delay_ms}"],
                   check=True, env=environment)
    try:
        yield f"/dev/mapper/{name}"
    finally:
        subprocess.run(["dmsetup", "remove", name], check=True, env=environment)


def errors_of(reads, count, delay_ms, base):
    return [abs(r - delay_ms * 1e6 - base) for r in reads.read(count)]


def disk(short):
    title = "Late reads of 8 KiB: disk-latency beside dm-delay"
    device = os.environ.get("PGJOLT_VM_DISK_DEVICE")
    if not device or not program("dmsetup") or subprocess.run(["modprobe", "-q", "dm-delay"], check=False).returncode:
        return absent(title, "dm-delay, or there is no disk to spare (tools/vm run --disk)")
    count = 30 if short else 100
    table = Table(title, ["delay", "by", "error p50", "error p99", "a read without"])
    subprocess.run(["umount", device], check=True)
    with scratch("benchm") as folder:
        reader, direct = Reader(folder), DirectReads(device)
        for delay in (2, 20):
            for name, mechanism in (("file gate", "file"), ("syscall gate", "syscall")):
                try:
                    base = median(reader.read(count))
                    with gate(reader, delay=f"{delay}ms", operations=["read"], mechanism=mechanism):
                        errors = errors_of(reader, count, delay, base)
                except AssertionError:
                    table.row(f"{delay} ms", name, "not on this kernel", "", "")
                    continue
                table.row(f"{delay} ms", name, ms(median(errors)), ms(quantile(errors, 0.99)), ms(base))
            base = median(direct.read(count))
            with dm_delay(device, delay) as mapped:
                through = DirectReads(mapped)
                errors = errors_of(through, count, delay, base)
                through.close()
            table.row(f"{delay} ms", "dm-delay", ms(median(errors)), ms(quantile(errors, 0.99)), ms(base))
        direct.close()
        reader.end()
    table.note(f"{count} reads each. The gates hold reads of one instance, cached ones too, on a file system that is in "
               "use; dm-delay holds what reaches the disk, of everybody, and has to be below the file system from its "
               "mount on. dm-delay is read through O_DIRECT.")
    return [table]
