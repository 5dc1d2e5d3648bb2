"""An agent of a test's own, and HTTP to it."""
import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import time

BUILD = os.environ.get("PGJOLT_BUILD", "build/release")
AGENT = os.path.join(BUILD, "agent/pgjolt-agent")
TROUBLE = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=20):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.type = response.headers.get("Content-Type", "")
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["error"]["message"]


def call(connection, document, method, path, body=None, headers=None, kind="application/json"):
    """One request; its answer is held against the document."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if body is not None and kind:
        headers.setdefault("Content-Type", kind)
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    answer = Answer(response, response.read())
    if document:
        document.check_answer(method, path, answer.status, answer.type, answer.body)
    return answer


class Agent:
    """pgjolt-agent serve with a socket and a journal in a folder of its own."""

    def __init__(self, folder, *options, document=None):
        self.folder = folder
        self.socket = os.path.join(folder, "agent.sock")
        self.journal = os.path.join(folder, "journal")
        self.options = options
        self.document = document
        self.log_path = os.path.join(folder, "agent.log")
        self.process = None

    def command(self):
        return [AGENT, "serve", "--socket", self.socket, "--journal", self.journal, *self.options]

    def start(self, limit_s=60):
        read, write = os.pipe()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.command(), "--ready-fd", str(write)], pass_fds=[write], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        os.close(write)
        readable, _, _ = select.select([read], [], [], limit_s)
        ready = os.read(read, 16) if readable else b""
        os.close(read)
        if not ready.startswith(b"ready"):
            self.kill()
            raise AssertionError(f"the agent did not start:\n{self.read_log()}")
        return self

    def read_log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, limit_s=60):
        """Ends it as an operator does; returns its exit code."""
        if not self.process:
            return 0
        self.process.terminate()
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the agent does not end:\n{self.read_log()}") from None
        self.process = None
        if TROUBLE.search(self.read_log()):
            raise AssertionError(self.read_log())
        return code

    def connect(self, timeout=20):
        return UnixConnection(self.socket, timeout)

    def raw(self, timeout=20):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(self.socket)
        return s

    def call(self, method, path, body=None, **more):
        connection = self.connect()
        try:
            return call(connection, self.document, method, path, body, **more)
        finally:
            connection.close()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def wait_for(self, condition, limit_s=20):
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("waited in vain")
            time.sleep(0.05)


def read_answers(sock, count, limit=1 << 20):
    """Raw answers until count status lines came or the peer closed."""
    data = b""
    while data.count(b"HTTP/1.1 ") < count and len(data) < limit:
        try:
            more = sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            break
        if not more:
            break
        data += more
    return data


def client_tls(ca, certificate=None, key=None):
    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
