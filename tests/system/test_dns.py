#!/usr/bin/python3
"""dns on real interfaces: an instance and a bystander, each in a network namespace of its own, ask a name
server in a third. Bounds are wide: the machine may be loaded."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
from contextlib import contextmanager

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import hook  # noqa: E402
from harness.name_server import NameServer  # noqa: E402
from harness.netns import socket_in  # noqa: E402

BUILD = os.environ.get("PGJOLT_BUILD", "build/release")
DRIVER = os.path.join(BUILD, "tests/system/fault-driver")
INSTANCE, SERVER, OTHER = (f"pj-dns-{os.getpid()}-{x}" for x in "iso")
ADDRESSES = {INSTANCE: ("10.97.1.1", "fd97:1::1"), OTHER: ("10.97.2.1", "fd97:2::1")}
SERVERS = {INSTANCE: ("10.97.1.2", "fd97:1::2"), OTHER: ("10.97.2.2", "fd97:2::2")}
OK, SERVFAIL, NXDOMAIN = 0, 2, 3

# Asks from within a namespace: prints [rcode or what happened, seconds] for each query.
CLIENT = r"""
import json, socket, struct, sys, time
kind, server, port, limit, *names = sys.argv[1:]
out = []
for i, name in enumerate(names):
    q = struct.pack('!6H', 1000 + i, 0x100, 1, 0, 0, 0)
    q += b''.join(bytes([len(x)]) + x.encode() for x in name.split('.')) + b'\0' + struct.pack('!2H', 1, 1)
    start = time.monotonic()
    try:
        s = socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET,
                          socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
        s.settimeout(float(limit))
        s.connect((server, int(port)))
        if kind == 'tcp':
            s.sendall(struct.pack('!H', len(q)) + q)
            n = struct.unpack('!H', s.recv(2, socket.MSG_WAITALL))[0]
            a = s.recv(n, socket.MSG_WAITALL)
        else:
            s.send(q)
            a = s.recv(4096)
        ok = a[:2] == q[:2] and a[2] & 0x80 and a[12:len(q)] == q[12:]
        result = a[3] & 15 if ok else 'garbage'
    except ConnectionError:
        result = 'reset'
    except TimeoutError:
        result = 'timeout'
    out.append([result, time.monotonic() - start])
