"""The agent itself: what it costs while it waits, and how long it looks for instances."""
import os
import re
import subprocess
import time

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
    with scratch("bench") as folder, Agent(folder) as agent, Target(folder, "benchi") as target, \
            Api(agent.socket) as api:
        quiet(table, "just started", agent.pid, seconds, ("< 10 MB", "0"))
        for _ in range(20):
            api.call("GET", "/v1/instances")
            with fault(api, target, "net-partition", peers=["all"]):
                pass
            with fault(api, target, "net-shape", peers=["all"], delay="2ms"):
                pass
        api.close()
        time.sleep(1)
        quiet(table, "after 20 partitions and 20 shapes", agent.pid, seconds, ("< 10 MB", "0"))
        api.connect()
        with fault(api, target, "net-partition", peers=[f"{CLIENT_ADDRESS}/32"]):
            quiet(table, "with a net-partition active", agent.pid, seconds)
        with fault(api, target, "net-shape", peers=[f"{CLIENT_ADDRESS}/32"], delay="20ms"):
            quiet(table, "with a net-shape active and no traffic", agent.pid, seconds)
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


def scanned(api, request, wanted, rounds):
    """ns of each scan, once all the servers are seen."""
    end = time.monotonic() + 20
    while sum(i["name"].startswith("pjbench") for i in api.call("GET", "/v1/instances")["instances"]) < wanted:
        if time.monotonic() > end:
            raise RuntimeError(f"not all of {wanted} servers are seen")
        time.sleep(0.1)
    return [api.exchange(request)[0] for _ in range(rounds)]


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc"))


def scan(short):
    rounds = 20 if short else 200
    table = Table("Looking for instances (GET /v1/instances, warm connection)",
                  ["PostgreSQL servers", "processes on the machine", "p50", "p99", "ps -ef, p50",
                   "of ps -ef (p50)"])
    with scratch("bench") as folder, Agent(folder) as agent, Api(agent.socket) as api, Spawn() as spawn, \
            scratch("bench-servers") as home, Servers(home) as servers:
        request = api.request("GET", "/v1/instances")
        sleepers = []
        try:
            for count, others in ((1, 0), (3, 0), (10, 0), (10, 500)):
                servers.start(count)
                while len(sleepers) < others:
                    sleepers.append(subprocess.Popen(["sleep", "600"]))
                time.sleep(1)
                found = scanned(api, request, count, rounds)
                ps = [spawn.run(f"{program('sh')} {home}/ps") for _ in range(rounds)] \
                    if write_ps(home) else []
                table.row(count, processes(), ms(median(found)), ms(quantile(found, 0.99)),
                          ms(median(ps)), f"{median(found) / median(ps):.2f}")
        finally:
            for p in sleepers:
                p.kill()
            for p in sleepers:
                p.wait()
    table.note(f"{rounds} scans. Nothing is cached: each scan reads /proc anew. ps is started by sh with its output "
               "thrown away.")
    return [table]


def write_ps(folder):
    """`exec` and a redirection in one line: the time of a shell's start is in it."""
    with open(f"{folder}/ps", "w") as f:
        f.write("exec ps -ef >/dev/null\n")
    return True
