#!/usr/bin/python3
"""The agent's HTTP API on its unix socket, each answer held against docs/api/openapi.yaml."""
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from agent_http import AGENT, Agent, call, read_answers  # noqa: E402
from openapi import Document, Mismatch  # noqa: E402

POSTGRES = "/usr/lib/postgresql/15/bin"
document = Document()
folder = postgres = agent = None


class Postgres:
    """A server of our own, reached by a unix socket alone."""

    def __init__(self, where):
        self.data = os.path.join(where, "data")
        user = pwd.getpwnam("postgres")
        self.user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.mkdir(self.data, 0o700)
        os.chown(self.data, user.pw_uid, user.pw_gid)
        subprocess.run([f"{POSTGRES}/initdb", "-D", self.data, "-N", "-A", "trust", "--locale=C"], check=True,
                       stdout=subprocess.DEVNULL, cwd="/", **self.user)
        with open(os.path.join(self.data, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [f"{POSTGRES}/postgres", "-D", self.data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.data}",
                 "-c", "cluster_name=pj-api", "-c", "port=25877", "-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap"],
                stdout=log, stderr=log, cwd="/", **self.user)
        self.name = "pj-api/25877"

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def setUpModule():
    global folder, postgres, agent
    folder = tempfile.mkdtemp(prefix="pj-api-")
    os.chmod(folder, 0o755)
    try:
        postgres = Postgres(folder)
        agent = Agent(folder, document=document).start()
        agent.wait_for(lambda: postgres.name in [i["name"] for i in agent.call("GET", "/v1/instances").json["instances"]])
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    code = 0
    try:
        if agent:
            code = agent.stop()
    finally:
        if postgres:
            postgres.stop()
        shutil.rmtree(folder)
    assert code == 0, f"the agent ended with {code}"


def arm_body(experiment, **more):
    body = {"experiment": experiment, "run": "run-api", "fault": "proc-freeze", "instance": postgres.name,
            "params": {"processes": "titles", "titles": ["walwriter"]}, "duration_ms": 30000, "lease_ms": 20000}
    body.update(more)
    return {k: v for k, v in body.items() if v is not None}


def arm(experiment, **more):
    answer = agent.call("POST", "/v1/experiments", arm_body(experiment, **more))
    assert answer.status == 201, answer.body
    return answer.json


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0]


