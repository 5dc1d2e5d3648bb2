"""An agent of one's own: private socket and journal, spoken to over the socket.

    with scratch("mine") as folder, Agent(folder) as agent:
        experiment = agent.arm("net-partition", "lab/pg1", duration_ms=5000)
        agent.fire(experiment)
        agent.revert(experiment)

Agent.alone() makes its folder itself and starts; remove() ends both.

request() gives (status, document); call() gives the document and raises AgentError otherwise.
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

BUILD = os.environ.get("PGJOLT_BUILD") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "release")
BINARY = os.path.join(BUILD, "agent", "pgjolt-agent")


def cpu_is_emulated():
    """By QEMU, without help from the hardware: tens of times slower."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        return "QEMU TCG" in f.read()


# How many times longer everything may take.
TIME_SCALE = float(os.environ.get("PGJOLT_TIME_SCALE") or (8 if cpu_is_emulated() else 1))


class AgentError(Exception):
    """The agent's own answer: status, code and words."""

    def __init__(self, status, document):
        self.status = status
        error = (document or {}).get("error", {})
        self.code = error.get("code")
        super().__init__(f"{status} {self.code}: {error.get('message')}")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("agent", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout * TIME_SCALE)
        self.sock.connect(self.path)


@contextlib.contextmanager
def scratch(name):
    """A folder that is removed at the end, readable by the postgres user."""
    folder = tempfile.mkdtemp(prefix=f"pgjolt-{name}-")
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def process_state(pid):
    """The letter of proc(5); None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rsplit(b")", 1)[1].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_until(check, seconds, every=0.01):
    """The first true answer of check(), or its last false one when the time is over."""
    end = time.monotonic() + seconds * TIME_SCALE
    while True:
        answer = check()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(every)


class Agent:
    def __init__(self, folder, *options, journal=None, binary=BINARY):
        self.folder = folder
        self.socket = os.path.join(folder, "agent.sock")
        self.journal = journal or os.path.join(folder, "journal")
        self.options = list(options)
        self.binary = binary
        self.log = os.path.join(folder, "agent.log")
        self.process = None

    @classmethod
    def alone(cls, *options, binary=BINARY):
        """With a folder of its own, running."""
        agent = cls(tempfile.mkdtemp(prefix=f"pj-agent{os.getpid()}-"), "--node-name", "testnode", *options,
                    binary=binary)
        try:
            return agent.start()
        except BaseException:
            agent.remove()
            raise

    def leave(self):
        """Ends it, gently if it can be: only so do a sanitizer and the coverage have their say. Its exit code; None: it
        was not running, or had to be killed."""
        if not self.process or self.process.poll() is not None:
            return None
        if process_state(self.pid) != "T":
            try:
                return self.stop(20)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return None

    def remove(self):
        """Ends it and removes its folder."""
        self.leave()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        code = self.leave()
        if kind is None and code:
            raise RuntimeError(f"agent left with {code}: {self.tail()}")

    @property
    def pid(self):
        return self.process.pid

    def spawn(self, *options):
        """Starts it and does not wait; the log is appended to."""
        ready, theirs = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--socket", self.socket, "--journal", self.journal,
                 "--ready-fd", str(theirs), *self.options, *options],
                pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(theirs)
        return ready

    def start(self, *options):
        """Until it listens."""
        ready = self.spawn(*options)
        with os.fdopen(ready, "rb") as f:
            if f.read() != b"ready\n":
                code = self.process.wait(10)
                raise RuntimeError(f"agent left with {code}: {self.tail()}")
        return self

    def tail(self, length=2000):
        with open(self.log, errors="replace") as f:
            return f.read()[-length:]

    def kill(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            self.process.wait(10)

    def stop(self, timeout=15):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout * TIME_SCALE)

    def wait_halted(self, seconds=10):
        """Has it stopped itself at its --halt-at point?"""
        return wait_until(lambda: process_state(self.pid) == "T", seconds, 0.002)

    def request(self, method, path, body=None, timeout=15):
        connection = UnixConnection(self.socket, timeout)
        try:
            text = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            data = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(data) if is_json and data else data.decode()
        finally:
            connection.close()

    def call(self, method, path, body=None, timeout=15):
        status, document = self.request(method, path, body, timeout)
        if status >= 300:
            raise AgentError(status, document if isinstance(document, dict) else None)
        return document

    def arm(self, fault, instance, params=None, duration_ms=60000, lease_ms=60000, **named):
        """The new experiment's id. Parameters as they are, or by name: "-" is written "_" there."""
        experiment = f"ex-{uuid.uuid4().hex[:8]}"
        self.call("POST", "/v1/experiments", {
            "experiment": experiment, "run": "run-test", "fault": fault, "instance": instance,
            "params": (params or {}) | {name.replace("_", "-"): value for name, value in named.items()},
            "duration_ms": duration_ms, "lease_ms": lease_ms})
        return experiment

    def fire(self, experiment):
        return self.call("POST", f"/v1/experiments/{experiment}/fire")

    def inject(self, fault, instance, params=None, **named):
        experiment = self.arm(fault, instance, params, **named)
        self.fire(experiment)
        return experiment

    def renew(self, experiment, lease_ms):
        return self.call("POST", f"/v1/experiments/{experiment}/renew", {"lease_ms": lease_ms})

    def revert(self, experiment):
        return self.call("POST", f"/v1/experiments/{experiment}/revert")

    def get(self, experiment):
        return self.call("GET", f"/v1/experiments/{experiment}")

    def experiments(self):
        return self.call("GET", "/v1/experiments")["experiments"]

    def instances(self):
        return self.call("GET", "/v1/instances")["instances"]

    def instance_of(self, pid):
        """The one whose postmaster that is, or None."""
        return next((i for i in self.instances() if i["pid"] == pid), None)

    def node(self):
        return self.call("GET", "/v1/node")

    def wait_state(self, experiment, state, seconds=5):
        """The experiment once it is there; fails otherwise."""
        found = wait_until(lambda: (e := self.get(experiment))["state"] == state and e, seconds)
        assert found, f"{experiment} is {self.get(experiment)}, not {state}"
        return found

    def entries(self):
        """Names of the journal's entries, good and bad."""
        try:
            return sorted(n for n in os.listdir(self.journal) if ".json" in n)
        except FileNotFoundError:
            return []
