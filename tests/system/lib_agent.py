"""A pgjolt-agent of a test's own: its socket, journal and API."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BINARY = os.path.join(os.environ.get("PGJOLT_BUILD", "build/release"), "agent/pgjolt-agent")


class Refused(Exception):
    """An answer that is an error: status, code and words."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, limit):
        super().__init__("localhost", timeout=limit)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Agent:
    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix=f"pj-agent{os.getpid()}-", dir="/tmp")
        self.socket = f"{self.folder}/agent.sock"
        self.options = options
        self.process = None
        self.count = 0
        self.start()

    def start(self, *more):
        command = [BINARY, "serve", "--socket", self.socket, "--journal", f"{self.folder}/journal",
                   "--node-name", "testnode", *self.options, *more]
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while True:
            try:
                return self.call("GET", "/v1/node")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    with open(f"{self.folder}/log", encoding="utf-8") as log:
                        raise AssertionError("the agent did not come up: " + log.read()) from None
                time.sleep(0.01)

    def call(self, method, path, body=None, limit=20):
        connection = UnixConnection(self.socket, limit)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        data = json.loads(text) if text else None
        if answer.status >= 300:
            raise Refused(answer.status, data)
        return data

    def instances(self):
        answer = self.call("GET", "/v1/instances")
        return answer["instances"] if isinstance(answer, dict) else answer

    def instance_of(self, pid):
        found = [i for i in self.instances() if i["pid"] == pid]
        return found[0] if found else None

    def arm(self, fault, instance, params=None, duration_ms=60000, lease_ms=60000):
        self.count += 1
        body = {"experiment": f"x-{os.getpid()}-{self.count}", "run": f"r-{os.getpid()}",
                "fault": fault, "instance": instance, "params": params or {},
                "duration_ms": duration_ms, "lease_ms": lease_ms}
        return self.call("POST", "/v1/experiments", body)["experiment"]

    def fire(self, experiment):
        return self.call("POST", f"/v1/experiments/{experiment}/fire", {})

    def get(self, experiment):
        return self.call("GET", f"/v1/experiments/{experiment}")

    def revert(self, experiment):
        return self.call("POST", f"/v1/experiments/{experiment}/revert", {})

    def inject(self, fault, instance, params=None, **limits):
        experiment = self.arm(fault, instance, params, **limits)
        self.fire(experiment)
        return experiment

    def journal(self):
        return [n for n in os.listdir(f"{self.folder}/journal") if n.endswith(".json")]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def remove(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
