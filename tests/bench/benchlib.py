"""What the benchmarks share: figures, tables, the agent's API without a client's own time, programs
that are started and timed by a C program, a target with traffic to and from it."""
import contextlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from harness.agent import BUILD, Agent, scratch    # noqa: E402
from harness.target import ADDRESS, CLIENT_ADDRESS, Target  # noqa: E402

PORT = 9099
__all__ = ["ADDRESS", "CLIENT_ADDRESS", "Agent", "Api", "BUILD", "Spawn", "Table", "Target", "Traffic",
           "experiment_of", "machine", "median", "quantile", "ratio_of_pairs", "scratch", "tool",
           "us", "fault", "ms", "program"]


def tool(name):
    return os.path.join(BUILD, "tests/bench", f"bench-{name}")


def program(name):
    """Where a program of the alternative is; None where this machine lacks it."""
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    return None


def quantile(values, share):
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


median = statistics.median


def ms(ns):
    return f"{ns / 1e6:.2f} ms" if ns >= 1e5 else us(ns)


def us(ns):
    return f"{ns / 1e3:.1f} us" if ns >= 100 else f"{ns} ns"


def ratio_of_pairs(ours, base):
    """Of values measured in the same round: the median ratio, and its 25 % and 75 % quantiles."""
    pairs = [a / b for a, b in zip(ours, base)]
    return median(pairs), quantile(pairs, 0.25), quantile(pairs, 0.75)


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    virtual = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True).stdout.strip() \
        if program("systemd-detect-virt") else ""
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs"
            f"{f' ({virtual})' if virtual not in ('', 'none') else ''}, Linux {platform.release()}, "
            f"{time.strftime('%Y-%m-%d %H:%M')}")


class Table:
    """Rows of Markdown, told as they come; load is the machine's when the benchmark began."""

    def __init__(self, title, columns):
        self.title, self.columns, self.rows, self.notes = title, columns, [], []
        self.load = os.getloadavg()[0]

    def row(self, *cells):
        assert len(cells) == len(self.columns)
        self.rows.append([str(c) for c in cells])

    def note(self, text):
        self.notes.append(text)

    def text(self):
        lines = [f"### {self.title}", "",
                 "| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(r) + " |" for r in self.rows]
        lines += ["", f"Load average when it began: {self.load:.2f}."] + self.notes
        return "\n".join(lines) + "\n"


class Api:
    """One connection. What a client library would add is not in the times: the request is made
    before, and the answer is parsed after the clock was read."""

    def __init__(self, path):
        self.path, self.socket = path, None

    def __enter__(self):
        return self.connect()

    def __exit__(self, *_):
        self.close()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(self.path)
        return self

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    @staticmethod
    def request(method, path, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        return (f"{method} {path} HTTP/1.1\r\nHost: agent\r\n{kind}"
                f"Content-Length: {len(data)}\r\n\r\n").encode() + data

    def exchange(self, request):
        """(ns, raw answer)."""
        start = time.monotonic_ns()
        self.socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.more()
        length = int(re.search(rb"(?i)content-length: *(\d+)", data[:end]).group(1))
        while len(data) < end + 4 + length:
            data += self.more()
        return time.monotonic_ns() - start, data

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise RuntimeError("the agent hung up")
        return data

    @staticmethod
    def parse(raw):
        head, body = raw.split(b"\r\n\r\n", 1)
        if not head.split(b" ")[1].startswith(b"2"):
            raise RuntimeError(body.decode())
        return json.loads(body)

    def call(self, method, path, body=None):
        return self.parse(self.exchange(self.request(method, path, body))[1])


def experiment_of(target, fault, **params):
    """A body to arm with; its id is new."""
    return {"experiment": f"bench-{uuid.uuid4().hex[:10]}", "run": "bench", "fault": fault,
            "instance": target.name, "duration_ms": 600000, "lease_ms": 60000,
            "params": {k.replace("_", "-"): v for k, v in params.items()}}


@contextlib.contextmanager
def fault(api, target, name, fired=True, **params):
    """Active (or armed) within; yields a function that gives the experiment as it is now."""
    body = experiment_of(target, name, **params)
    path = f"/v1/experiments/{body['experiment']}"
    api.call("POST", "/v1/experiments", body)
    try:
        if fired:
            api.call("POST", path + "/fire")
        yield lambda: api.call("GET", path)
    finally:
        api.call("POST", path + "/revert")


class Spawn:
    """Commands timed from outside: posix_spawn() to exit."""

    def __enter__(self):
        self.process = subprocess.Popen([tool("spawn")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def run(self, *commands):
        """ns of all of them, one after another."""
        self.process.stdin.write(" ; ".join(commands) + "\n")
        ns, status = self.process.stdout.readline().split()
        if status != "0":
            raise RuntimeError(f"exit {status}: {'; '.join(commands)}")
        return int(ns)


class Traffic:
    """A server among the instance's processes, and its clients in the clients' namespace."""

    def __init__(self, target, pin=False):
        self.target = target
        self.environment = {**os.environ, **({"BENCH_PIN": "1"} if pin else {})}

    def __enter__(self):
        # Buffers are not to be what limits.
        for ns in (self.target.netns, self.target.client_netns):
            for name in ("tcp_rmem", "tcp_wmem"):
                self.inside(ns, "sh", "-c",
                            f"echo 4096 131072 67108864 >/proc/sys/net/ipv4/{name}")
        self.server = subprocess.Popen(
            ["ip", "netns", "exec", self.target.netns, tool("traffic"), "serve", str(PORT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
        if self.server.stdout.readline() != "ready\n":
            raise RuntimeError("no traffic server")
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(10)
        self.server.stdout.close()

    def inside(self, netns, *command):
        return subprocess.run(["ip", "netns", "exec", netns, *command], check=True, timeout=120,
                              capture_output=True, text=True, env=self.environment).stdout

    def client(self, verb, *words):
        return self.inside(self.target.client_netns, tool("traffic"), verb, ADDRESS, str(PORT),
                           *map(str, words))

    def stream(self, way, milliseconds, warm_ms=300):
        """Bits a second; way as the instance sees it."""
        return float(self.client("stream", {"out": "down", "in": "up"}[way], warm_ms, milliseconds))

    def rr(self, milliseconds):
        return float(self.client("rr", milliseconds))

    def ping(self, count, interval_us):
        """Round trips in ns, and how many were lost."""
        lines = self.client("ping", count, interval_us).split()
        return [int(x) for x in lines if x != "lost"], lines.count("lost")