print(json.dumps(out))
"""


def run(*command, check=True):
    r = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and r.returncode:
        raise RuntimeError(f"{' '.join(command)}: {r.stderr}{r.stdout}")
    return r.stdout


def ask(netns, *names, kind="udp", v6=False, port=53, limit=2):
    out = run("ip", "netns", "exec", netns, sys.executable, "-B", "-c", CLIENT, kind,
              SERVERS[netns][v6], str(port), str(limit), *names)
    return json.loads(out)


servers = {}


def setUpModule():
    for n in (INSTANCE, SERVER, OTHER):
        run("ip", "netns", "add", n)
        run("ip", "-n", n, "link", "set", "lo", "up")
    for i, n in enumerate((INSTANCE, OTHER)):
        run("ip", "-n", n, "link", "add", "eth0", "type", "veth", "peer", "name", f"eth{i}",
            "netns", SERVER)
        for netns, dev, (v4, v6) in ((n, "eth0", ADDRESSES[n]), (SERVER, f"eth{i}", SERVERS[n])):
            run("ip", "-n", netns, "addr", "add", f"{v4}/24", "dev", dev)
            run("ip", "-n", netns, "addr", "add", f"{v6}/64", "dev", dev, "nodad")
            run("ip", "-n", netns, "link", "set", dev, "up")
        # `ip netns exec` puts it over /etc/resolv.conf
        os.makedirs(f"/etc/netns/{n}")
        with open(f"/etc/netns/{n}/resolv.conf", "w") as f:
            f.write(f"nameserver {SERVERS[n][0]}\noptions timeout:1 attempts:1\n")
        with open(f"/etc/netns/{n}/nsswitch.conf", "w") as f:
            f.write("hosts: files dns\n")
    servers.update({port: NameServer(SERVER, port) for port in (53, 5353)})


def tearDownModule():
    for s in servers.values():
        s.close()
    for n in (INSTANCE, SERVER, OTHER):
        run("ip", "netns", "del", n, check=False)
        shutil.rmtree(f"/etc/netns/{n}", ignore_errors=True)
    try:
        os.rmdir("/etc/netns")
    except OSError:
        pass


class Fault:
    def __init__(self, pid, params):
        self.process = subprocess.Popen([DRIVER, "dns", str(pid), json.dumps(params)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver died on {command}")
        answer = json.loads(line)
        if not answer["ok"]:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer

    def end(self):
        for step in ("release", "revert", "verify"):
            self.say(step)

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.target = subprocess.Popen(["ip", "netns", "exec", INSTANCE, "sleep", "600"])
        for _ in range(100):
            if os.readlink(f"/proc/{self.target.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
                break
            time.sleep(0.02)

    def tearDown(self):
        self.target.kill()
        self.target.wait()
        self.assertNotIn("pjt-", run("ip", "-n", INSTANCE, "link"))
        self.assertEqual(hook.left(INSTANCE, "eth0"), [])

    @contextmanager
    def fault(self, **params):
        f = Fault(self.target.pid, params)
        try:
            f.say("arm")
            self.assert_well()      # armed, it does nothing
            f.say("fire 60000")
            yield f
            f.end()
        finally:
            f.close()
        self.assert_well()

    def assert_well(self, netns=INSTANCE):
        for kind in ("udp", "tcp"):
            self.assertEqual([r for r, _ in ask(netns, "www.example.com", kind=kind)], [OK])

    def results(self, *names, **more):
        return [r for r, _ in ask(INSTANCE, *names, **more)]


class Modes(Case):
    def test_nxdomain_and_servfail(self):
        for mode, rcode in (("nxdomain", NXDOMAIN), ("servfail", SERVFAIL)):
            with self.subTest(mode=mode), self.fault(mode=mode) as f:
                asked = servers[53].asked
                for v6 in (False, True):
                    self.assertEqual(self.results("a.org", "b.org", v6=v6), [rcode] * 2)
                    self.assertEqual(self.results("a.org", kind="tcp", v6=v6), ["reset"])
                self.assertEqual(servers[53].asked, asked, "a query left")
                self.assert_well(OTHER)
                self.assertEqual(self.results("a.org", port=5353), [OK])
                d = f.say("observe")
                self.assertEqual(d["hits"], 6)
                self.assertEqual((d["detail"]["answered"], d["detail"]["reset"]), (4, 2))
                self.assertEqual(d["detail"]["write_errors"], 0)

    def test_as_the_c_library_sees_it(self):
        def getent(netns):
            return subprocess.run(["ip", "netns", "exec", netns, "getent", "ahostsv4", "db.test"],
                                  capture_output=True, text=True, timeout=30, check=False)
        self.assertIn("192.0.2.1", getent(INSTANCE).stdout)
        with self.fault(mode="nxdomain"):
            self.assertEqual(getent(INSTANCE).returncode, 2)
            self.assertIn("192.0.2.1", getent(OTHER).stdout)
        self.assertIn("192.0.2.1", getent(INSTANCE).stdout)

    def test_timeout(self):
        with self.fault(mode="timeout") as f:
            asked = servers[53].asked
            self.assertEqual(self.results("a.org", limit=0.5), ["timeout"])
            self.assertEqual(self.results("a.org", kind="tcp", limit=0.5), ["timeout"])
            self.assertEqual(servers[53].asked, asked, "a query left")
            self.assert_well(OTHER)
            self.assertGreaterEqual(f.say("observe")["detail"]["dropped"], 2)

    def test_delay(self):
        with self.fault(mode="delay", delay="300ms") as f:
            for kind, v6 in (("udp", False), ("udp", True), ("tcp", False)):
                [[result, seconds]] = ask(INSTANCE, "a.org", kind=kind, v6=v6)
                self.assertEqual(result, OK)
                self.assertGreaterEqual(seconds, 0.3)
                self.assertLess(seconds, 0.58)
            [[_, seconds]] = ask(OTHER, "a.org")
            self.assertLess(seconds, 0.25)
            self.assertGreaterEqual(f.say("observe")["detail"]["held"], 3)

    def test_names(self):
        names = ["db.example.com", "EXAMPLE.com", "notexample.com", "a.org"]
        with self.fault(mode="nxdomain", names=["example.com", "other.net"]) as f:
            self.assertEqual(self.results(*names), [NXDOMAIN, NXDOMAIN, OK, OK])
            self.assertEqual(self.results(*names, kind="tcp"), ["reset", "reset", OK, OK])
            d = f.say("observe")
            self.assertEqual(d["hits"], 4)
            self.assertEqual(d["detail"]["names"], [{"name": "example.com", "queries": 4},
                                                    {"name": "other.net", "queries": 0}])
        with self.fault(mode="timeout", names=["example.com"]):
            self.assertEqual(self.results(*names, limit=0.5), ["timeout", "timeout", OK, OK])
        with self.fault(mode="delay", delay="300ms", names=["example.com"]):
            times = [seconds for _, seconds in ask(INSTANCE, *names)]
            self.assertGreaterEqual(min(times[:2]), 0.3)
            self.assertLess(max(times[2:]), 0.25)

    def test_what_is_no_query(self):
        with self.fault(mode="nxdomain", names=["example.com"]):
            s = socket_in(INSTANCE, socket.AF_INET, socket.SOCK_DGRAM)
            with s:
                for junk in (b"", b"\0", b"\xff" * 600, os.urandom(1400)):
                    s.sendto(junk, (SERVERS[INSTANCE][0], 53))
            self.assertEqual(self.results("db.example.com", "a.org"), [NXDOMAIN, OK])

    def test_probe(self):
        f = Fault(self.target.pid, {"mode": "timeout"})
        self.assertTrue(f.say("probe")["supported"])
        f.close()


class Ends(Case):
    def test_deadline(self):
        f = Fault(self.target.pid, {"mode": "nxdomain"})
        f.say("arm")
        f.say("fire 700")
        self.assertEqual(self.results("a.org"), [NXDOMAIN])
        time.sleep(0.8)
        self.assert_well()
        f.end()
        f.close()

    def test_held_queries_leave_at_the_end(self):
        f = Fault(self.target.pid, {"mode": "delay", "delay": "30s"})
        f.say("arm")
        f.say("fire 60000")
        with socket_in(INSTANCE, socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(5)
            s.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", (SERVERS[INSTANCE][0], 53))
            time.sleep(0.3)
            f.end()
            self.assertEqual(s.recv(512)[:2], b"\x12\x34")
        f.close()

    def test_killed_agent_leaves_nothing(self):
        f = Fault(self.target.pid, {"mode": "timeout"})
        record = f.say("arm")["record"]
        f.say("fire 60000")
        self.assertEqual(self.results("a.org", limit=0.3), ["timeout"])
        query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
        best = None
        with socket_in(INSTANCE, socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.005)
            killed = time.monotonic()
            os.kill(f.process.pid, signal.SIGKILL)
            while best is None and time.monotonic() - killed < 5:
                s.sendto(query, (SERVERS[INSTANCE][0], 53))
                try:
                    s.recv(512)
                    best = time.monotonic() - killed
                except TimeoutError:
                    pass
        f.close()
        self.assertIsNotNone(best)
        self.assertLess(best, 0.1)
        for _ in range(100):
            if "pjt-" not in run("ip", "-n", INSTANCE, "link"):
                break
            time.sleep(0.02)
        self.assert_well()
        hook.undo("dns", record)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
