#!/usr/bin/python3
"""The agent on TCP: mutual TLS alone, and only for the names that may call."""
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from agent_http import AGENT, Agent, call, client_tls  # noqa: E402
from openapi import Document  # noqa: E402
from ports import free_port  # noqa: E402

document = Document()
folder = agent = port = None

EXTENSIONS = """
[ca]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign
[server]
extendedKeyUsage=serverAuth
subjectAltName=IP:127.0.0.1,DNS:localhost
[client]
extendedKeyUsage=clientAuth
[client_san]
extendedKeyUsage=clientAuth
subjectAltName=DNS:other.example,DNS:coordinator.example
[client_uri]
extendedKeyUsage=clientAuth
subjectAltName=URI:spiffe://lab/pgjolt
[metrics_san]
extendedKeyUsage=clientAuth
subjectAltName=DNS:metrics.example
[both]
extendedKeyUsage=clientAuth
subjectAltName=DNS:metrics,DNS:coordinator.example
[wildcard]
extendedKeyUsage=clientAuth
subjectAltName=DNS:*.example
"""


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)


def file(name):
    return os.path.join(folder, name)


def make_ca(name):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-days", "30", "-out", f"{name}.pem",
            "-config", "x.cnf", "-extensions", "ca")


def make(name, subject, extensions, ca="ca", days="20"):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr", "-config", "x.cnf")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", days,
            "-out", f"{name}.pem", "-extfile", "x.cnf", "-extensions", extensions)


def tls_options(certificate="server.pem", key="server.key", ca="ca.pem"):
    return ["--tls-cert", file(certificate), "--tls-key", file(key), "--tls-ca", file(ca)]


def setUpModule():
    global folder, agent, port
    folder = tempfile.mkdtemp(prefix="pj-mtls-")
    try:
        with open(file("x.cnf"), "w", encoding="ascii") as f:
            f.write("[req]\ndistinguished_name=dn\n[dn]\n" + EXTENSIONS)
        make_ca("ca")
        make_ca("stranger")
        make("server", "/CN=agent", "server")
        make("pgjolt", "/CN=pgjolt", "client")
        make("san", "/O=nobody", "client_san")
        make("uri", "/O=nobody", "client_uri")
        make("other", "/CN=other", "client")
        make("almost", "/CN=pgjolt.evil", "client")
        make("metrics", "/CN=metrics", "client")
        make("metrics-san", "/O=nobody", "metrics_san")
        make("metrics-foreign", "/CN=metrics", "client", ca="stranger")
        make("metrics-serverish", "/CN=metrics", "server")
        make("both", "/CN=metrics", "both")
        make("wildcard", "/CN=star", "wildcard")
        make("foreign", "/CN=pgjolt", "client", ca="stranger")
        make("expired", "/CN=pgjolt", "client", days="-1")
        make("serverish", "/CN=pgjolt", "server")
        port = free_port()
        agent = Agent(folder, "--listen", f"127.0.0.1:{port}", *tls_options(), "--tls-allow", "pgjolt", "--tls-allow",
                      "coordinator.example", "--tls-allow", "spiffe://lab/pgjolt", document=document).start()
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    code = 0
    try:
        if agent:
            code = agent.stop()
    finally:
        shutil.rmtree(folder)
    assert code == 0, f"the agent ended with {code}"


class Secure(http.client.HTTPSConnection):
    def __init__(self, name=None, context=None):
        context = context or client_tls(file("ca.pem"), *(file(name + e) for e in (".pem", ".key")) if name else ())
        super().__init__("127.0.0.1", port, timeout=20, context=context)


def ask(name, method="GET", path="/v1/node", body=None):
    connection = Secure(name)
    try:
        return call(connection, document, method, path, body)
    finally:
        connection.close()


