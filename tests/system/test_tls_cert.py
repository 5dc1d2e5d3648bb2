#!/usr/bin/python3
"""tls-cert as clients see it: psql and openssl in a network namespace of their own ask an instance whose
certificate is in a volume of the form that Kubernetes gives a Secret. A second instance uses the very same
files."""
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import Agent, AgentError, scratch, wait_until  # noqa: E402
from harness.certificates import Authority  # noqa: E402
from harness.target import ADDRESS, Target, postgres_folder  # noqa: E402

HOST = "pg.example.com"
EXPIRED = "certificate has expired"
ROLES = "hostssl all alice all trust clientcert=verify-ca\nhost all all all trust\n"
world = {}


def setUpModule():
    folder = enter(scratch("tls"))
    authority = world["authority"] = Authority(os.path.join(folder, "ca"))
    authority.make("server", HOST)
    authority.make("alice")
    world["secret"] = os.path.join(folder, "secret")
    os.mkdir(world["secret"])
    fill_secret("..first")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        os.symlink(f"..data/{name}", os.path.join(world["secret"], name))
    world["agent"] = enter(Agent(folder))
    settings = (f"ssl = on\nssl_cert_file = '{world['secret']}/tls.crt'\nssl_key_file = '{world['secret']}/tls.key'\n"
                f"primary_conninfo = 'host=nowhere sslcert={authority.path('alice.crt')}'\n"
                f"include_if_exists = 'nothing.conf'\nssl_ca_file = '{world['secret']}/ca.crt'\n")
    for name in ("target", "other"):
        path = os.path.join(folder, name)
        os.mkdir(path)
        os.chmod(path, 0o755)
        world[name] = enter(Target(path, f"tls{name[0]}", settings=settings, hba=ROLES))
        # It answers before it takes sessions.
        assert wait_until(lambda: world[name].sql("create role alice login", local=True) == "", 30, 0.1)


def enter(context):
    """Left at the end, or when the rest of setUpModule fails."""
    value = context.__enter__()
    unittest.addModuleCleanup(context.__exit__, None, None, None)
    return value


def fill_secret(version):
    """As kubelet does: a new folder, then one rename of the link to it."""
    folder = os.path.join(world["secret"], version)
    os.mkdir(folder)
    for name, source in (("tls.crt", "server.crt"), ("tls.key", "server.key"), ("ca.crt", "ca.crt")):
        shutil.copy2(world["authority"].path(source), os.path.join(folder, name))
    shutil.chown(os.path.join(folder, "tls.key"), "postgres", "postgres")
    os.symlink(version, os.path.join(world["secret"], "..new"))
    os.rename(os.path.join(world["secret"], "..new"), os.path.join(world["secret"], "..data"))


