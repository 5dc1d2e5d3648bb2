#!/usr/bin/python3
"""net-shape on real interfaces: two network namespaces, a pair of veths, the driver by hand
(fault-driver). Bounds are wide: the machine may be loaded."""
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from contextlib import contextmanager

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import hook  # noqa: E402
from harness.agent import TIME_SCALE  # noqa: E402

BUILD = os.environ.get("PGJOLT_BUILD", "build/release")
DRIVER = os.path.join(BUILD, "tests/system/fault-driver")
# Unique to this process, so that two runs do not meet.
A, B = (f"pj-shape-{os.getpid()}-{x}" for x in "ab")
A4, B4, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"
MB = 1 << 20


def run(*command, check=True):
    r = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if check and r.returncode:
        raise RuntimeError(f"{' '.join(command)}: {r.stderr}{r.stdout}")
    return r.stdout


def in_netns(netns, *command, **more):
    return run("ip", "netns", "exec", netns, *command, **more)


def sysctl(netns, key, value):
    in_netns(netns, "sh", "-c", f"echo {value} > /proc/sys/net/{key}")


def setUpModule():
    for n in (A, B):
        run("ip", "netns", "add", n)
        run("ip", "-n", n, "link", "set", "lo", "up")
    run("ip", "-n", A, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", B)
    for n, v4, v6 in ((A, A4, A6), (B, B4, B6)):
        run("ip", "-n", n, "addr", "add", f"{v4}/24", "dev", "eth0")
        run("ip", "-n", n, "addr", "add", f"{v6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", n, "link", "set", "eth0", "up")
        sysctl(n, "ipv4/tcp_no_metrics_save", 1)
        # A thousand pings a second are no flood to be limited.
        sysctl(n, "ipv4/icmp_ratelimit", 0)


def tearDownModule():
    for n in (A, B):
        run("ip", "netns", "del", n, check=False)


def ping(count=20, interval=0.02, to=B4, netns=A, extra=()):
    """Lost share, round trips in ms (min, avg, max), duplicates."""
    out = in_netns(netns, "ping", "-q", "-c", str(count), "-i", str(interval), "-W", "2", *extra,
                   to, check=False)
    lost = float(re.search(r"([\d.]+)% packet loss", out).group(1)) / 100
    rtt = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", out)
    twice = re.search(r"\+(\d+) duplicates", out)
    return lost, tuple(map(float, rtt.groups())) if rtt else None, int(twice.group(1)) if twice else 0


class Fault:
    """A fault on whatever lives in namespace A."""
    running = []

    def __init__(self, fault, pid, params):
        self.process = subprocess.Popen([DRIVER, fault, str(pid), json.dumps(params)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.running.append(self)
        self.fault, self.record = fault, None

    def say(self, command, ok=True):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver died on {command}")
        answer = json.loads(line)
        if ok and not answer["ok"]:
            raise RuntimeError(f"{command}: {answer['error']}")
        self.record = answer.get("record") or (None if command == "revert" else self.record)
        return answer

    def observe(self):
        return self.say("observe")

    def end(self):
        self.say("release")
        self.say("revert")
        self.say("verify")
        self.close()

    def close(self):
        if self.process.stdin.closed:
            return
        self.running.remove(self)
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        hook.undo(self.fault, self.record)      # of one that did not come to its end

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)


class Case(unittest.TestCase):
    def setUp(self):
        self.target = subprocess.Popen(["ip", "netns", "exec", A, "sleep", "600"])
        for _ in range(100):
            if os.readlink(f"/proc/{self.target.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
                break
            time.sleep(0.02)

    def tearDown(self):
        for f in list(Fault.running):       # of a test that failed
            f.close()
        self.target.kill()
        self.target.wait()
        self.assert_nothing_left()

    def assert_nothing_left(self):
        self.assertNotIn("pjt-", run("ip", "-n", A, "link"))
        self.assertEqual(hook.left(A, "eth0"), [])

    @contextmanager
    def fault(self, name="net-shape", **params):
        f = Fault(name, self.target.pid, {k.replace("_", "-"): v for k, v in params.items()})
        try:
            f.say("arm")
            f.say("fire 60000")
            yield f
            f.end()
        finally:
            f.close()

    def assert_rtt(self, rtt, at_least, below):
        self.assertIsNotNone(rtt)
        self.assertGreaterEqual(rtt[0], at_least)
        self.assertLess(rtt[1], below + hook.slack_ms())


class Delay(Case):
    def test_each_direction_and_both(self):
        for ms, slack in ((0.5, 2), (2, 2), (20, 4)):
            for direction, times in (("out", 1), ("in", 1), ("both", 2)):
                with self.subTest(ms=ms, direction=direction):
                    with self.fault(delay=f"{ms}ms", direction=direction) as f:
                        _, rtt, _ = ping()
                        self.assert_rtt(rtt, ms * times, ms * times + slack)
                        _, rtt, _ = ping(netns=B, to=A4)
                        self.assert_rtt(rtt, ms * times, ms * times + slack)
                        seen = f.observe()
                        self.assertEqual(seen["hits"], 40 * times)
                        d = seen["detail"]
                        self.assertEqual(d["released"], d["frames"])
                        self.assertGreaterEqual(d["delay_ms"]["min"], ms)
                        self.assertEqual(sum(b["frames"] for b in d["delay_histogram"]),
                                         d["released"])
                        self.assertEqual({p["direction"] for p in d["peers"]},
                                         {"in", "out"} if direction == "both" else {direction})
                    _, rtt, _ = ping()
                    self.assertLess(rtt[1], ms * times + hook.slack_ms())

    def test_ipv6(self):
        with self.fault(delay="10ms", direction="out"):
            _, rtt, _ = ping(to=B6)
            self.assert_rtt(rtt, 10, 14)

    def test_interfaces_of_the_pod_s_own_that_are_named_like_ours(self):
        for name in ("pjt-fffei1", "pjt-ffffo1", "pjt-1i1"):
            run("ip", "-n", A, "link", "add", name, "type", "bridge")
        try:
            with self.fault(delay="10ms", direction="out"):
                _, rtt, _ = ping()
                self.assert_rtt(rtt, 10, 14)
        finally:
            for name in ("pjt-fffei1", "pjt-ffffo1", "pjt-1i1"):
                run("ip", "-n", A, "link", "del", name)

    def test_armed_only_does_nothing(self):
        f = Fault("net-shape", self.target.pid, {"delay": "50ms"})
        f.say("arm")
        _, rtt, _ = ping(5)
        self.assertLess(rtt[1], 10)
        self.assertEqual(f.observe()["hits"], 0)
        f.end()

    def test_ends_by_itself_at_its_deadline(self):
        f = Fault("net-shape", self.target.pid, {"delay": "50ms"})
        f.say("arm")
        f.say(f"fire {500 * TIME_SCALE:.0f}")
        _, rtt, _ = ping(3)
        self.assertGreater(rtt[0], 100)
        time.sleep(0.6 * TIME_SCALE)
        _, rtt, _ = ping(5)
        self.assertLess(rtt[1], 10)
        f.end()

    def test_others_are_untouched(self):
        run("ip", "-n", B, "addr", "add", "10.98.0.3/24", "dev", "eth0")
        try:
            with self.fault(delay="50ms", peers=["10.98.0.3"]) as f:
                _, rtt, _ = ping()
                self.assertLess(rtt[1], 10)
                self.assertEqual(f.observe()["hits"], 0)
                _, rtt, _ = ping(3, to="10.98.0.3")
                self.assertGreater(rtt[0], 100)
        finally:
            run("ip", "-n", B, "addr", "del", "10.98.0.3/24", "dev", "eth0")

    def test_ports(self):
        with self.fault(delay="40ms", peers=[f"{B4}:7001"], direction="out"):
            # The handshake, then the data; the best of some, since a busy machine adds its own.
            self.assertGreater(min(Transfer(7001).run(1000) for _ in range(3)), 0.08)
            self.assertLess(min(Transfer(7002).run(1000) for _ in range(5)),
                            0.04 + hook.slack_ms() / 1000)
            _, rtt, _ = ping(5)
            self.assertLess(rtt[1], 10)

    def test_two_shapes_add_up(self):
        with self.fault(delay="10ms") as one:
            with self.fault(delay="15ms") as two:
                _, rtt, _ = ping()
                self.assert_rtt(rtt, 50, 58)
                self.assertEqual(one.observe()["hits"], 40)
                self.assertEqual(two.observe()["hits"], 40)
            _, rtt, _ = ping()
            self.assert_rtt(rtt, 20, 26)
            with self.fault(delay="5ms", direction="in"):
                _, rtt, _ = ping()
                self.assert_rtt(rtt, 25, 32)

    def test_the_first_shape_may_end_first(self):
        with self.fault(delay="15ms", direction="out"):
            pass
        first = Fault("net-shape", self.target.pid, {"delay": "10ms", "direction": "out"})
        second = Fault("net-shape", self.target.pid, {"delay": "15ms", "direction": "in"})
        for f in (first, second):
            f.say("arm")
            f.say("fire 60000")
        first.end()
        _, rtt, _ = ping()
        self.assert_rtt(rtt, 15, 20)
        second.end()

    def test_jitter_and_its_order(self):
        with self.fault(delay="20ms", jitter="10ms", direction="out", seed=1) as f:
            _, rtt, _ = ping(100, 0.05)
            self.assertGreaterEqual(rtt[0], 10)
            self.assertLess(rtt[2], 45 + hook.slack_ms())
            self.assertGreater(rtt[2] - rtt[0], 8)
            self.assertEqual(out_of_order(self, 400), 0)
            self.assertEqual(f.observe()["detail"]["reordered"], 0)

    def test_reorder(self):
        with self.fault(delay="30ms", reorder="20%", direction="out", seed=1) as f:
            self.assertGreater(out_of_order(self, 400), 20)
            self.assertGreater(f.observe()["detail"]["reordered"], 20)


def out_of_order(case, count):
    """Numbered datagrams from A to B: how many came after a later one."""
    with Server(socket.SOCK_DGRAM, 7100) as s:
        s.socket.settimeout(5)
        sender = Client.popen(f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range({count}):
    s.sendto(i.to_bytes(4, 'big'), ('{B4}', 7100))
    time.sleep(0.001)
""")
        late = highest = 0
        for _ in range(count):
            number = int.from_bytes(s.socket.recv(64), "big")
            late += number < highest
            highest = max(highest, number)
        sender.communicate(timeout=30)
        case.assertEqual(sender.returncode, 0)
    return late


class Server:
    """A socket in namespace B: made by a thread that has entered it."""

    def __init__(self, kind, port):
        made = []

        def make():
            fd = os.open(f"/run/netns/{B}", os.O_RDONLY)
            setns(fd)
            os.close(fd)
            s = socket.socket(socket.AF_INET, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((B4, port))
            if kind == socket.SOCK_STREAM:
                s.listen()
            made.append(s)

        t = threading.Thread(target=make)
        t.start()
        t.join()
        self.socket = made[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def setns(fd):
    import ctypes
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")


class Client:
    @staticmethod
    def popen(program):
        return subprocess.Popen(["ip", "netns", "exec", A, sys.executable, "-B", "-c", program],
                                stdout=subprocess.PIPE, text=True)


class Transfer:
    """Bytes from A to B over TCP, or back; seconds it took. The data must arrive as it was."""

    def __init__(self, port):
        self.port = port

    def run(self, size, back=False):
        data = hashlib.shake_128(b"pgjolt").digest(65536)
        blocks, rest = divmod(size, len(data))
        expected = hashlib.sha256(data * blocks + data[:rest]).hexdigest()
        with Server(socket.SOCK_STREAM, self.port) as s:
            s.socket.settimeout(60)
            client = Client.popen(f"""
import hashlib, socket, time
start = time.monotonic()
s = socket.create_connection(('{B4}', {self.port}), 60)
data = hashlib.shake_128(b'pgjolt').digest(65536)
if {back}:
    h = hashlib.sha256()
    while block := s.recv(1 << 16):
        h.update(block)
    print(h.hexdigest(), time.monotonic() - start)
else:
    s.sendall(data * {blocks} + data[:{rest}])
    s.shutdown(socket.SHUT_WR)
    print(s.recv(64).decode(), time.monotonic() - start)
""")
            peer, _ = s.socket.accept()
            peer.settimeout(60)
            with peer:
                if back:
                    peer.sendall(data * blocks + data[:rest])
                else:
                    h = hashlib.sha256()
                    while block := peer.recv(1 << 16):
                        h.update(block)
                    peer.sendall(h.hexdigest().encode())
            out, _ = client.communicate(timeout=60)
        digest, seconds = out.split()
        if digest != expected:
            raise AssertionError("the data arrived changed")
        return float(seconds)


def snmp(netns, protocol, counter):
    """Several protocols have counters of the same name."""
    out = in_netns(netns, "cat", "/proc/net/snmp", "/proc/net/netstat")
    rows = out.splitlines()
    for names, values in zip(rows[::2], rows[1::2]):
        if names.split()[0] == protocol + ":":
            return int(dict(zip(names.split()[1:], values.split()[1:]))[counter])
    raise KeyError(protocol)


def bad_checksums(netns):
    return snmp(netns, "Tcp", "InCsumErrors") + snmp(netns, "Ip", "InHdrErrors")


class Damage(Case):
    def test_loss(self):
        with self.fault(loss="20%", direction="out", seed=1) as f:
            lost, _, _ = ping(300, 0.002)
            self.assertGreater(lost, 0.1)
            self.assertLess(lost, 0.3)
            seen = f.observe()
            self.assertEqual(seen["detail"]["lost"], round(lost * 300))
            self.assertEqual(seen["hits"], seen["detail"]["lost"])
        self.assertEqual(ping(50, 0.002)[0], 0)

    def test_gilbert_elliott(self):
        with self.fault(loss_model="gilbert-elliott", ge_p="10%", ge_r="30%", direction="out",
                        seed=1):
            lost, _, _ = ping(400, 0.002)
            self.assertGreater(lost, 0.12)
            self.assertLess(lost, 0.4)

    def test_duplicate(self):
        with self.fault(duplicate="30%", direction="out", seed=1) as f:
            lost, _, twice = ping(200, 0.002)
            self.assertEqual(lost, 0)
            self.assertGreater(twice, 30)
            self.assertLess(twice, 90)
            self.assertEqual(f.observe()["detail"]["duplicated"], twice)

    def test_loss_hits_packets_not_gso_frames(self):
        with self.fault(loss="0.5%", delay="1ms", direction="out", seed=1) as f:
            Transfer(7200).run(16 * MB)
            d = f.observe()["detail"]
            self.assertGreater(d["packets"], 2 * d["frames"])
            self.assertGreater(d["lost"], d["packets"] * 0.002)
            self.assertLess(d["lost"], d["packets"] * 0.01)

    def test_corrupt(self):
        for direction, back in (("out", False), ("in", True)):
            with self.subTest(direction=direction):
                receiver, sender = (A, B) if back else (B, A)
                bad, again = bad_checksums(receiver), snmp(sender, "Tcp", "RetransSegs")
                with self.fault(corrupt="0.5%", delay="1ms", direction=direction, seed=1) as f:
                    Transfer(7300).run(16 * MB, back)
                    self.assertGreater(f.observe()["detail"]["corrupted"], 10)
                self.assertGreater(snmp(sender, "Tcp", "RetransSegs"), again)
                self.assertGreater(bad_checksums(receiver), bad)

    def test_corrupt_all(self):
        with self.fault(corrupt="100%", direction="out", seed=1):
            lost, _, _ = ping(50, 0.002)
            # A bit that no checksum covers may get through; on IPv4 there is none.
            self.assertGreater(lost, 0.9)


class Payload(Case):
    """corrupt-mode payload: what TCP accepts, only a check of the data's own can find."""

    def setUp(self):
        super().setUp()
        self.before = [self.counters(n) for n in (A, B)]

    @staticmethod
    def counters(netns):
        return snmp(netns, "Tcp", "InCsumErrors")

    def assert_unnoticed(self):
        """Segments that are sent again prove nothing: a busy machine causes them by being late."""
        for netns, bad in zip((A, B), self.before):
            self.assertEqual(self.counters(netns), bad, "TCP saw a wrong checksum")

    def stream(self, port, size, back=False):
        """Bytes that arrive changed."""
        with Server(socket.SOCK_STREAM, port) as s:
            s.socket.settimeout(60)
            client = Client.popen(f"""
import hashlib, socket
data = hashlib.shake_128(b'pgjolt').digest({size})
s = socket.create_connection(('{B4}', {port}), 60)
if {back}:
    got = b''.join(iter(lambda: s.recv(1 << 16), b''))
    print(len(got) - len(data), sum(a != b for a, b in zip(got, data)))
else:
    s.sendall(data)
""")
            peer, _ = s.socket.accept()
            peer.settimeout(60)
            data = hashlib.shake_128(b"pgjolt").digest(size)
            with peer:
                if back:
                    peer.sendall(data)
                    got = data
                else:
                    got = b"".join(iter(lambda: peer.recv(1 << 16), b""))
            out, _ = client.communicate(timeout=60)
        self.assertEqual(len(got), size)
        if back:
            length, wrong = map(int, out.split())
            self.assertEqual(length, 0)
            return wrong
        return sum(a != b for a, b in zip(got, data))

    def test_stream_in_both_directions(self):
        for direction, back in (("out", False), ("in", True)):
            with self.subTest(direction=direction):
                with self.fault(corrupt="2%", corrupt_mode="payload", ports="7310",
                                direction=direction, seed=1) as f:
                    wrong = self.stream(7310, 8 * MB, back)
                    seen = f.observe()
                    self.assertGreater(wrong, 20)
                    # What is sent again for lateness may be damaged in the copy that comes second.
                    self.assertLessEqual(wrong, seen["detail"]["corrupted"])
                    self.assertGreater(wrong, seen["detail"]["corrupted"] * 0.7)
                    self.assertEqual(seen["hits"], seen["detail"]["corrupted"])
                    self.assertGreater(seen["detail"]["packets"], seen["detail"]["frames"])
                    # Another connection is not this shape's.
                    self.assertEqual(self.stream(7311, 4 * MB, back), 0)
                    self.assertEqual(f.observe()["detail"]["bytes"], seen["detail"]["bytes"])
        self.assertEqual(self.stream(7310, MB), 0)
        self.assert_unnoticed()

    def test_with_loss_that_splits_frames(self):
        with self.fault(corrupt="2%", corrupt_mode="payload", loss="0.2%", ports="7312",
                        direction="out", seed=1) as f:
            wrong = self.stream(7312, 8 * MB)
            d = f.observe()["detail"]
            self.assertGreater(d["lost"], 2)
            self.assertGreater(wrong, 20)
            self.assertLessEqual(wrong, d["corrupted"])

    def test_echo_with_a_checksum_of_its_own(self):
        with self.fault(corrupt="30%", corrupt_mode="payload", ports="7313", seed=1) as f:
            with Server(socket.SOCK_STREAM, 7313) as s:
                s.socket.settimeout(60)
                client = Client.popen(f"""
import os, socket, zlib
s = socket.create_connection(('{B4}', 7313), 60)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
bad = 0
for _ in range(200):
    body = os.urandom(500)
    s.sendall(body)
    answer = s.recv(500, socket.MSG_WAITALL)
    bad += zlib.crc32(answer) != zlib.crc32(body)
print(bad)
""")
                peer, _ = s.socket.accept()
                with peer:
                    while block := peer.recv(500, socket.MSG_WAITALL):
                        peer.sendall(block)
                bad = int(client.communicate(timeout=60)[0])
            # 1 - 0.7 * 0.7 of 200
            self.assertGreater(bad, 60)
            self.assertLess(bad, 145)
            self.assertGreaterEqual(f.observe()["detail"]["corrupted"], bad)
        self.assert_unnoticed()

    def test_ports_are_needed_where_the_instance_s_own_is_unknown(self):
        f = Fault("net-shape", self.target.pid, {"corrupt": "1%", "corrupt-mode": "payload"})
        answer = f.say("arm", ok=False)
        f.close()
        self.assertFalse(answer["ok"])
        self.assertIn("ports", answer["error"])


class Volume(Case):
    def test_large_transfers_arrive_whole(self):
        with self.fault(delay="2ms", jitter="1ms", reorder="5%", seed=1) as f:
            Transfer(7400).run(24 * MB)
            Transfer(7400).run(24 * MB, back=True)
            d = f.observe()["detail"]
            self.assertEqual(d["overflowed"], 0)
            self.assertEqual(d["write_errors"], 0)
            self.assertGreater(d["bytes"], 48 * MB)
        Transfer(7400).run(4 * MB)

    def test_rate(self):
        for direction, back in (("out", False), ("in", True)):
            with self.subTest(direction=direction):
                with self.fault(rate="40mbit", burst="64KiB", direction=direction):
                    seconds = Transfer(7500).run(10 * MB, back)
                rate = 10 * MB * 8 / seconds / 1e6
                self.assertGreater(rate, 20)
                self.assertLess(rate, 42)

    def test_overflow_is_counted(self):
        with self.fault(delay="500ms", limit="64KiB", direction="out") as f:
            sender = Client.popen(f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(400):
    s.sendto(bytes(1000), ('{B4}', 9))
""")
            sender.communicate(timeout=30)
            time.sleep(0.7)
            d = f.observe()["detail"]
            self.assertGreater(d["overflowed"], 100)
            self.assertEqual(d["frames"], 400)
            self.assertEqual(d["released"], 400 - d["overflowed"])
            self.assertLessEqual(d["held_bytes_peak"], 64 << 10)
            self.assertGreater(d["held_bytes_peak"], 48 << 10)

    def test_with_a_partition(self):
        with self.fault(delay="10ms"):
            with self.fault("net-partition", peers=[B4]):
                self.assertEqual(ping(5, extra=("-W", "1"))[0], 1)
            _, rtt, _ = ping()
            self.assert_rtt(rtt, 20, 28)
            run("ip", "-n", B, "link", "set", "eth0", "down")
            run("ip", "-n", B, "link", "set", "eth0", "up")
            run("ip", "-n", B, "addr", "replace", f"{B6}/64", "dev", "eth0", "nodad")
            _, rtt, _ = ping()
            self.assert_rtt(rtt, 20, 60)


class Ends(Case):
    def test_held_frames_are_let_go_at_the_end(self):
        f = Fault("net-shape", self.target.pid, {"delay": "20s", "direction": "out"})
        f.say("arm")
        f.say("fire 60000")
        p = subprocess.Popen(["ip", "netns", "exec", A, "ping", "-q", "-c", "10", "-i", "0.02",
                              "-W", "5", B4], stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        self.assertEqual(f.observe()["detail"]["released"], 0)
        f.end()
        out, _ = p.communicate(timeout=30)
        self.assertIn(" 0% packet loss", out)

    def test_killed_agent_leaves_nothing(self):
        f = Fault("net-shape", self.target.pid, {"delay": "5s"})
        f.say("arm")
        f.say("fire 60000")
        self.assertEqual(ping(3, extra=("-W", "1"))[0], 1)
        killed = time.monotonic()
        f.kill()
        # The first answer, not the first that is not lost: one ping a millisecond.
        out = in_netns(A, "ping", "-n", "-c", "100", "-i", "0.002", "-W", "1", B4, check=False)
        first = int(re.search(r"icmp_seq=(\d+) ", out).group(1))
        f.close()
        self.assertLess((first - 1) * 2, 100, out)
        self.assertLess(time.monotonic() - killed, 5)
        for _ in range(100):
            if "pjt-" not in run("ip", "-n", A, "link"):
                break
            time.sleep(0.02)
        self.assertEqual(ping()[0], 0)
        self.assert_nothing_left()

    def test_target_that_goes(self):
        f = Fault("net-shape", self.target.pid, {"delay": "20ms"})
        f.say("arm")
        f.say("fire 60000")
        self.target.kill()
        self.target.wait()
        f.observe()
        f.end()

    def test_namespace_that_goes(self):
        netns = f"pj-shape-{os.getpid()}-c"
        run("ip", "netns", "add", netns)
        run("ip", "-n", netns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        run("ip", "-n", netns, "link", "set", "eth0", "up")
        t = subprocess.Popen(["ip", "netns", "exec", netns, "sleep", "600"])
        time.sleep(0.3)
        f = Fault("net-shape", t.pid, {"delay": "20ms"})
        try:
            f.say("arm")
            f.say("fire 60000")
        finally:
            t.kill()
            t.wait()
            run("ip", "netns", "del", netns)
        f.observe()
        f.end()

    def test_interface_that_goes(self):
        netns = f"pj-shape-{os.getpid()}-d"
        run("ip", "netns", "add", netns)
        run("ip", "-n", netns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        t = subprocess.Popen(["ip", "netns", "exec", netns, "sleep", "600"])
        time.sleep(0.3)
        f = Fault("net-shape", t.pid, {"delay": "20ms"})
        try:
            f.say("arm")
            f.say("fire 60000")
            run("ip", "-n", netns, "link", "del", "eth0")
            for line in run("ip", "-n", netns, "-o", "link").splitlines():
                if "pjt-" in line:
                    run("ip", "-n", netns, "link", "del", line.split(": ")[1])
            before = process_ticks(f.process.pid)
            time.sleep(0.5)
            self.assertLess(process_ticks(f.process.pid) - before, 10, "it spins")
            f.observe()
            f.end()
        finally:
            f.close()
            t.kill()
            t.wait()
            run("ip", "netns", "del", netns)

    def test_idle_fault_does_not_wake(self):
        with self.fault(delay="20ms") as f:
            time.sleep(0.3)
            before = wakeups(f.process.pid)
            time.sleep(1)
            self.assertLessEqual(wakeups(f.process.pid) - before, 5)

    def test_the_nodes_own_network_is_refused(self):
        f = Fault("net-shape", os.getpid(), {"delay": "20ms"})
        answer = f.say("arm", ok=False)
        f.close()
        self.assertFalse(answer["ok"])
        self.assertIn("node's own network", answer["error"])

    def test_probe(self):
        f = Fault("net-shape", self.target.pid, {"delay": "20ms"})
        answer = f.say("probe")
        f.close()
        self.assertTrue(answer["supported"], answer)
        self.assertEqual(answer["mechanism"], hook.name() + ", TAP and delay line")


def process_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def wakeups(pid):
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as f:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M).group(1))
    return total


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