def walwriter():
    for pid in subprocess.run(["ps", "-o", "pid=", "--ppid", str(postgres.process.pid)], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.split():
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                if "walwriter" in f.read():
                    return int(pid)
        except FileNotFoundError:
            pass
    raise AssertionError("no walwriter")


class Reading(unittest.TestCase):
    def test_node(self):
        node = agent.call("GET", "/v1/node").json
        self.assertTrue(node["accepting"])
        self.assertEqual(node["kernel"], os.uname().release)
        faults = {c["fault"]: c for c in node["capabilities"]}
        self.assertTrue(faults["proc-kill"]["supported"])
        self.assertEqual({c["fault"] for c in agent.call("POST", "/v1/probe").json["capabilities"]}, set(faults))
        self.assertEqual(agent.call("POST", "/v1/probe", {}).status, 200)

    def test_instances(self):
        found = {i["name"]: i for i in agent.call("GET", "/v1/instances").json["instances"]}
        mine = found[postgres.name]
        self.assertEqual(mine["pid"], postgres.process.pid)
        self.assertEqual((mine["cluster"], mine["role"], mine["port"]), ("pj-api", "primary", 25877))
        self.assertEqual(mine["pgdata"], postgres.data)
        self.assertTrue(mine["host_network"])

    def test_clock(self):
        connection = agent.connect()
        last = time.monotonic_ns()
        for _ in range(20):
            value = int(call(connection, document, "GET", "/v1/clock").json["monotonic_ns"])
            self.assertGreaterEqual(value, last)
            last = time.monotonic_ns()
            self.assertLessEqual(value, last)
        connection.close()

    def test_health_and_head(self):
        answer = agent.call("GET", "/healthz")
        self.assertEqual((answer.status, answer.body), (200, b"ok\n"))
        answer = agent.call("HEAD", "/healthz")
        self.assertEqual((answer.status, answer.body, answer.headers["Content-Length"]), (200, b"", "3"))
        answer = agent.call("HEAD", "/v1/events?follow=true")
        self.assertEqual((answer.status, answer.body), (200, b""))


class Experiments(unittest.TestCase):
    def test_life(self):
        victim = walwriter()
        one = arm("life-1")
        self.assertEqual((one["state"], one["fault"], one["instance"]), ("armed", "proc-freeze", postgres.name))
        self.assertEqual(one["fired_ns"], 0)
        self.assertNotIn(state_of(victim), "tT")
        self.assertEqual(agent.call("GET", "/v1/experiments/life-1").json["state"], "armed")
        self.assertEqual(agent.call("GET", "/v1/experiments/life%2D1").json["experiment"], "life-1")
        self.assertEqual(agent.call("POST", "/v1/experiments/life-1/renew", {"lease_ms": 15000}).status, 200)
        before = time.monotonic_ns()
        one = agent.call("POST", "/v1/experiments/life-1/fire").json
        self.assertEqual(one["state"], "active")
        self.assertTrue(before <= one["fired_ns"] <= time.monotonic_ns())
        self.assertIn(state_of(victim), "tT")
        self.assertEqual(agent.call("POST", "/v1/experiments/life-1/fire", {}).json["fired_ns"], one["fired_ns"])
        one = agent.call("GET", "/v1/experiments/life-1").json
        self.assertGreaterEqual(one["hits"], 1)
        one = agent.call("POST", "/v1/experiments/life-1/revert").json
        self.assertEqual((one["state"], one["end_reason"], one["verified_clean"]), ("clean", "requested", True))
        self.assertNotIn(state_of(victim), "tT")
        self.assertEqual(agent.call("POST", "/v1/experiments/life-1/revert", {}).json["state"], "clean")
        self.assertIn("life-1", [e["experiment"] for e in agent.call("GET", "/v1/experiments").json["experiments"]])
        self.assertIn(agent.call("POST", "/v1/experiments/life-1/fire").status, (409, 410))
        self.assertIn(agent.call("POST", "/v1/experiments/life-1/renew", {"lease_ms": 100}).status, (409, 410))

    def test_arming_again(self):
        first = arm("again-1")
        self.assertEqual(arm("again-1")["created_ns"], first["created_ns"])
        self.assertEqual(agent.call("POST", "/v1/experiments", arm_body("again-1", duration_ms=1234)).status, 409)
        agent.call("POST", "/v1/experiments/again-1/revert")

    def test_revert_all(self):
        titles = {"a": "walwriter", "b": "checkpointer", "c": "background writer"}
        for letter, run in (("a", "run-1"), ("b", "run-2"), ("c", "run-1")):
            arm(f"all-{letter}", run=run, params={"processes": "titles", "titles": [titles[letter]]})
            self.assertEqual(agent.call("POST", f"/v1/experiments/all-{letter}/fire").status, 200)
        answer = agent.call("POST", "/v1/revert", {"run": "run-1"}).json
        self.assertEqual(answer["left"], 0)
        self.assertEqual([e["experiment"] for e in answer["experiments"]], ["all-c", "all-a"])
        self.assertTrue(all(e["verified_clean"] for e in answer["experiments"]))
        self.assertEqual(agent.call("GET", "/v1/experiments/all-b").json["state"], "active")
        answer = agent.call("POST", "/v1/revert").json
        self.assertEqual([e["experiment"] for e in answer["experiments"]], ["all-b"])
        self.assertEqual(agent.call("POST", "/v1/revert", {}).json, {"left": 0, "experiments": []})
        self.assertEqual(os.listdir(agent.journal).count("all-b.json"), 0)

    def test_refusals(self):
        ids = (f"bad-{i}" for i in range(100))

        def refused(status, words, **more):
            answer = agent.call("POST", "/v1/experiments", arm_body(**{"experiment": next(ids), **more}))
            self.assertEqual(answer.status, status, answer.body)
            self.assertIn(words, answer.message)
        refused(400, "experiment", experiment="No Id")
        refused(400, "run", run="-")
        refused(400, "duration_ms", duration_ms=0)
        refused(400, "duration_ms", duration_ms=None)
        refused(400, "lease_ms", lease_ms=-5)
        refused(400, "lease_ms", lease_ms="x")
        refused(400, "surprise", surprise=1)
        refused(400, "params", params=[])
        refused(400, "processes", params={"processes": "some"})
        refused(403, "limit", duration_ms=10**9)
        refused(403, "network namespace", fault="net-partition", params={"peers": ["all"]})
        refused(400, "proc-freeze", fault="proc-freez")
        refused(404, postgres.name, instance="pj-api/none")
        refused(410, "postmaster", pid=postgres.process.pid, start_ticks=1)

    def test_unknown_and_bad_ids(self):
        for method, path, body in (("GET", "", None), ("POST", "/fire", None), ("POST", "/revert", None),
                                   ("POST", "/renew", {"lease_ms": 10})):
            self.assertEqual(agent.call(method, "/v1/experiments/none" + path, body).status, 404)
            self.assertEqual(agent.call(method, "/v1/experiments/N%20o" + path, body).status, 400)


class Protocol(unittest.TestCase):
    def test_unknown_route_names_the_routes(self):
        answer = agent.call("GET", "/v1/nothing")
        self.assertEqual(answer.status, 404)
        self.assertEqual(sorted(answer.json["routes"]), sorted(f"{m} {p}" for m, p in document.operations))

    def test_wrong_method(self):
        for method in ("DELETE", "PUT", "PATCH", "OPTIONS"):
            answer = agent.call(method, "/v1/experiments")
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD, POST"))
        self.assertEqual(agent.call("GET", "/v1/revert").headers["Allow"], "POST")

    def test_bodies(self):
        path = "/v1/experiments"
        self.assertEqual(agent.call("POST", path, "{}", kind="text/plain").status, 415)
        self.assertEqual(agent.call("POST", path, "{}", kind=None, headers={"Content-Type": "application/jsonx"}).status, 415)
        answer = agent.call("POST", path, '{"experiment": }')
        self.assertEqual(answer.status, 400)
        self.assertIn("byte 16", answer.message)
        self.assertEqual(agent.call("POST", path).status, 400)
        self.assertEqual(agent.call("POST", path, "[]").status, 400)
        self.assertEqual(agent.call("POST", path, '{"run":"a","run":"b"}').status, 400)
        self.assertEqual(agent.call("POST", path, "[" * 100000).status, 400)
        self.assertEqual(agent.call("POST", path, b'{"run":"\xff\x00"}').status, 400)
        self.assertEqual(agent.call("POST", path, "{}", kind="Application/JSON; charset=utf-8").status, 400)
        self.assertEqual(agent.call("POST", "/v1/probe", {"a": 1}).status, 400)
        self.assertEqual(agent.call("POST", "/v1/revert", {"runs": "a"}).status, 400)
        self.assertEqual(agent.call("POST", "/v1/revert", {"run": "A"}).status, 400)
        self.assertEqual(agent.call("GET", "/v1/node", {}).status, 400)

    def test_long_bodies(self):
        long = b" " * ((1 << 20) + 1)
        for method, path in (("POST", "/v1/experiments"), ("POST", "/v1/revert"), ("GET", "/v1/node")):
            self.assertEqual(agent.call(method, path, long).status, 413)
        self.assertEqual(agent.call("POST", "/v1/revert", b" " * ((1 << 20) - 2) + b"{}").status, 200)
        # One who asks first is told before he sends.
        s = agent.raw()
        s.sendall(b"POST /v1/revert HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
        self.assertIn(b" 413 ", read_answers(s, 1).split(b"\r\n")[0])
        s.close()

    def test_chunked(self):
        connection = agent.connect()
        connection.request("POST", "/v1/revert", body=iter([b'{"ru', b'n":"no', b'ne"}']), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
        response = connection.getresponse()
        self.assertEqual((response.status, json.loads(response.read())["left"]), (200, 0))
        connection.close()

    def test_queries(self):
        for query in ("after=x", "after=-1", "after=1e3", "after=99999999999999999999999", "after=", "after",
                      "follow=maybe", "follow=TRUE", "before=3", "after=1&after=2", "%61fter=1&after=2"):
            answer = agent.call("GET", "/v1/events?" + query)
            self.assertEqual(answer.status, 400, query)
        self.assertEqual(agent.call("GET", "/v1/node?after=1").status, 400)
        self.assertEqual(agent.call("GET", "/v1/events?after=0&follow=false").status, 200)

    def test_targets(self):
        for target in ("/v1/node%", "/v1/node%4", "/v1/node%zz", "/v1/node%00", "/v1/" + "a" * 2100):
            self.assertEqual(agent.call("GET", target).status, 400, target[:40])
        self.assertEqual(agent.call("GET", "/v1/%6Eode").status, 200)

    def test_pipelining(self):
        s = agent.raw()
        s.sendall(b"GET /v1/clock HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        data = read_answers(s, 50)
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 50)
        s.close()


class Hostile(unittest.TestCase):
    def setUp(self):
        self.descriptors = agent.descriptors()

    def tearDown(self):
        agent.wait_for(lambda: agent.descriptors() <= self.descriptors)
        self.assertEqual(agent.call("GET", "/healthz").status, 200)

    def refused(self, data):
        """The server answers with an error or hangs up; it must not answer 2xx."""
        s = agent.raw()
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = read_answers(s, 99)
        except TimeoutError:
            self.fail(f"no answer and not hung up: {data[-100:]}")
        finally:
            s.close()
        self.assertNotIn(b"HTTP/1.1 2", answer, data[-100:])

    def test_garbage(self):
        head = b"POST /v1/revert HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        for data in (b"\x00" * 3000, bytes(range(256)) * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n" * 2000,
                     b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n",
                     b"GET /v1/node HTTP/1.1\r\n" + b"X: " + b"a" * 200000 + b"\r\n\r\n",
                     b"GET /v1/node HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                     b"GET /v1/node HTTP/1.1\r\n\r\n",
                     b"GET /v1/node HTTP/9.9\r\nHost: a\r\n\r\n",
                     b"GET\r\n\r\n", b"G" * 100000,
                     head + b"Content-Length: -1\r\n\r\n{}", head + b"Content-Length: 99999999999999999999\r\n\r\n{}",
                     head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
                     head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                     head + b"Content-Length: 10\r\n\r\n{}", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
                     head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
                     head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}"):
            self.refused(data)

    def test_half_requests(self):
        whole = b"POST /v1/revert HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" \
                b'{"run":"none"}'
        for n in range(1, len(whole), 7):
            s = agent.raw()
            s.sendall(whole[:n])
            s.close()
        s = agent.raw()
        for i in range(len(whole)):
            s.sendall(whole[i:i + 1])
        self.assertIn(b"HTTP/1.1 200", read_answers(s, 1))
        s.close()

    def test_crowd_waits_its_turn(self):
        crowd = []
        for i in range(100):
            try:
                s = agent.raw()
            except BlockingIOError:
                break   # the queue is full
            if i % 2:
                s.sendall(b"GET /v1/node HTTP/1.1\r\nHo")
            crowd.append(s)
        self.assertGreater(len(crowd), 70)
        before = agent.cpu_s()
        time.sleep(1)
        self.assertLess(agent.cpu_s() - before, 0.5, "the agent spins")
        for s in crowd:
            s.close()
        self.assertEqual(agent.call("GET", "/v1/clock").status, 200)

    def test_unread_answers(self):
        readers = []
        for _ in range(20):
            s = agent.raw()
            s.setblocking(False)
            try:
                for _ in range(200):
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            except BlockingIOError:
                pass
            readers.append(s)
        before = agent.cpu_s()
        self.assertEqual(agent.call("GET", "/v1/clock").status, 200)
        time.sleep(1)
        agent.wait_for(lambda: agent.call("GET", "/v1/clock").status == 200)
        self.assertLess(agent.cpu_s() - before, 30)
        for s in readers:
            s.close()


class Events(unittest.TestCase):
    def read(self, after=0):
        answer = agent.call("GET", f"/v1/events?after={after}")
        self.assertEqual(answer.status, 200)
        return [json.loads(line) for line in answer.body.decode().splitlines() if line]

    def follow(self, after):
        s = agent.raw(timeout=20)
        s.sendall(f"GET /v1/events?follow=true&after={after} HTTP/1.0\r\n\r\n".encode())
        f = s.makefile("rb")
        while f.readline().strip():
            pass
        s.close()   # f keeps it
        return f

    def test_states_and_audit(self):
        last = self.read()[-1]["sequence"] if self.read() else 0
        arm("told-1")
        agent.call("POST", "/v1/experiments/told-1/fire")
        agent.call("POST", "/v1/experiments/told-1/revert")
        mine = [e for e in self.read(last) if e["experiment"] == "told-1"]
        self.assertEqual([e["sequence"] for e in self.read(last)],
                         list(range(last + 1, last + 1 + len(self.read(last)))))
        states = [e["state"] for e in mine if e["kind"] == "state"]
        self.assertEqual(states, ["armed", "firing", "active", "reverting", "verifying", "clean"])
        audit = [e for e in mine if e["kind"] == "audit"]
        self.assertEqual(len(audit), 3)
        for e, verb in zip(audit, ("arm", "fire", "revert")):
            self.assertIn(f"uid 0, pid {os.getpid()}: {verb} told-1", e["text"])
            self.assertEqual(e["instance"], postgres.name)

    def test_audit_names_what_was_refused_on_one_line(self):
        last = self.read()[-1]["sequence"] if self.read() else 0
        agent.call("POST", "/v1/experiments", arm_body("x", instance="evil\r\nname\u001b[2J"))
        e = [e for e in self.read(last) if e["kind"] == "audit"][-1]
        self.assertIn("404", e["text"])
        self.assertFalse(set("\r\n\x1b") & set(e["text"]))

    def test_followers_get_it_at_once(self):
        last = self.read()[-1]["sequence"] if self.read() else 0
        followers = [self.follow(last) for _ in range(5)]
        time.sleep(0.3)
        before = agent.cpu_s()
        time.sleep(1)
        self.assertLess(agent.cpu_s() - before, 0.3, "waiting followers cost time")
        agent.call("POST", "/v1/experiments/nobody/fire")
        for f in followers:
            e = json.loads(f.readline())
            document.check({"$ref": "#/components/schemas/Event"}, e)
            self.assertEqual((e["sequence"], e["kind"]), (last + 1, "audit"))
            f.close()
        agent.call("POST", "/v1/experiments/nobody/fire")
        agent.wait_for(lambda: "pgjolt_agent_event_followers 0" in agent.call("GET", "/metrics").body.decode(), 30)

    def test_heartbeat(self):
        f = self.follow(10**9)
        self.assertEqual(json.loads(f.readline())["kind"], "gap")
        while True:
            line = f.readline()
            self.assertTrue(line, "the stream ended")
            if line == b"\n":
                break
        f.close()

    def test_too_many_followers(self):
        followers = []
        try:
            for _ in range(32):
                followers.append(self.follow(0))
            self.assertEqual(agent.call("GET", "/v1/events?follow=true").status, 409)
            self.assertEqual(agent.call("GET", "/v1/events").status, 200)
        finally:
            for f in followers:
                f.close()
        agent.call("POST", "/v1/experiments/nobody/fire")
        agent.wait_for(lambda: "pgjolt_agent_event_followers 0" in agent.call("GET", "/metrics").body.decode(), 30)

    def test_zz_gap(self):
        """Last of this class, since it drives all others' events off the ring."""
        first = self.read()[0]["sequence"]
        slow = self.follow(first)
        connection = agent.connect()
        for _ in range(4200):
            call(connection, None, "POST", "/v1/experiments/nobody/fire")
        connection.close()
        events = self.read(first)
        self.assertEqual(events[0]["kind"], "gap")
        self.assertEqual(events[1]["sequence"], events[0]["sequence"] + 1)
        self.assertEqual(len(events), 4097)
        # One that follows but was slow to read misses nothing or is told so.
        expected = first + 1
        while expected <= events[-1]["sequence"]:
            e = json.loads(slow.readline())
            if e["kind"] != "gap":
                self.assertEqual(e["sequence"], expected)
            expected = e["sequence"] + 1
        slow.close()


class Metrics(unittest.TestCase):
    def read(self):
        values, kind = {}, {}
        for line in agent.call("GET", "/metrics").body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, what = line.split()
                self.assertNotIn(name, kind, "told twice")
                kind[name] = what
            elif not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                self.assertNotIn(name, values)
                values[name] = float(value)
                self.assertIn(name.partition("{")[0], kind)
        for name, what in kind.items():
            self.assertEqual(what == "counter", name.endswith("_total"), name)
        return values

    def test_counters(self):
        before = self.read()
        arm("metric-1")
        agent.call("POST", "/v1/experiments/metric-1/fire")
        during = self.read()
        self.assertEqual(during['pgjolt_agent_experiments{fault="proc-freeze",state="active"}'], 1)
        self.assertEqual(during["pgjolt_agent_journal_entries"], 1)
        agent.call("POST", "/v1/experiments/metric-1/revert")
        after = self.read()
        hits = 'pgjolt_agent_hits_total{fault="proc-freeze"}'
        self.assertGreater(during[hits], before[hits])
        self.assertGreaterEqual(after[hits], during[hits])
        self.assertEqual(after["pgjolt_agent_journal_entries"], 0)
        self.assertEqual(after["pgjolt_agent_stuck"], 0)
        fire = 'pgjolt_agent_requests_total{method="POST",route="/v1/experiments/{id}/fire",code="200"}'
        self.assertEqual(after[fire], before.get(fire, 0) + 1)
        self.assertGreater(after["process_resident_memory_bytes"], 1 << 20)
        self.assertGreater(after["process_cpu_seconds_total"], 0)

    def test_no_label_grows_with_what_clients_say(self):
        names = len(self.read())
        for i in range(50):
            agent.call("GET", f"/v1/none-{i}")
            agent.call("GET", f"/v1/experiments/none-{i}")
        self.assertLessEqual(len(self.read()), names + 2)


class Callers(unittest.TestCase):
    def test_socket_is_roots_alone(self):
        st = os.stat(agent.socket)
        self.assertEqual((st.st_mode & 0o777, st.st_uid), (0o600, 0))

    def test_another_user_is_refused(self):
        client = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
                  "s.sendall(b'POST /v1/revert HTTP/1.0\\r\\n\\r\\n'); print(s.recv(65536).decode())")
        command = [sys.executable, "-c", client, agent.socket]
        user = pwd.getpwnam("nobody")
        as_nobody = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        answer = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                                check=False, **as_nobody)
        self.assertIn("PermissionError", answer.stderr)
        os.chmod(agent.socket, 0o666)
        try:
            answer = subprocess.run(command, text=True, stdout=subprocess.PIPE, cwd="/", check=True, **as_nobody)
        finally:
            os.chmod(agent.socket, 0o600)
        self.assertIn("403 Forbidden", answer.stdout)
        self.assertIn('"EPERM"', answer.stdout)
        self.assertRegex(agent.read_log(), rf"audit: uid {user.pw_uid}, pid \d+: POST /v1/revert: 403")


