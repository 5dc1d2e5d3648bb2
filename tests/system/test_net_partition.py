"""net-partition on real interfaces: what the instance, its peers and a bystander see.

Everything happens in network namespaces of this test's own."""
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness import hook  # noqa: E402

DRIVER = os.path.join(os.environ.get("PGJOLT_BUILD", "build/release"),
                      "tests/system/fault-driver")
LIBC = ctypes.CDLL(None, use_errno=True)
PREFIX = f"pj-net{os.getpid()}-"
US, PEER, US6, PEER6 = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"
US_B, PEER_B = "10.78.0.1", "10.78.0.2"          # over the instance's second interface
BYSTANDER, PEER_C = "10.79.0.1", "10.79.0.2"


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=10)


def inside(name, call):
    """call() in a thread that has entered the namespace; its sockets keep working outside."""
    box = {}

    def body():
        try:
            with open(f"/run/netns/{name}") as f:
                if LIBC.setns(f.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            box["value"] = call()
        except BaseException as e:  # noqa: B902 - handed to the caller
            box["error"] = e
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


class World:
    """instance (eth0, eth1) and bystander (eth0), each linked to peer."""
    instance, peer, bystander = PREFIX + "a", PREFIX + "b", PREFIX + "c"

    def __init__(self):
        self.keeper = None
        for name in (self.instance, self.peer, self.bystander):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self.link(self.instance, "eth0", "p0", US, PEER, US6, PEER6)
        self.link(self.instance, "eth1", "p1", US_B, PEER_B)
        self.link(self.bystander, "eth0", "p2", BYSTANDER, PEER_C)
        self.keeper = subprocess.Popen(["ip", "netns", "exec", self.instance, "sleep", "600"])
        host = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{self.keeper.pid}/ns/net").st_ino != host)
        for ends in ((US, PEER), (US6, PEER6), (US_B, PEER_B),
                     (BYSTANDER, PEER_C, self.bystander)):
            echo = Echo(self, *ends)
            wait_for(lambda: echo.out() and echo.back())   # neighbours are found
            echo.close()

    def link(self, name, ours, theirs, address, peer, address6=None, peer6=None):
        run("ip", "link", "add", ours, "netns", name, "type", "veth", "peer", "name", theirs,
            "netns", self.peer)
        for where, interface, v4, v6 in ((name, ours, address, address6),
                                         (self.peer, theirs, peer, peer6)):
            run("ip", "-n", where, "addr", "add", v4 + "/24", "dev", interface)
            if v6:
                run("ip", "-n", where, "addr", "add", v6 + "/64", "dev", interface, "nodad")
            run("ip", "-n", where, "link", "set", interface, "up")

    def close(self):
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait()
        for name in (self.instance, self.peer, self.bystander):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=10)


