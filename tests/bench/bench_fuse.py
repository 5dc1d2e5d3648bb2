"""disk-latency on a database beside a file system in user space (FUSE) that passes everything on and sleeps."""
import contextlib
import os
import signal
import subprocess
import time

from bench_gates import SELDOM
from benchlib import Agent, Table, median, ms, quantile, ratio_of_pairs, tool
from lib_postgres import Server, wait_for

TITLE = "disk-latency on a database beside a FUSE passthrough that sleeps"
IMAGE_MIB = 900
SCALE = 10          # some 160 MB, ten times the shared buffers
DELAYS_MS = (1, 5)
# Distinct blocks, each one read: times in microseconds, a line each.
READS = """create or replace function bench_reads(first int, n int) returns setof float8 language plpgsql as $$
declare t timestamptz; begin
for i in first .. first + n - 1 loop
t := clock_timestamp(); perform length(get_raw_page('pgbench_accounts', i));
return next extract(epoch from clock_timestamp() - t) * 1e6;
end loop; end $$"""
CASES = [("nothing", "", 0), ("in place, no delay", "", 0),
         *((f"{kind} {d} ms late", kind, d) for kind in ("read", "fsync") for d in DELAYS_MS)]


class Passthrough:
    def __init__(self, source, mountpoint):
        os.mkdir(mountpoint)
        self.mountpoint = mountpoint
        self.process = subprocess.Popen([tool("fuse"), source, mountpoint], stdin=subprocess.PIPE, cwd="/",
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            said = self.process.stderr.read().strip()
            self.close()
            raise OSError(said or "it does not mount")
        wait_for("the FUSE mount", lambda: os.path.ismount(mountpoint))

    def late(self, kind, delay_ms):
        for name in ("read", "fsync"):
            self.process.stdin.write(f"{name} {delay_ms * 10**6 if name == kind else 0}\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "ok\n"

    def close(self):
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        if os.path.ismount(self.mountpoint):
            subprocess.run(["umount", "-l", self.mountpoint], check=False)


class World:
    """A server whose data is on an ext4 of its own."""

    def __init__(self):
        self.passthrough = self.agent = None
        self.server = Server("benchf", 25483, settings=["--shared_buffers=16MB", "--autovacuum=off",
                                                        "--checkpoint_timeout=1h", "--max_wal_size=4GB",
                                                        # mmap needs files that FUSE cannot map with direct_io.
                                                        "--dynamic_shared_memory_type=posix"])
        self.volume = f"{self.server.folder}/volume"
        self.mounted = False

    def __enter__(self):
        try:
            image = f"{self.server.folder}/volume.img"
            with open(image, "wb") as f:
                f.truncate(IMAGE_MIB << 20)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
            os.mkdir(self.volume)
            subprocess.run(["mount", "-o", "loop", image, self.volume], check=True)
            self.mounted = True
            subprocess.run(["mv", self.server.data, f"{self.volume}/data"], check=True)
            self.server.data = f"{self.volume}/data"
            self.server.start()
            self.server.pgbench("-i", "-q", "-s", str(SCALE))
            self.server.query("create extension pageinspect")
            self.server.query(READS)
            self.server.query("checkpoint")
            self.agent = Agent.alone()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        if self.agent:
            self.agent.remove()
        self.server.stop()
        if self.passthrough:
            self.passthrough.close()
        if self.mounted:
            wait_for("the volume is not in use", lambda: subprocess.run(
                ["umount", self.volume], stderr=subprocess.DEVNULL, check=False).returncode == 0)
        self.server.remove()

    def stop(self):
        """As an operator stops it."""
        os.kill(self.server.postmaster, signal.SIGINT)
        self.server.process.wait(60)
        self.server.process = None

    def move(self, onto_fuse):
        """Milliseconds that the database was away."""
        start = time.monotonic()
        self.stop()
        if onto_fuse:
            self.passthrough = Passthrough(self.volume, f"{self.server.folder}/fuse")
            self.server.data = f"{self.passthrough.mountpoint}/data"
        self.server.start()
        return (time.monotonic() - start) * 1000

    def move_back(self):
        self.stop()
        self.passthrough.close()
        os.rmdir(self.passthrough.mountpoint)
        self.passthrough = None
        self.server.data = f"{self.volume}/data"
        self.server.start()

    @contextlib.contextmanager
    def gate(self, case, kind, delay_ms):
        """Yields the milliseconds until it was in effect."""
        if case == "nothing":
            yield None
            return
        params = {"delay": "1ms", "percent": SELDOM} if not kind else \
            {"delay": f"{delay_ms}ms", "operations": ["read"] if kind == "read" else ["fsync", "fdatasync"]}
        name = self.agent.instance_of(self.server.postmaster)["name"]
        start = time.monotonic()
        experiment = self.agent.inject("disk-latency", name, params)
        took = (time.monotonic() - start) * 1000
        try:
            yield took
        finally:
            self.agent.revert(experiment)

    def measure(self, kind, seconds, first, reads):
        """(transactions a second that write, and that read, ns of each read of a block, ns of a commit)."""
        rates = [self.server.pgbench("-n", "-T", str(seconds), "-c", "4", *words) or 0
                 for words, only in ((("-N",), "read"), (("-S",), "fsync")) if kind != only]
        writes = rates[0] if kind != "read" else None
        each = [float(x) * 1000 for x in self.server.query(
            f"select bench_reads({first}, {reads})", limit=120).split()] if kind != "fsync" else []
        commit = self.server.pgbench("-n", "-T", str(seconds), "-c", "1", "-N") if kind != "read" else None
        return {"writes": writes, "reads": rates[-1] if kind != "fsync" else None, "each": each,
                "commit": 1e9 / commit if commit else None}


def rounds_of(world, found, moves, short):
    rounds, seconds, reads = (1, 1, 40) if short else (4, 3, 150)
    first = 1
    for _ in range(rounds):
        for by in ("disk-latency", "FUSE"):
            if by == "FUSE":
                moves.setdefault(by, []).append(world.move(onto_fuse=True))
            for case, kind, delay in CASES:
                if by == "FUSE" and case == "nothing":
                    continue
                if by == "FUSE":
                    world.passthrough.late(kind, delay)
                with world.gate(case, kind, delay) if by != "FUSE" else contextlib.nullcontext() as took:
                    if took is not None:
                        moves.setdefault(by, []).append(took)
                    found.setdefault((by if case != "nothing" else "", case), []).append(
                        world.measure(kind, seconds, first, reads))
                first += reads
        world.move_back()
    return rounds, seconds, reads


def cells_of(values, base, name):
    """A rate and its ratio to nothing's of the same round."""
    if values[0][name] is None:
        return ["", ""]
    rates = [v[name] for v in values]
    ratio = "1" if values is base else "{:.3f} ({:.3f}-{:.3f})".format(
        *ratio_of_pairs(rates, [v[name] for v in base]))
    return [f"{median(rates):.0f}/s", ratio]


def tables(found, moves, rounds, seconds, reads):
    table = Table(TITLE, ["by", "what", "pgbench -N (writes)", "ratio", "pgbench -S (reads)", "ratio", "a block read, median",
                          "p99", "a commit, 1 client"])
    base = found["", "nothing"]
    order = [("", "nothing"), *((by, c[0]) for c in CASES[1:] for by in ("disk-latency", "FUSE"))]
    for by, case in order:
        values = found[by, case]
        each = [x for v in values for x in v["each"]]
        commits = [v["commit"] for v in values if v["commit"]]
        table.row(by, case, *cells_of(values, base, "writes"), *cells_of(values, base, "reads"),
                  ms(median(each)) if each else "", ms(quantile(each, 0.99)) if each else "",
                  ms(median(commits)) if commits else "")
    table.note(f"pgbench -c 4, scale {SCALE}, {seconds} s a figure, {rounds} rounds; ratio: to nothing in the same round, median "
               f"and quartiles. A block: get_raw_page() of one that the shared buffers have not, {reads} a round. A "
               "commit: pgbench -N with one client, its other statements included. 0/s: no session was through its first reads in "
               "that time. FUSE passes reads with direct_io, so that each is seen, as by a "
               "gate.")
    needs = Table("What it takes to have it", ["by", "until in effect, median", "the database meanwhile"])
    needs.row("disk-latency", f"{median(moves['disk-latency']):.0f} ms", "runs on")
    needs.row("FUSE", f"{median(moves['FUSE']):.0f} ms", "is away: stopped, and started on another path; again to be rid of it")
    return [table, needs]


def absent(why):
    table = Table(TITLE, ["not measured"])
    table.row(why)
    return [table]


def fuse(short):
    if not os.path.exists("/dev/fuse"):
        return absent("this machine has no /dev/fuse")
    if not os.access(tool("fuse"), os.X_OK):
        return absent("built without libfuse3 (tools/deps bench, then build again)")
    found, moves = {}, {}
    with World() as world:
        try:
            how = rounds_of(world, found, moves, short)
        except OSError as e:
            return absent(f"FUSE cannot be mounted here: {e}")
    return tables(found, moves, *how)
