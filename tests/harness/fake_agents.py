"""Agents of a test's own that only talk: each on an address of the loopback, over TLS, with what the test tells them.

    agents = FakeAgents(authority, 50)          # n0 .. n49 on 127.1.0.1 .. 127.1.0.50, one port
    agents.gate("/v1/node", 49)                 # no answer before 49 of them have been asked
    agents.gate("/v1/experiments", 49, "POST")
    agents[7].hangs = True                      # takes requests, answers none
    agents[7].away = True                       # hangs up on everybody
    agents[7].stays = True                      # a renewed lease does not end its experiment
    agents[7].instead["/v1/revert"] = {}        # answers this to a POST
"""
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True      # else an answer in two parts waits for an acknowledgement

    def log_message(self, *_):
        pass

    def answer(self, document, status=200):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self):
        agent = self.server.agent
        path = self.path.split("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        agent.asked.append((self.command, path, body.decode()))
        if agent.away:
            self.close_connection = True
            return
        if agent.hangs:
            agent.world.over.wait(60)
            self.close_connection = True
            return
        gate = agent.world.gates.get((self.command, path))
        if gate and agent.was_asked(path, self.command) == 1:
            try:
                gate.wait(20)
            except threading.BrokenBarrierError:
                self.answer({"error": {"code": "EIO", "status": 500, "message": "the others were not asked"}}, 500)
                return
        known = {"/v1/node": agent.node, "/v1/clock": lambda: {"monotonic_ns": time.monotonic_ns()},
                 "/v1/instances": lambda: {"instances": agent.instances},
                 "/v1/experiments": lambda: {"experiments": agent.experiments},
                 "/v1/revert": lambda: {"left": 0, "experiments": agent.experiments}}
        if self.command == "POST" and path in agent.instead:
            if path == "/v1/experiments":
                agent.experiment(path, body)    # it does as it was told
            self.answer(agent.instead[path])
        elif path == "/v1/events":
            self.stream()
        elif path in agent.fails:
            self.answer({"error": {"code": "EIO", "status": 500, "message": agent.fails[path]}}, 500)
        elif self.command == "POST" and (path == "/v1/experiments" or agent.holds(path)):
            self.answer(agent.experiment(path, body))
        elif path in known:
            self.answer(known[path]())
        else:
            self.answer({"error": {"code": "ENOENT", "status": 404, "message": f"no {path}"}}, 404)

    def stream(self):
        """Of events, of which there are none, while it is there."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        while not self.server.agent.away and not self.server.agent.world.over.wait(0.05):
            pass
        self.close_connection = True

    do_GET = do_POST = handle_any


class FakeAgent:
    def __init__(self, world, number, port, context):
        self.world, self.name, self.address = world, f"n{number}", f"127.1.0.{number + 1}"
        self.hangs, self.asked, self.instances, self.experiments = False, [], [], []
        self.instead, self.away, self.stays = {}, False, False
        self.armed = None       # the experiment: it ends when its lease is renewed
        self.more = {}          # of what it says of its node
        self.more_after = None  # (so many times asked, what it says then)
        self.fails = {}         # words by path
        self.ends = "clean"     # the state that its experiment comes to

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *_):
                pass
        self.server = Server((self.address, port), Handler, bind_and_activate=False)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.server_bind()
        self.server.server_activate()
        self.server.agent = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def node(self):
        if self.more_after and self.was_asked("/v1/node") > self.more_after[0]:
            self.more = self.more_after[1]
        return {"name": self.name, "boot_id": "b", "kernel": "6.18", "machine": "x86_64", "version": "1",
                "clock_ns": time.monotonic_ns(), "accepting": True,
                "capabilities": [{"fault": "proc-kill", "supported": True, "mechanism": "signal"}], **self.more}

    def holds(self, path):
        return bool(self.armed) and path.split("/")[3:4] == [self.armed["experiment"]]

    def experiment(self, path, body):
        now = time.monotonic_ns()
        if path == "/v1/experiments":
            sent = json.loads(body)
            self.armed = {key: sent[key] for key in ("experiment", "run", "fault", "instance")}
            self.armed.update(state="armed", armed_ns=now, end_reason="none", hits=1, lifetime="held")
        elif path.endswith("/fire"):
            self.armed.update(state="active", fired_ns=now, fire_duration_ns=1000)
        elif not self.stays or path.endswith("/revert"):
            self.armed.update(state=self.ends, reverted_ns=now, verified_clean=self.ends == "clean", end_reason="duration")
        return self.armed

    def was_asked(self, path, method=None):
        return sum(1 for m, p, _ in self.asked if p == path and method in (None, m))


class FakeAgents(list):
    def __init__(self, authority, count, port=0):
        super().__init__()
        self.over, self.gates = threading.Event(), {}
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path("ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(authority.path("agent.crt"), authority.path("agent.key"))
        for i in range(count):
            self.append(FakeAgent(self, i, self[0].port if self else port, context))
        self.port = self[0].port

    def gate(self, path, count, method="GET"):
        """Of the first request of each for that path."""
        self.gates[(method, path)] = threading.Barrier(count)

    def close(self):
        self.over.set()
        for agent in self:
            agent.server.shutdown()
            agent.server.server_close()