def sql(target, text, local=False, mode="verify-full", user="postgres", cert=None):
    """Empty when all is well, else what psql says."""
    words = f"dbname=postgres user={user} connect_timeout=20"
    if local:
        command, words = [], f"{words} host={target.folder}"
    else:
        command = ["ip", "netns", "exec", target.client_netns]
        words += f" host={HOST} hostaddr={ADDRESS} sslmode={mode}"
        words += f" sslrootcert={world['authority'].path('ca.crt')}" if mode.startswith("verify") else ""
        words += f" sslcert={world['authority'].path(cert)}.crt sslkey={world['authority'].path(cert)}.key" if cert else ""
    done = subprocess.run([*command, f"{postgres_folder()}/psql", "-XAtq", "-c", text, words], text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    return done.stderr if done.returncode else ""


Target.sql = sql


def handshake(target):
    return subprocess.run(["ip", "netns", "exec", target.client_netns, "openssl", "s_client", "-starttls", "postgres",
                           "-connect", f"{ADDRESS}:5432", "-CAfile", world["authority"].path("ca.crt"),
                           "-verify_hostname", HOST], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=30, check=False).stdout


def shown(target):
    """The certificate that the server shows, as openssl prints it."""
    return printed(handshake(target))


def verdict(target):
    """Why openssl does not trust it, the last reason of several; "ok"; None where no server answers."""
    found = re.search(rb"Verify return code: \d+ \((.*)\)", handshake(target))
    return found and found[1].decode()


def printed(pem):
    return subprocess.run(["openssl", "x509", "-noout", "-text"], input=pem, stdout=subprocess.PIPE, check=True,
                          timeout=30).stdout.decode()


def content(path):
    with open(path, "rb") as f:
        return f.read()


def digest(path):
    return hashlib.sha256(content(path)).hexdigest()


def inside(target, path):
    """The file as the instance has it."""
    return f"/proc/{target.postmaster()}/root{path}"


class Case(unittest.TestCase):
    def setUp(self):
        self.agent, self.target, self.other = world["agent"], world["target"], world["other"]
        self.authority = world["authority"]
        self.file = os.path.join(world["secret"], "tls.crt")
        self.before = digest(self.file), os.stat(self.file)
        self.assertEqual(self.target.sql("select 1"), "")

    def tearDown(self):
        for e in self.agent.experiments():
            if e["state"] in ("armed", "active"):
                self.agent.revert(e["experiment"])
        self.becomes()
        self.assertEqual(self.agent.entries(), [])
        self.assertEqual(content(inside(self.target, self.file)), content(self.file))
        with open(f"/proc/{self.target.postmaster()}/mountinfo") as f:
            self.assertNotIn("pgjolt-tls-cert", f.read())

    def becomes(self, words="ok"):
        """Until openssl says so of new connections, and psql is of one mind with it: nobody waits for a
        reload."""
        said = []

        def look():
            said.append(verdict(self.target))
            return said[-1] == words
        self.assertTrue(wait_until(look, 10), f"not '{words}' but '{said and said[-1]}'")
        self.assertEqual(self.target.sql("select 1") == "", words == "ok")

    def fire(self, key=True, **params):
        if key:
            params["ca_key"] = self.authority.path("ca.key")
        experiment = self.agent.arm("tls-cert", self.target.name, **params)
        self.assertEqual(self.target.sql("select 1"), "", "in effect when armed")
        self.agent.fire(experiment)
        return experiment

    def revert(self, experiment):
        found = self.agent.revert(experiment)
        self.assertEqual((found["state"], found["verified_clean"]), ("clean", True))
        self.becomes()

    def assert_others_well(self):
        self.assertEqual(digest(self.file), self.before[0])
        now = os.stat(self.file)
        self.assertEqual((now.st_ino, now.st_mtime_ns), (self.before[1].st_ino, self.before[1].st_mtime_ns))
        self.assertEqual(self.other.sql("select pg_reload_conf()", local=True), "")
        self.assertEqual(self.other.sql("select 1"), "")


class Server(Case):
    def test_dates(self):
        for mode, words in (("expired", EXPIRED), ("not-yet-valid", "certificate is not yet valid")):
            with self.subTest(mode=mode):
                right = shown(self.target)
                session = subprocess.Popen([f"{postgres_folder()}/psql", "-XAtq", "-h", self.target.folder, "-U",
                                            "postgres", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                experiment = self.fire(mode=mode)
                self.becomes(words)
                self.assert_others_well()
                self.assertEqual(self.target.sql("select 1", mode="require"), "")
                self.check_parts(right, shown(self.target))
                self.assertEqual(session.communicate(b"select 7;\n", 20)[0], b"7\n")
                now = self.agent.get(experiment)
                self.assertGreaterEqual(now["hits"], 1)
                self.assertEqual((now["evidence"]["in_place"], now["evidence"]["signature"]), (True, "by its CA"))
                self.revert(experiment)
                self.assertEqual(shown(self.target), right)

    def check_parts(self, right, wrong):
        """Only the dates and the signature differ."""
        def parts(text):
            skipped = ("Not Before", "Not After", "Signature Value")
            lines = [line for line in text.splitlines() if not line.strip().startswith(skipped)]
            return lines[:next((i for i, line in enumerate(lines) if "Signature Algorithm" in line and i > 5), None)]
        self.assertEqual(parts(right), parts(wrong))
        self.assertNotEqual(right, wrong)

    def test_wrong_host(self):
        experiment = self.fire(mode="wrong-host")
        self.becomes("hostname mismatch")
        self.assertIn('server certificate for "wrong-host.invalid"', self.target.sql("select 1"))
        self.assertEqual(self.target.sql("select 1", mode="verify-ca"), "")
        self.assert_others_well()
        self.revert(experiment)

    def test_untrusted(self):
        experiment = self.fire(key=False, mode="untrusted")
        self.becomes("unable to verify the first certificate")
        self.assertIn("Issuer: CN = pgjolt unknown CA", shown(self.target))
        self.assert_others_well()
        self.revert(experiment)

    def test_without_the_key_of_the_ca(self):
        experiment = self.fire(key=False, mode="expired")
        self.becomes(EXPIRED)
        self.assertIn("no longer fits", self.agent.get(experiment)["evidence"]["signature"])
        self.assertEqual(self.target.sql("select 1", mode="require"), "")
        self.revert(experiment)

    def test_unreadable(self):
        experiment = self.fire(key=False, mode="unreadable")
        log = os.path.join(self.target.folder, "postgres.log")
        self.assertTrue(wait_until(lambda: b"could not load server certificate" in content(log), 20))
        self.assertEqual(self.target.sql("select 1"), "", "what was loaded is used further")
        mode = os.stat(inside(self.target, self.file))
        self.assertEqual((mode.st_mode & 0o777, mode.st_uid), (0, self.before[1].st_uid))
        self.assertEqual(self.agent.get(experiment)["hits"], 1)
        self.assert_others_well()
        self.revert(experiment)


class OtherFiles(Case):
    def test_ca(self):
        self.assertEqual(self.target.sql("select 1", user="alice", cert="alice"), "")
        experiment = self.fire(key=False, mode="expired", file="ca")
        # The client is told by an alert, or only finds the connection closed.
        self.assertTrue(wait_until(lambda: self.target.sql("select 1", user="alice", cert="alice"), 20))
        self.assertEqual(self.target.sql("select 1"), "")
        log = content(os.path.join(self.target.folder, "postgres.log"))
        self.assertIn(b"certificate verify failed", log + self.target.sql("select 1", user="alice", cert="alice").encode())
        self.revert(experiment)
        self.assertEqual(self.target.sql("select 1", user="alice", cert="alice"), "")

    def test_client(self):
        path = self.authority.path("alice.crt")
        right = printed(content(path))
        experiment = self.fire(mode="expired", file="client", by="24h")
        wrong = content(inside(self.target, path))
        self.assertNotEqual(printed(wrong), right)
        done = subprocess.run(["openssl", "verify", "-CAfile", self.authority.path("ca.crt")], input=wrong,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False, timeout=30)
        self.assertIn(b"certificate has expired", done.stderr)
        self.assertEqual(printed(content(path)), right)
        self.assertEqual(printed(content(inside(self.other, path))), right)
        self.revert(experiment)
        self.assertEqual(printed(content(inside(self.target, path))), right)

    def test_refusals(self):
        for params, words in ((dict(mode="wrong-host", file="ca"), "names no host"),
                              (dict(mode="untrusted", ca_key="/x"), "ca-key: is for"),
                              (dict(mode="expired", path="tls.crt"), "no absolute path"),
                              (dict(mode="expired", path="/no/such"), "No such file"),
                              (dict(mode="expired", path="/dev/null"), "no regular file"),
                              (dict(mode="expired", path="/etc/passwd"), "no certificate"),
                              (dict(mode="expired", ca_key="/no/such"), "ca-key"),
                              (dict(mode="expired", ca_key=self.authority.path("alice.key")), "not the key that signed")):
            with self.subTest(params=params), self.assertRaises(AgentError) as caught:
                self.agent.arm("tls-cert", self.target.name, **params)
            self.assertIn(words, str(caught.exception))

    def test_two_at_a_time(self):
        first = self.fire(mode="expired")
        with self.assertRaises(AgentError) as caught:
            self.agent.arm("tls-cert", self.target.name, mode="wrong-host")
        self.assertIn("another tls-cert", str(caught.exception))
        self.revert(first)


class Lives(Case):
    def test_never_fired_never_reloads(self):
        log = os.path.join(self.target.folder, "postgres.log")
        before = content(log).count(b"received SIGHUP")
        experiment = self.agent.arm("tls-cert", self.target.name, mode="expired")
        self.revert(experiment)
        experiment = self.fire(mode="expired")
        self.becomes(EXPIRED)
        self.revert(experiment)
        self.assertTrue(wait_until(lambda: content(log).count(b"received SIGHUP") == before + 2, 20))

    def test_postgres_starts_again(self):
        experiment = self.fire(mode="expired")
        self.becomes(EXPIRED)
        old = self.target.postmaster()
        self.target.kill_postmaster()
        self.assertTrue(wait_until(lambda: self.target.postmaster() not in (None, old), 20))
        self.becomes(EXPIRED)
        self.revert(experiment)

    @contextlib.contextmanager
    def copied_namespace(self, *options):
        """A process in a copy of the instance's mount namespace."""
        pid = self.target.postmaster()
        copy = subprocess.Popen(["nsenter", "-t", str(pid), "-m", "unshare", "-m", *options, "sleep", "600"])
        try:
            self.assertTrue(wait_until(lambda: os.readlink(f"/proc/{copy.pid}/ns/mnt") not in
                                       (os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt")), 20))
            self.assertNotEqual(digest(f"/proc/{copy.pid}/root{self.file}"), self.before[0])
            yield copy.pid
        finally:
            copy.kill()
            copy.wait()

    def test_namespace_that_was_copied(self):
        experiment = self.fire(mode="expired")
        with self.copied_namespace() as pid:
            self.revert(experiment)
            self.assertEqual(digest(f"/proc/{pid}/root{self.file}"), self.before[0])

    def test_copy_that_the_kernel_locks(self):
        """What anybody may make in a user namespace of his own must not keep ours from its end."""
        experiment = self.fire(mode="expired")
        with self.copied_namespace("-U"):
            self.revert(experiment)
            self.assertEqual(digest(inside(self.target, self.file)), self.before[0])
        experiment = self.fire(mode="expired")
        self.revert(experiment)

    def test_secret_is_renewed_meanwhile(self):
        experiment = self.fire(mode="expired")
        self.becomes(EXPIRED)
        old = os.readlink(os.path.join(world["secret"], "..data"))
        fill_secret(f"..{experiment}")
        shutil.rmtree(os.path.join(world["secret"], old))
        self.assertEqual(digest(inside(self.target, self.file)), self.before[0])
        self.assertFalse(self.agent.get(experiment)["evidence"]["in_place"])
        os.kill(self.target.postmaster(), signal.SIGHUP)
        self.becomes()
        self.revert(experiment)

    def test_file_becomes_another_thing(self):
        """Before arming, and between arming and firing: nothing is waited for, nothing else is opened."""
        real = os.path.realpath(self.file)
        makers = {"fifo": lambda: os.mkfifo(real), "loop": lambda: os.symlink(real, real),
                  "device": lambda: os.symlink("/dev/zero", real)}
        for thing, make in makers.items():
            with self.subTest(thing=thing):
                experiment = self.agent.arm("tls-cert", self.target.name, mode="expired")
                os.rename(real, real + ".aside")
                try:
                    make()
                    with self.assertRaises(AgentError):
                        self.agent.fire(experiment)
                    with self.assertRaises(AgentError):
                        self.agent.arm("tls-cert", self.target.name, mode="expired")
                finally:
                    os.unlink(real)
                    os.rename(real + ".aside", real)
                self.assertEqual(self.agent.entries(), [])

    def test_killed_agent(self):
        experiment = self.fire(mode="expired")
        self.becomes(EXPIRED)
        self.agent.kill()
        self.becomes(EXPIRED)
        self.agent.start()
        self.assertTrue(wait_until(lambda: not self.agent.entries(), 2), "not within 2 s")
        self.assertEqual(self.agent.get(experiment)["state"], "clean")
        self.becomes()


class ZEnd(unittest.TestCase):
    """Last: the target is gone after it."""

    def test_instance_is_deleted(self):
        agent, target = world["agent"], world["target"]
        experiment = agent.arm("tls-cert", target.name, mode="expired")
        agent.fire(experiment)
        target.end()
        found = agent.wait_state(experiment, "clean", 10)
        self.assertEqual(found["end_reason"], "target-gone")
        with open("/proc/self/mountinfo") as f:
            self.assertNotIn("pgjolt-tls-cert", f.read())


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