class Fault:
    """One fault in a process of its own."""

    record = None
    reverted = False

    def __init__(self, world, name="net-partition", pid=None, **params):
        self.name = name
        self.process = subprocess.Popen(
            [DRIVER, name, str(pid or world.keeper.pid), json.dumps(params)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def do(self, command):
        answer = self.say(command)
        assert answer["ok"], (command, answer)
        self.reverted = self.reverted or command == "revert"
        return answer

    def __enter__(self):
        self.record = self.do("arm")["record"]
        return self

    def __exit__(self, *_):
        if self.process.poll() is None and not self.reverted:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.stdin.close()      # reverted, it leaves by itself
        self.process.wait()
        self.process.stdout.close()
        if not self.reverted:
            hook.undo(self.name, self.record)


def wait_for(condition, seconds=5.0):
    """Seconds until it was true."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.001)
    return time.monotonic() - began


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Echo:
    """UDP from one end to the other and back: does a packet pass, each way?"""

    def __init__(self, world, ours=US, theirs=PEER, where=None, port=0):
        self.ours = inside(where or world.instance, lambda: self.make(ours))
        self.theirs = inside(world.peer, lambda: self.make(theirs, port))
        self.to_us, self.to_them = self.ours.getsockname()[:2], self.theirs.getsockname()[:2]

    @staticmethod
    def make(address, port=0):
        s = socket.socket(family(address), socket.SOCK_DGRAM)
        s.bind((address, port))
        s.settimeout(0)
        return s

    def passes(self, sender, receiver, to, wait=0.1):
        self.sequence = getattr(self, "sequence", 0) + 1
        text = str(self.sequence).encode()
        try:
            sender.sendto(text, to)
        except OSError:
            return False
        end = time.monotonic() + wait
        while time.monotonic() < end:
            try:
                if receiver.recv(100) == text:
                    return True
            except OSError:
                time.sleep(0.0005)
        return False

    def out(self, wait=0.1):
        return self.passes(self.ours, self.theirs, self.to_them, wait)

    def back(self, wait=0.1):
        return self.passes(self.theirs, self.ours, self.to_us, wait)

    def close(self):
        self.ours.close()
        self.theirs.close()


def connection(world, ours=US, theirs=PEER, from_peer=False, port=0):
    """(instance's end, peer's end) of an established connection."""
    near, far = (world.peer, world.instance) if from_peer else (world.instance, world.peer)
    server = inside(far, lambda: listener(ours if from_peer else theirs, port))
    client = inside(near, lambda: socket.socket(family(ours)))
    client.settimeout(3)
    client.connect(server.getsockname()[:2])
    other, _ = server.accept()
    server.close()
    other.settimeout(3)
    return (other, client) if from_peer else (client, other)


def listener(address, port=0):
    s = socket.socket(family(address))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(8)
    return s


def test_fires_and_heals(world):
    echo, second = Echo(world), Echo(world, US_B, PEER_B)
    six = Echo(world, US6, PEER6)
    elsewhere = Echo(world, BYSTANDER, PEER_C, world.bystander)
    everything = (echo, second, six)
    with Fault(world, peers=["all"]) as fault:
        for e in everything:
            assert e.out() and e.back(), "armed is inert"
        us = fault.do("fire 20000")["us"]
        print(f"  fired in {us:.1f} us")
        for e in everything:
            assert not e.out() and not e.back()
        assert elsewhere.out() and elsewhere.back(), "a bystander is not touched"
        seen = fault.do("observe")
        peer = seen["detail"]["peers"][0]
        assert peer["peer"] == "all", seen
        assert peer["in"]["packets"] >= 3 and peer["out"]["packets"] >= 3, seen
        assert peer["out"]["bytes"] >= 3 * 43, seen
        assert seen["hits"] == peer["in"]["packets"] + peer["out"]["packets"], seen
        fault.do("release")
        for e in everything:
            assert e.out() and e.back(), "healed at once"
        fault.do("revert")
        fault.do("verify")
    for e in everything + (elsewhere,):
        e.close()


def test_fire_latency(world):
    took = []
    with Fault(world, peers=["all"]) as fault:
        for _ in range(200):
            took.append(fault.do("fire 1")["us"])
    took.sort()
    print(f"  fire: p50 {took[100]:.1f} us, p99 {took[198]:.1f} us")
    assert took[100] < 1000


def test_loopback_is_never_touched(world):
    def over_loopback():
        a, b = Echo.make("127.0.0.1"), Echo.make("127.0.0.1")
        a.sendto(b"x", b.getsockname())
        b.settimeout(1)
        return b.recv(10) == b"x"
    with Fault(world, peers=["all"]) as fault:
        fault.do("fire 20000")
        assert inside(world.instance, over_loopback)


def test_established_tcp_stalls_and_goes_on(world):
    ours, theirs = connection(world)
    with Fault(world, peers=[PEER]) as fault:
        fault.do("fire 20000")
        ours.sendall(b"held")
        theirs.settimeout(0.3)
        try:
            theirs.recv(10)
            raise AssertionError("passed a partition")
        except socket.timeout:
            pass
        fault.do("release")
        theirs.settimeout(5)
        assert theirs.recv(10) == b"held"
    ours.close()
    theirs.close()


def test_directions(world):
    for direction, out, back in (("out", False, True), ("in", True, False)):
        echo = Echo(world)
        with Fault(world, peers=["all"], direction=direction) as fault:
            fault.do("fire 20000")
            assert (echo.out(), echo.back()) == (out, back), direction
            peer = fault.do("observe")["detail"]["peers"][0]
            assert (peer["out"]["packets"] > 0, peer["in"]["packets"] > 0) == (not out, not back)
        echo.close()


def test_peers_ports_and_protocols(world):
    cases = (
        (dict(peers=[PEER + "/32"]), False, True, True),
        (dict(peers=[PEER6]), True, False, True),
        (dict(peers=["fd77::/64", "10.78.0.0/24"]), True, False, False),
        (dict(peers=["all:7777"]), False, True, True),
        (dict(peers=[PEER], ports="7770-7779"), False, True, True),
        (dict(peers=["all"], protocol="tcp"), True, True, True),
        (dict(peers=["all"], protocol="udp"), False, False, False),
    )
    for params, four, six, second in cases:
        echoes = Echo(world, port=7777), Echo(world, US6, PEER6), Echo(world, US_B, PEER_B)
        with Fault(world, **params) as fault:
            fault.do("fire 20000")
            got = tuple(e.out() and e.back() for e in echoes)
            assert got == (four, six, second), (params, got)
        for e in echoes:
            e.close()


def test_overlapping_partitions_compose(world):
    echo, second = Echo(world), Echo(world, US_B, PEER_B)
    with Fault(world, peers=["all"]) as one, Fault(world, peers=[PEER]) as two:
        one.do("fire 20000")
        two.do("fire 20000")
        assert not echo.out() and not second.out()
        one.do("release")
        one.do("revert")
        assert not echo.out() and not echo.back() and second.out() and second.back()
        one.do("verify")
        two.do("release")
        assert echo.out() and echo.back()
    echo.close()
    second.close()


def test_composes_with_a_delay(world):
    """In either order of arming: frames in the delay line are cut as well, and pass once healed."""
    echo = Echo(world)
    for first, second in (("net-shape", "net-partition"), ("net-partition", "net-shape")):
        params = {"net-partition": {"peers": ["all"]},
                  "net-shape": {"peers": ["all"], "delay": "60ms", "direction": "out"}}
        with Fault(world, first, **params[first]) as a, Fault(world, second, **params[second]) as b:
            cut, delay = (b, a) if first == "net-shape" else (a, b)
            delay.do("fire 20000")
            began = time.monotonic()
            assert echo.out(1), "delayed"
            assert time.monotonic() - began > 0.05
            echo.ours.sendto(b"held", echo.to_them)      # in the line as the cut comes
            cut.do("fire 20000")
            assert not echo.out(0.3) and not echo.back(), (first, second)
            cut.do("release")
            assert echo.back() and echo.out(1), (first, second)
            delay.do("release")
            assert echo.out() and echo.back(), (first, second)
    echo.close()


def test_percent(world):
    echo = Echo(world)
    with Fault(world, peers=["all"], direction="out", percent="30%") as fault:
        fault.do("fire 60000")
        for _ in range(400):
            echo.ours.sendto(b"x", echo.to_them)
        hits = fault.do("observe")["hits"]
        assert 60 <= hits <= 180, hits     # 120 expected, six standard deviations
    echo.close()


def set_checksum_offload(world, where, interface, on):
    def body():
        value = ctypes.create_string_buffer(struct.pack("II", 0x17, on))   # ETHTOOL_STXCSUM
        with socket.socket() as s:
            fcntl.ioctl(s, 0x8946, struct.pack("16sP", interface.encode(),
                                               ctypes.addressof(value)))
    inside(where, body)


def refused(socket_, to, what):
    """Milliseconds until a TCP connect (a UDP send) was refused."""
    socket_.settimeout(3)
    began = time.monotonic()
    try:
        socket_.connect(to)
        if what == "udp":
            socket_.send(b"x")
            socket_.recv(10)
        raise AssertionError(f"{what} to {to} was not refused")
    except ConnectionRefusedError:
        return (time.monotonic() - began) * 1000


def check_reset(end, other, what):
    """end speaks and hears a reset at once."""
    began = time.monotonic()
    try:
        end.sendall(b"x" * 300000)         # segmented by the device where it can
        end.recv(10)
        raise AssertionError(f"{what}: no reset")
    except (ConnectionResetError, BrokenPipeError):
        took = (time.monotonic() - began) * 1000
    assert took < 100, (what, took)
    end.close()
    other.close()
    return took


def test_reject_is_an_answer(world):
    """With and without checksums left to the device, at either end: then both the stack's own sum
    and the finished one are checked by the receiver."""
    worst = 0.0
    for offload in ((1, 1), (0, 0), (1, 0), (0, 1)):
        set_checksum_offload(world, world.instance, "eth0", offload[0])
        set_checksum_offload(world, world.peer, "p0", offload[1])
        open_connections = [(a, *connection(world, a, b, from_peer))
                            for a, b in ((US, PEER), (US6, PEER6)) for from_peer in (False, True)
                            for _ in range(2)]
        servers = [inside(w, lambda a=a: listener(a, 7700)) for w, a in
                   ((world.peer, PEER), (world.peer, PEER6), (world.instance, US),
                    (world.instance, US6))]
        with Fault(world, peers=["all"], action="reject") as fault:
            fault.do("fire 60000")
            for i, (address, ours, theirs) in enumerate(open_connections):
                end, other = (ours, theirs) if i & 1 else (theirs, ours)
                worst = max(worst, check_reset(end, other, (offload, address)))
            for where, to in ((world.instance, PEER), (world.instance, PEER6), (world.peer, US),
                              (world.peer, US6)):
                for kind, what in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
                    s = inside(where, lambda k=kind, t=to: socket.socket(family(t), k))
                    took = refused(s, (to, 7700), what)
                    assert took < 100, (offload, what, to, took)
                    worst = max(worst, took)
                    s.close()
            assert fault.do("observe")["hits"] > 8
        for s in servers:
            s.close()
    set_checksum_offload(world, world.instance, "eth0", 1)
    set_checksum_offload(world, world.peer, "p0", 1)
    print(f"  slowest answer {worst:.1f} ms")


def test_established_both_ends_hear_a_reject(world):
    for direction, speaker in (("out", 0), ("in", 1)):
        ends = connection(world)
        with Fault(world, peers=["all"], action="reject", direction=direction) as fault:
            fault.do("fire 20000")
            check_reset(ends[speaker], ends[1 - speaker], direction)


def test_killed_it_heals(world):
    echo = Echo(world)
    with Fault(world, peers=["all"]) as fault:
        fault.do("fire 60000")
        assert not echo.out()
        began = time.monotonic()
        fault.process.kill()
        wait_for(lambda: echo.out(0.002) and echo.back(0.002))
        took = (time.monotonic() - began) * 1000
        print(f"  killed, normal after {took:.1f} ms")
        assert took < 100, took
        fault.process.wait()
        with Fault(world, peers=["all"]) as after:
            after.do("revert " + json.dumps(fault.record))
            after.do("verify " + json.dumps(fault.record))
            answer = after.say("verify " + json.dumps(after.record))
            assert not answer["ok"] and "still loaded" in answer["error"], answer
            answer = after.say('verify {"programs": [{"id": -1, "load_time_ns": 1}]}')
            assert not answer["ok"], answer
    echo.close()


def test_stopped_past_its_deadline_it_heals(world):
    echo = Echo(world)
    with Fault(world, peers=["all"]) as fault:
        fault.do("fire 700")
        assert not echo.out()
        fault.process.send_signal(signal.SIGSTOP)
        took = wait_for(lambda: echo.out(0.005) and echo.back(0.005))
        assert took > 0.2, took
    echo.close()


def test_refusals(world):
    for pid, words in ((os.getpid(), "node's own network"),):
        fault = Fault(world, pid=pid, peers=["all"])
        answer = fault.say("arm")
        assert not answer["ok"] and words in answer["error"], answer
        fault.__exit__()
    lonely = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        host = os.stat("/proc/self/ns/net").st_ino
        wait_for(lambda: os.stat(f"/proc/{lonely.pid}/ns/net").st_ino != host)
        fault = Fault(world, pid=lonely.pid, peers=["all"])
        answer = fault.say("arm")
        assert not answer["ok"] and "no network interface but loopback" in answer["error"], answer
        fault.__exit__()
        fault = Fault(world, pid=lonely.pid, peers=["all"])
        fault.do("probe")
    finally:
        lonely.kill()
        lonely.wait()
    answer = fault.say("arm")
    assert not answer["ok"] and "gone" in answer["error"], answer
    fault.__exit__()


def test_probe(world):
    fault = Fault(world, peers=["all"])
    answer = fault.do("probe")
    assert answer["supported"] and answer["mechanism"] == hook.name(), answer
    fault.__exit__()


def main(names):
    if os.geteuid() != 0:
        print("needs root")
        return 77
    wanted = sys.argv[1:]
    failed = 0
    world = World()
    try:
        for name, test in list(names.items()):
            if not name.startswith("test_") or (wanted and name not in wanted):
                continue
            print(name, flush=True)
            try:
                test(world)
            except Exception:
                failed += 1
                traceback.print_exc()
    finally:
        world.close()
    print("failed:" if failed else "all passed", failed or "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(globals()))