class Starting(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pj-api-start-")
        self.addCleanup(shutil.rmtree, self.folder)

    def test_one_at_a_time_and_a_stale_socket(self):
        first = Agent(self.folder).start()
        self.addCleanup(first.kill)
        second = subprocess.run([AGENT, "serve", "--socket", first.socket, "--journal", self.folder + "/other"],
                                text=True, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn("another agent is running", second.stderr)
        self.assertIn(str(first.process.pid), second.stderr)
        self.assertEqual(first.call("GET", "/healthz").status, 200)
        follower = first.raw()
        follower.sendall(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn(b" 200 ", follower.recv(4096))
        first.kill()
        self.assertTrue(os.path.exists(first.socket))
        follower.close()
        third = Agent(self.folder).start()
        self.addCleanup(third.kill)
        self.assertEqual(third.call("GET", "/healthz").status, 200)
        follower = third.raw()
        follower.sendall(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn(b" 200 ", follower.recv(4096))
        self.assertEqual(third.stop(), 0)
        # The stream was ended as it should be, not cut.
        self.assertTrue(read_answers(follower, 99).endswith(b"0\r\n\r\n"))
        follower.close()
        self.assertFalse(os.path.exists(third.socket))

    def test_an_owned_agent_stays_for_as_long_as_it_is_used(self):
        owned = Agent(self.folder, "--owner-pid", str(os.getppid()), document=document).start()
        self.addCleanup(owned.kill)
        follower = owned.raw()
        follower.sendall(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn(b" 200 ", follower.recv(4096))
        self.assertEqual(owned.call("POST", "/v1/leave").json, {"leaving": False})
        self.assertEqual(owned.call("GET", "/healthz").status, 200)
        follower.close()
        self.assertEqual(owned.process.wait(timeout=30), 0)

    def test_an_owned_agent_that_nobody_uses_leaves_when_told(self):
        owned = Agent(self.folder, "--owner-pid", str(os.getppid()), document=document).start()
        self.addCleanup(owned.kill)
        self.assertEqual(owned.call("POST", "/v1/leave").json, {"leaving": True})
        self.assertEqual(owned.process.wait(timeout=30), 0)

    def test_a_service_is_not_told_to_leave(self):
        service = Agent(self.folder, document=document).start()
        self.addCleanup(service.kill)
        self.assertEqual(service.call("POST", "/v1/leave").status, 403)
        self.assertEqual(service.call("GET", "/healthz").status, 200)

    def test_what_is_no_socket_stays(self):
        path = self.folder + "/agent.sock"
        with open(path, "w", encoding="ascii") as f:
            f.write("mine")
        end = subprocess.run([AGENT, "serve", "--socket", path, "--journal", self.folder + "/journal"], text=True,
                             stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertNotEqual(end.returncode, 0)
        self.assertIn("is no socket", end.stderr)
        with open(path, encoding="ascii") as f:
            self.assertEqual(f.read(), "mine")


class ZDocument(unittest.TestCase):
    """After all others: was all that the file promises really seen?"""

    def test_every_operation_was_seen_to_succeed(self):
        for method, path in document.operations:
            self.assertTrue([s for m, p, s in document.seen if (m, p) == (method, path) and s < 300], f"{method} {path}")

    def test_the_checker_checks(self):
        clock = {"$ref": "#/components/schemas/Clock"}
        document.check(clock, {"monotonic_ns": 5})
        document.check(clock, {"monotonic_ns": "90071992547409930"})
        for wrong in ({}, {"monotonic_ns": None}, {"monotonic_ns": "5"}, {"monotonic_ns": 5.5}, {"monotonic_ns": True},
                      {"monotonic_ns": 5, "more": 1}, [], None, {"monotonic_ns": -1}):
            with self.assertRaises(Mismatch):
                document.check(clock, wrong)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