class Calling(unittest.TestCase):
    def test_allowed_names(self):
        for name, who in (("pgjolt", "pgjolt"), ("san", "other.example"), ("uri", "spiffe://lab/pgjolt")):
            self.assertEqual(ask(name).status, 200, name)
            self.assertEqual(ask(name, "POST", "/v1/revert").json, {"left": 0, "experiments": []})
            self.assertIn(f"audit: certificate {who}: revert all: 200", agent.read_log())

    def test_without_a_certificate(self):
        for method, path in (("GET", "/v1/node"), ("POST", "/v1/revert"), ("GET", "/metrics"), ("GET", "/healthz"),
                             ("GET", "/none")):
            answer = ask(None, method, path)
            self.assertEqual(answer.status, 401)
            self.assertNotIn("routes", answer.json)
        self.assertIn("audit: no certificate: POST /v1/revert: 401", agent.read_log())

    def test_refused_certificates(self):
        refused = "the client's certificate is refused: .*"
        for name, who, why in (("other", "other", "certificate other is not among the names that may call this agent"),
                               ("almost", "pgjolt.evil", "certificate pgjolt.evil is not among the names .*"),
                               ("wildcard", "star", "certificate star is not among the names .*"),
                               ("expired", "pgjolt", refused + "expired certificate.*"),
                               ("serverish", "pgjolt", refused + "purpose.*"),
                               ("foreign", "pgjolt", refused + "issuer is unknown.*")):
            before = len(agent.read_log())
            answer = ask(name, "POST", "/v1/revert")
            self.assertEqual(answer.status, 403, name)
            lines = agent.read_log()[before:].splitlines()
            told = [line for line in lines if re.fullmatch(f".*audit: certificate {who}: POST /v1/revert: 403, {why}", line)]
            self.assertEqual(len(told), 1, f"{name}: {lines}")
            self.assertFalse([line for line in lines if ": revert" in line], lines)

    def test_each_request_is_checked(self):
        connection = Secure("other")
        for _ in range(3):
            self.assertEqual(call(connection, document, "GET", "/v1/clock").status, 403)
        connection.close()

    def test_versions(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_tls(file("ca.pem"), file("pgjolt.pem"), file("pgjolt.key"))
            context.minimum_version = context.maximum_version = version
            connection = Secure(context=context)
            self.assertEqual(call(connection, document, "GET", "/v1/clock").status, 200)
            connection.close()
        context = client_tls(file("ca.pem"), file("pgjolt.pem"), file("pgjolt.key"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Secure(context=context).request("GET", "/v1/clock")

    def test_plain_http_and_garbage(self):
        """No TLS, no answer; who never ends his handshake is hung up on after 30 s."""
        sockets = []
        for data in (b"GET /v1/node HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\x00\x05hello", b""):
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=90))
            sockets[-1].sendall(data)
        for s in sockets:
            received = b""
            try:
                while more := s.recv(4096):
                    received += more
            except ConnectionResetError:
                pass
            self.assertNotIn(b"HTTP/1.1", received)
            s.close()
        self.assertEqual(ask("pgjolt").status, 200)

    def test_long_body(self):
        self.assertEqual(ask("pgjolt", "POST", "/v1/revert", b" " * (1 << 20) + b"{}").status, 413)

    def test_follow(self):
        last = agent.call("GET", "/v1/events").body.decode().splitlines()
        connection = Secure("pgjolt")
        connection.request("GET", f"/v1/events?follow=true&after={10**9}")
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        self.assertIn(b'"gap"', response.readline())
        for _ in last:
            response.readline()
        time.sleep(0.3)
        agent.call("POST", "/v1/experiments/told-by-unix/fire")
        self.assertIn(b"told-by-unix", response.readline())
        connection.close()

    def test_idle_costs_nothing(self):
        idle = [Secure("pgjolt") for _ in range(10)]
        for c in idle:
            self.assertEqual(call(c, document, "GET", "/v1/clock").status, 200)
        half = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        before = agent.cpu_s()
        time.sleep(2)
        self.assertLess(agent.cpu_s() - before, 0.5, "the agent spins")
        for c in idle + half:
            c.close()

    def test_strangers_cannot_crowd_out_the_unix_socket(self):
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        self.assertEqual(agent.call("GET", "/healthz").status, 200)
        for s in crowd:
            s.close()

        def is_answered():
            try:
                return ask("pgjolt").status == 200
            except OSError:     # hung up on, while the crowd's connections are being closed
                return False
        agent.wait_for(is_answered)

    def test_zz_refusals_do_not_fill_the_log(self):
        for _ in range(60):
            self.assertEqual(ask(None).status, 401)
        self.assertLess(agent.read_log().count("audit: no certificate"), 60)
        metrics = agent.call("GET", "/metrics").body.decode()
        count = [line for line in metrics.splitlines() if line.startswith("pgjolt_agent_refused_callers_total")]
        self.assertGreaterEqual(int(count[0].split()[1]), 60)


class MetricsAlone(unittest.TestCase):
    """An agent of its own: only so many refusals a minute are told one by one."""

    def setUp(self):
        global port
        where, self.saved, port = tempfile.mkdtemp(prefix="pj-mtls-metrics-"), port, free_port()
        self.addCleanup(shutil.rmtree, where)
        self.agent = Agent(where, "--listen", f"127.0.0.1:{port}", *tls_options(), "--tls-allow", "coordinator.example",
                           "--tls-allow-metrics", "metrics", "--tls-allow-metrics", "metrics.example", document=document).start()
        self.addCleanup(self.agent.kill)

    def tearDown(self):
        global port
        port = self.saved
        self.assertEqual(self.agent.stop(), 0)

    def test_metrics_and_nothing_else(self):
        for name in ("metrics", "metrics-san"):
            for path in ("/metrics", "/healthz"):
                self.assertEqual(ask(name, path=path).status, 200, path)
        for method, path in (("GET", "/v1/node"), ("GET", "/v1/clock"), ("GET", "/v1/instances"), ("GET", "/v1/events"),
                             ("GET", "/v1/experiments"), ("GET", "/v1/experiments/x"), ("POST", "/v1/revert"),
                             ("POST", "/v1/experiments"), ("POST", "/v1/experiments/x/fire"), ("POST", "/v1/leave"),
                             ("POST", "/metrics"), ("GET", "/metrics/"), ("GET", "/none")):
            connection = Secure("metrics")
            answer = call(connection, None, method, path)
            connection.close()
            self.assertEqual(answer.status, 403, path)
            self.assertEqual(answer.json["error"]["code"], "EPERM")
            self.assertNotIn("routes", answer.json)
            self.assertNotIn("Allow", answer.headers)
            self.assertIn("certificate metrics may read /metrics and /healthz alone", answer.json["error"]["message"])
        self.assertIn("audit: certificate metrics: POST /v1/revert: 403, certificate metrics may read", self.agent.read_log())
        self.assertNotIn("audit: certificate metrics: revert", self.agent.read_log())
        # Each request, on one connection.
        connection = Secure("metrics-san")
        for path, status in (("/metrics", 200), ("/v1/node", 403), ("/metrics", 200)):
            self.assertEqual(call(connection, document, "GET", path).status, status)
        connection.close()

    def test_the_name_is_no_way_around(self):
        """It must be a client's certificate of our CA as well; and who may call by another name of his may."""
        self.assertEqual(ask("metrics-serverish", path="/metrics").status, 403)
        try:
            self.assertEqual(ask("metrics-foreign", path="/metrics").status, 403)
        except (ssl.SSLError, ConnectionError):
            pass
        self.assertEqual(ask("both").status, 200)


class Starting(unittest.TestCase):
    def refuses(self, words, *options):
        end = subprocess.run([AGENT, "serve", "--socket", file("other.sock"), "--journal", file("other-journal"), *options],
                             text=True, stderr=subprocess.PIPE, timeout=60, check=False)
        self.assertNotEqual(end.returncode, 0)
        self.assertIn(words, end.stderr)
        self.assertFalse(os.path.exists(file("other.sock")))
        self.assertNotIn("PRIVATE", end.stderr)

    def test_files(self):
        with open(file("empty.pem"), "w", encoding="ascii"):
            pass
        with open(file("junk.pem"), "wb") as f:
            f.write(os.urandom(500))
        listen = ["--listen", f"127.0.0.1:{free_port()}"]
        self.refuses("tls", *listen)
        self.refuses("none.pem", *listen, *tls_options(certificate="none.pem"))
        self.refuses("none.key", *listen, *tls_options(key="none.key"))
        self.refuses("none.pem", *listen, *tls_options(ca="none.pem"))
        self.refuses("not that of the certificate", *listen, *tls_options(key="pgjolt.key"))
        self.refuses("server.key", *listen, *tls_options(certificate="server.key"))
        self.refuses("junk.pem", *listen, *tls_options(certificate="junk.pem"))
        self.refuses("junk.pem", *listen, *tls_options(ca="junk.pem"))
        self.refuses("empty.pem", *listen, *tls_options(ca="empty.pem"))

    def test_addresses(self):
        for address in ("8443", "localhost:8443", "127.0.0.1:0", "::1:8443"):
            self.refuses(address, "--listen", address, *tls_options())
        self.refuses(f"127.0.0.1:{port}", "--listen", f"127.0.0.1:{port}", *tls_options())

    def test_without_names_any_of_the_cas_may_call(self):
        global port
        where, mine, saved = tempfile.mkdtemp(prefix="pj-mtls-any-"), free_port(), port
        self.addCleanup(shutil.rmtree, where)
        any_agent = Agent(where, "--listen", f"127.0.0.1:{mine}", *tls_options(), "--tls-allow-metrics", "metrics").start()
        self.addCleanup(any_agent.kill)
        port = mine
        try:
            self.assertEqual(ask("other").status, 200)
            self.assertEqual(ask("serverish").status, 403)
            self.assertEqual(ask(None).status, 401)
            self.assertEqual((ask("metrics", path="/metrics").status, ask("metrics").status), (200, 403))
        finally:
            port = saved
        self.assertEqual(any_agent.stop(), 0)


class Reloading(unittest.TestCase):
    """Files that change under an agent that runs, as a Kubernetes Secret volume changes them: by exchanging "..data"."""

    def setUp(self):
        self.where, self.port = tempfile.mkdtemp(prefix="pj-mtls-reload-"), free_port()
        self.addCleanup(shutil.rmtree, self.where)
        self.version = 0
        self.publish("server.pem", "server.key", "ca.pem")
        self.agent = Agent(self.where, "--listen", f"127.0.0.1:{self.port}", "--tls-cert", f"{self.where}/tls.crt", "--tls-key",
                           f"{self.where}/tls.key", "--tls-ca", f"{self.where}/ca.crt", document=document).start()
        self.addCleanup(self.agent.kill)

    def publish(self, certificate, key, ca):
        self.version += 1
        where = os.path.join(self.where, f"..{self.version}")
        os.mkdir(where)
        for name, source in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)):
            shutil.copy(file(source), os.path.join(where, name))
            if not os.path.lexists(os.path.join(self.where, name)):
                os.symlink(f"..data/{name}", os.path.join(self.where, name))
        os.symlink(f"..{self.version}", os.path.join(self.where, "..tmp"))
        os.rename(os.path.join(self.where, "..tmp"), os.path.join(self.where, "..data"))

    def connect(self, name, ca="ca.pem"):
        context = client_tls(file(ca), file(f"{name}.pem"), file(f"{name}.key"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        connection.connect()
        return connection

    def status(self, name, ca="ca.pem"):
        try:
            connection = self.connect(name, ca)
        except ssl.SSLError:
            return "TLS"
        try:
            return call(connection, document, "GET", "/v1/node").status
        finally:
            connection.close()

    def test_new_files_without_a_restart(self):
        make("foreign-server", "/CN=agent", "server", ca="stranger")
        self.assertEqual((self.status("pgjolt"), self.status("foreign", "stranger.pem")), (200, "TLS"))
        old = self.connect("pgjolt")
        self.assertEqual(call(old, document, "GET", "/v1/node").status, 200)
        follower = self.connect("pgjolt")
        follower.request("GET", "/v1/events?follow=true")
        stream = follower.getresponse()
        self.publish("foreign-server.pem", "foreign-server.key", "stranger.pem")
        self.agent.wait_for(lambda: "new TLS files are in use" in self.agent.read_log())
        self.assertEqual((self.status("pgjolt"), self.status("foreign", "stranger.pem")), ("TLS", 200))
        self.assertEqual(self.status("pgjolt", "stranger.pem"), 403)
        answer = call(old, document, "GET", "/v1/node")
        self.assertEqual((answer.status, answer.headers["Connection"]), (200, "close"))
        seen = ""
        while "new TLS files are in use" not in seen:
            seen += stream.readline().decode()
        follower.close()
        old.close()
        self.publish("server.pem", "server.key", "ca.pem")
        self.agent.wait_for(lambda: self.status("pgjolt") == 200)
        self.assertEqual(self.agent.stop(), 0)

    def test_bad_files_change_nothing(self):
        self.publish("server.pem", "pgjolt.key", "ca.pem")
        self.agent.wait_for(lambda: "the new TLS files are not taken, those before stay" in self.agent.read_log())
        self.assertIn("not that of the certificate", self.agent.read_log())
        self.assertEqual(self.status("pgjolt"), 200)
        # One after the other, without "..data": the pair is right again with the second.
        make("second", "/CN=agent", "server")
        for name, source in (("tls.crt", "second.pem"), ("tls.key", "second.key")):
            os.unlink(os.path.join(self.where, name))
            shutil.copy(file(source), os.path.join(self.where, name))
        self.agent.wait_for(lambda: "new TLS files are in use" in self.agent.read_log())
        connection = self.connect("pgjolt")
        with open(file("second.pem"), encoding="ascii") as f:
            self.assertEqual(connection.sock.getpeercert(binary_form=True), ssl.PEM_cert_to_DER_cert(f.read()))
        connection.close()
        self.assertEqual(self.agent.stop(), 0)

    def test_many_changes_leave_nothing_behind(self):
        before, connections = self.agent.descriptors(), []
        for i in range(8):
            told = self.agent.read_log().count("new TLS files are in use")
            kept = self.connect("pgjolt")
            make(f"next{i}", "/CN=agent", "server")
            self.publish(f"next{i}.pem", f"next{i}.key", "ca.pem")
            self.agent.wait_for(lambda n=told: self.agent.read_log().count("new TLS files are in use") > n)
            connections.append(kept)
        self.assertEqual(self.status("pgjolt"), 200)
        for kept in connections:
            kept.close()
        self.agent.wait_for(lambda: self.agent.descriptors() <= before)
        self.assertEqual(self.agent.stop(), 0)


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("openssl"):
        print("needs root and openssl")
        sys.exit(77)
    unittest.main(verbosity=2)
