"""The agent itself: what it costs while it waits, and how long it looks for instances."""
import os
import re
import subprocess
import time
import uuid

from benchlib import (CLIENT_ADDRESS, Agent, Api, Spawn, Table, Target, fault, median, ms, program, quantile,
                      scratch)
from harness.target import postgres_folder

MINIMAL = """
import http.server, socketserver
class H(http.server.BaseHTTPRequestHandler): pass
class S(socketserver.UnixStreamServer): pass
S(%r, H).serve_forever()
"""


def memory(pid):
    """KiB: resident, and its share where pages are shared."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        text = f.read()
    return tuple(int(re.search(rf"^{name}: *(\d+) kB", text, re.M).group(1))
                 for name in ("Rss", "Pss"))


def activity(pid):
    """Context switches and ns on a CPU, over all threads."""
    switches = ns = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as f:
            switches += sum(int(n) for n in re.findall(r"ctxt_switches:\s*(\d+)", f.read()))
        with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
            ns += int(f.read().split()[0])
    return switches, ns


def quiet(table, name, pid, seconds, goal=("", "")):
    rss, pss = memory(pid)
    time.sleep(1)
    before = activity(pid)
    time.sleep(seconds)
    after = activity(pid)
    table.row(name, f"{rss / 1024:.1f} MB", f"{pss / 1024:.1f} MB", goal[0], after[0] - before[0],
              ms(after[1] - before[1]), goal[1])


def idle(short):
    seconds = 3 if short else 30
    table = Table("The agent while nothing is asked of it",
                  ["", "RSS", "PSS", "goal", f"wake-ups in {seconds} s", "CPU time in that", "goal"])
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchi") as target:
        quiet(table, "just started", agent.pid, seconds, ("< 10 MB", "0"))
        api = Api(agent.socket).connect()
        for _ in range(20):
            api.call("GET", "/v1/instances")
            with fault(api, target, "net-partition", peers=["all"]):
                pass
            with fault(api, target, "net-shape", peers=["all"], delay="2ms"):
                pass
        api.close()
        time.sleep(1)
        quiet(table, "after 20 partitions and 20 shapes", agent.pid, seconds, ("< 10 MB", "0"))
        # A lease is renewed by nobody meanwhile: fault() asks for a minute of it.
        api.connect()
        with fault(api, target, "net-partition", peers=[f"{CLIENT_ADDRESS}/32"]):
            quiet(table, "with a net-partition active", agent.pid, seconds)
        with fault(api, target, "net-shape", peers=[f"{CLIENT_ADDRESS}/32"], delay="20ms"):
            quiet(table, "with a net-shape active and no traffic", agent.pid, seconds)
        api.close()
        beside = subprocess.Popen(["/usr/bin/python3", "-c", MINIMAL % f"{folder}/beside.sock"])
        time.sleep(1)
        quiet(table, "beside it: python3 with a bare HTTP server on a unix socket", beside.pid, seconds)
        beside.kill()
        beside.wait()
    table.note("Wake-ups: context switches of all its threads, voluntary or not.")
    return [table]


class Servers:
    """Real PostgreSQL servers, each in a network namespace that ends with it."""

    def __init__(self, folder):
        self.folder, self.bin, self.processes = folder, postgres_folder(), []
        self.as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]

    def __enter__(self):
        os.mkdir(f"{self.folder}/0")
        self.run("chown", "postgres", self.folder, f"{self.folder}/0")
        self.run(*self.as_postgres, f"{self.bin}/initdb", "-D", f"{self.folder}/0", "-N", "-A", "trust")
        return self

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def start(self, count):
        while len(self.processes) < count:
            n = len(self.processes) + 1
            self.run("cp", "-a", f"{self.folder}/0", f"{self.folder}/{n}")
            with open(f"{self.folder}/{n}.log", "ab") as log:
                self.processes.append(subprocess.Popen(
                    ["unshare", "--net", *self.as_postgres, f"{self.bin}/postgres", "-D",
                     f"{self.folder}/{n}", "-p", str(6000 + n), "-c", f"cluster_name=pjbench{n}",
                     "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}",
                     "-c", "shared_buffers=8MB", "-c", "fsync=off"], stdout=log, stderr=log))

    def __exit__(self, *_):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait(20)


def seen(api, wanted):
    """How many instances there are on the machine, once all of these servers are among them."""
    end = time.monotonic() + 20
    while True:
        names = [i["name"] for i in api.call("GET", "/v1/instances")["instances"]]
        if sum(n.startswith("pjbench") for n in names) >= wanted:
            return len(names)
        if time.monotonic() > end:
            raise RuntimeError(f"of {wanted} servers only these are seen: {', '.join(names)}")
        time.sleep(0.1)


def search(api):
    """ns to look for an instance that is not there: what arming looks through, and nothing else."""
    body = {"experiment": f"bench-{uuid.uuid4().hex[:10]}", "run": "bench", "fault": "net-partition",
            "instance": "pjbench/none", "params": {"peers": ["all"]}, "duration_ms": 1000, "lease_ms": 1000}
    ns, raw = api.exchange(api.request("POST", "/v1/experiments", body))
    if not raw.startswith(b"HTTP/1.1 404"):
        raise RuntimeError(f"not refused: {raw[:200]}")
    return ns


def tables_of_connections(pid):
    """ns to read what the kernel says of one network namespace's TCP connections."""
    start = time.monotonic_ns()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{name}", "rb") as f:
            f.read()
    return time.monotonic_ns() - start


def scan(short):
    rounds = 10 if short else 50
    table = Table("Looking for instances",
                  ["PostgreSQL servers on the machine", "processes", "GET /v1/instances, p50", "p99",
                   "arm's search, p50", "p99", "ps -ef, p50", "arm's search / ps -ef", "one namespace's tcp and tcp6, p50"])
    with scratch("bench") as folder, Agent(folder) as agent, Api(agent.socket) as api, Spawn() as spawn, \
            scratch("bench-servers") as home, Servers(home) as servers:
        request = api.request("GET", "/v1/instances")
        # sh: its output is thrown away.
        with open(f"{home}/ps", "w") as f:
            f.write("exec ps -ef >/dev/null\n")
        sleepers = []
        try:
            for count, others in ((1, 0), (3, 0), (10, 0), (10, 500)):
                servers.start(count)
                while len(sleepers) < others:
                    sleepers.append(subprocess.Popen(["sleep", "600"]))
                time.sleep(1)
                instances, running = seen(api, count), sum(n.isdigit() for n in os.listdir("/proc"))
                rows = [(api.exchange(request)[0], search(api), spawn.run(f"{program('sh')} {home}/ps"),
                         tables_of_connections(servers.processes[0].pid)) for _ in range(rounds)]
                found, looked, ps, tables = zip(*rows)
                table.row(instances, running, ms(median(found)), ms(quantile(found, 0.99)),
                          ms(median(looked)), ms(quantile(looked, 0.99)), ms(median(ps)),
                          f"{median(looked) / median(ps):.2f}", ms(median(tables)))
        finally:
            for p in sleepers:
                p.kill()
            for p in sleepers:
                p.wait()
    table.note(f"{rounds} rounds of all. Nothing is cached: each scan reads /proc anew. GET /v1/instances also "
               "reads each network namespace's table of connections, for `dcs`; arming does not. ps is started "
               "by sh, its output thrown away.")
    return [table]
