#!/usr/bin/python3
"""The probes against a real PostgreSQL: a primary and a standby on loopback ports."""
import collections
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_port  # noqa: E402

BUILD = os.environ.get("PGJOLT_BUILD", "build/release")
DRIVER = os.path.join(BUILD, "tests/system/probe-driver")
BIN = "/usr/lib/postgresql/15/bin"
MS = 1_000_000


class Server:
    def __init__(self, folder, name):
        self.name, self.port = name, free_port()
        self.data = os.path.join(folder, name)
        self.folder = folder

    def run(self, *args, within=()):
        subprocess.run([*within, "runuser", "-u", "postgres", "--", *args], check=True, cwd=self.folder,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)

    def configure(self, **settings):
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as f:
            for key, value in settings.items():
                f.write(f"{key} = '{value}'\n")

    def start(self):
        # An IPC namespace of its own: a postmaster that is killed leaves its shared memory there.
        self.run(f"{BIN}/pg_ctl", "-D", self.data, "-l", self.data + ".log", "-w", "start",
                 within=("unshare", "--ipc"))

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid")) as f:
            return int(f.readline())

    def tree(self):
        """The postmaster and all its children."""
        pid = self.pid()
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [pid, *map(int, f.read().split())]

    def signal_all(self, number):
        for pid in self.tree():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def stop(self):
        try:
            self.signal_all(signal.SIGCONT)
            self.run(f"{BIN}/pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        except (FileNotFoundError, subprocess.CalledProcessError):
            pass

    def sql(self, text, user="postgres", database="app"):
        done = subprocess.run(["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", user,
                               "-d", database, "-v", "ON_ERROR_STOP=1", "-c", text],
                              check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()


class Run:
    """One run of the driver."""
    count = 0

    def __init__(self, folder, conninfo, servers, *options, file_limit=None, again=None):
        Run.count += 1
        self.run = f"run-{os.getpid()}-{Run.count}"
        self.folder = os.path.join(folder, self.run)
        os.mkdir(self.folder)
        self.run = again or self.run

        def limits():
            if file_limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        places = [f"{s.name}=127.0.0.1:{s.port}" for s in servers]
        self.process = subprocess.Popen(
            [DRIVER, self.folder, self.run, conninfo, *options, *places], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limits)

    def started(self):
        line = self.process.stderr.readline()
        assert line == "started\n", line + self.process.stderr.read()
        return self

    def say(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self):
        self.say()
        assert self.process.stderr.readline() == "stopped\n"

    def check(self):
        self.say()
        return self.result()

    def result(self):
        out, errors = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, errors
        return json.loads(out)

    def finish(self):
        self.stop()
        return self.check()

    def ledger(self):
        with open(os.path.join(self.folder, "ledger")) as f:
            return [line.split() for line in f]


def select(result, client, **match):
    return [a for a in result["attempts"] if a["client"] == client and
            all(a[key] == value for key, value in match.items())]


def events(result, kind, value):
    return [e for e in result["events"] if e["kind"] == kind and e["value"] == value]


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class ProbeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pj-probe-")
        self.addCleanup(shutil.rmtree, self.folder)
        user = pwd.getpwnam("postgres")
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.a, self.b = Server(self.folder, "a"), Server(self.folder, "b")
        self.addCleanup(self.a.stop)
        self.addCleanup(self.b.stop)
        self.a.run(f"{BIN}/initdb", "-D", self.a.data, "-A", "trust", "--no-sync")
        self.a.configure(port=self.a.port, listen_addresses="127.0.0.1", log_statement="none", dynamic_shared_memory_type="mmap",
                         unix_socket_directories=self.folder, restart_after_crash="off")
        self.a.start()
        self.a.sql("CREATE ROLE app LOGIN", database="postgres")
        self.a.sql("CREATE DATABASE app OWNER app", database="postgres")
        self.b.run(f"{BIN}/pg_basebackup", "-D", self.b.data, "-h", "127.0.0.1", "-p",
                   str(self.a.port), "-R", "--no-sync", "-c", "fast")
        self.b.configure(port=self.b.port)
        self.b.start()
        self.runs = []
        self.addCleanup(self.end_runs)

    def end_runs(self):
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
            run.process.communicate()

    def start(self, conninfo="user=app dbname=app", *options, **more):
        run = Run(self.folder, conninfo, [self.a, self.b], *options, **more)
        self.runs.append(run)
        return run

    def test_quiet_cluster(self):
        run = self.start().started()
        time.sleep(3)
        r = run.finish()
        self.assertIsNone(r["error"])
        ledger = r["ledger"]
        self.assertTrue(ledger["done"])
        self.assertEqual((ledger["lost"], ledger["recovered"], ledger["unexpected"]), (0, 0, 0))
        self.assertEqual(ledger["unknown"], 0)
        self.assertEqual(ledger["found"], ledger["ok"])
        self.assertGreater(ledger["ok"], 100)
        for client in "write-clients", "write-clients-fresh", "write-a":
            ok = select(r, client, outcome="ok")
            self.assertGreater(len(ok), 10, client)
            self.assertEqual({(a["instance"], a["timeline"]) for a in ok}, {(0, 1)})
        # The readers' way prefers the standby, which refuses every write.
        self.assertEqual({a["instance"] for a in select(r, "read-clients", outcome="ok")}, {1})
        self.assertEqual({(a["outcome"], a["sqlstate"]) for a in select(r, "write-b")},
                         {("fail", "25006")})
        last = {o["instance"]: o for o in r["observations"]}
        self.assertFalse(last[0]["in_recovery"])
        self.assertTrue(last[1]["in_recovery"] and last[1]["streaming"] and last[1]["read_only"])
        self.assertEqual((last[0]["timeline"], last[1]["timeline"]), (1, 1))
        # The schema is gone.
        self.assertEqual(self.a.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'pgjolt'"), "0")
        self.check_ledger_file(run, r)

    def check_ledger_file(self, run, r):
        lines = run.ledger()
        self.assertEqual(lines[0][:3], ["pgjolt-ledger", "1", run.run])
        names = {f[1]: f[2] for f in lines if f[0] == "C"}
        tried, outcomes = set(), {}
        for f in lines:
            if f[0] == "A":
                self.assertNotIn((f[1], f[2]), tried)
                tried.add((f[1], f[2]))
            if f[0] == "O":
                self.assertIn((f[1], f[2]), tried)
                outcomes[names[f[1]], int(f[2])] = f[4]
        record = {(a["client"], a["sequence"]): a["outcome"] for a in r["attempts"]
                  if a["client"].startswith("write")}
        self.assertEqual(outcomes, record)
        self.assertEqual(lines[-1], ["E", str(len(tried)), str(len(outcomes))])

    def test_killed_and_promoted(self):
        run = self.start().started()
        time.sleep(1.5)
        killed = time.monotonic_ns()
        self.a.signal_all(signal.SIGKILL)
        time.sleep(1)
        promoted = time.monotonic_ns()
        self.b.run(f"{BIN}/pg_ctl", "-D", self.b.data, "-w", "promote")
        time.sleep(2)
        r = run.finish()
        self.assertIsNone(r["error"])
        # The end is seen within moments; what was under way is unknown, what came after has failed.
        first = min(a["sent_ns"] for a in select(r, "write-clients") if a["outcome"] != "ok")
        self.assertLess(abs(first - killed), 300 * MS)
        self.assertEqual({a["sqlstate"] for a in select(r, "write-clients-fresh", outcome="fail")}
                         - {"25006", "08001"}, set())
        for client in "write-clients", "write-clients-fresh", "write-b":
            later = [a for a in select(r, client, outcome="ok") if a["done_ns"] > promoted]
            self.assertGreater(len(later), 3, client)
            self.assertEqual({(a["instance"], a["timeline"]) for a in later}, {(1, 2)}, client)
        self.assertTrue(events(r, "reach", "fail"))
        role = events(r, "role", "primary")
        self.assertEqual([(e["instance"], e["timeline"]) for e in role], [(1, 2)])
        self.assertTrue(events(r, "writes", "fail") and events(r, "writes", "ok"))
        self.assertEqual(r["ledger"]["unexpected"], 0)
        self.assertEqual(r["ledger"]["found"], r["ledger"]["ok"] - r["ledger"]["lost"] +
                         r["ledger"]["recovered"])

    def test_frozen(self):
        run = self.start().started()
        time.sleep(1)
        frozen = time.monotonic_ns()
        self.a.signal_all(signal.SIGSTOP)
        time.sleep(5)
        self.a.signal_all(signal.SIGCONT)
        time.sleep(3)
        r = run.finish()
        self.assertIsNone(r["error"])
        unknown = [a for a in select(r, "write-clients", outcome="unknown")]
        self.assertEqual({a["sqlstate"] for a in unknown}, {"HYT00"})
        for a in unknown:
            self.assertGreater(a["done_ns"] - a["sent_ns"], 1900 * MS)
            self.assertLess(a["done_ns"] - a["sent_ns"], 4000 * MS)
        # Nothing answered the clients that came anew: not certain failures of a statement, but none was sent.
        stuck = [a for a in select(r, "write-clients-fresh", outcome="fail") if a["sent_ns"] > frozen]
        self.assertTrue(stuck)
        self.assertTrue(events(r, "writes", "fail") and events(r, "writes", "ok"))
        self.assertLess(events(r, "writes", "fail")[0]["at_ns"] - frozen, 1500 * MS)
        ledger = r["ledger"]
        self.assertEqual((ledger["lost"], ledger["unexpected"]), (0, 0))

    def test_no_synchronous_standby(self):
        run = self.start().started()
        time.sleep(1)
        self.a.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self.a.sql("SELECT pg_reload_conf()")
        time.sleep(9)
        backends = int(self.a.sql("SELECT count(*) FROM pg_stat_activity "
                                  "WHERE application_name ~ '^pgjolt '"))
        self.a.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.a.sql("SELECT pg_reload_conf()")
        time.sleep(2)
        r = run.finish()
        self.assertIsNone(r["error"])
        # Commits that waited in vain do not gather: about 20 a time limit would, and no end.
        self.assertLess(backends, 60)
        unknown = select(r, "write-clients-fresh", outcome="unknown")
        self.assertGreater(len(unknown), 20)
        self.assertEqual(select(r, "write-clients-fresh", outcome="fail"), [])
        self.assertEqual((r["ledger"]["lost"], r["ledger"]["unexpected"]), (0, 0))
        self.assertGreater(r["ledger"]["recovered"], 20)

    def test_wait_canceled(self):
        """A commit whose wait for the standby is canceled completes with a warning: unknown."""
        run = self.start().started()
        time.sleep(0.5)
        self.a.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self.a.sql("SELECT pg_reload_conf()")
        for _ in range(10):
            self.a.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            time.sleep(0.1)
        self.a.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.a.sql("SELECT pg_reload_conf()")
        time.sleep(0.5)
        r = run.finish()
        warned = [a for a in r["attempts"] if a["sqlstate"] == "01000"]
        self.assertTrue(warned)
        self.assertEqual({a["outcome"] for a in warned}, {"unknown"})

    def test_comparison(self):
        run = self.start().started()
        time.sleep(1)
        run.stop()
        self.a.sql(f"DELETE FROM pgjolt_probe.ledger WHERE run = '{run.run}' AND client = 0 "
                   "AND sequence BETWEEN 11 AND 17")
        self.a.sql(f"INSERT INTO pgjolt_probe.ledger VALUES ('{run.run}', 0, 999999), "
                   f"('{run.run}', 77, 1), ('another', 0, 1)")
        r = run.check()
        self.assertIsNone(r["error"])
        self.assertEqual((r["ledger"]["lost"], r["ledger"]["unexpected"]), (7, 2))
        # Another run's rows stay.
        self.assertEqual(self.a.sql("SELECT string_agg(run, ',') FROM pgjolt_probe.ledger"), "another")

    def test_black_hole_first(self):
        """The first host takes connections and says nothing: each new client waits it out, once."""
        with socket.socket() as hole:
            hole.bind(("127.0.0.1", 0))
            hole.listen(512)
            port = hole.getsockname()[1]
            run = self.start(f"user=app dbname=app host=127.0.0.1,127.0.0.1,127.0.0.1 "
                             f"port={port},{self.a.port},{self.b.port}").started()
            time.sleep(3.5)
            r = run.finish()
        self.assertIsNone(r["error"])
        took = [a["done_ns"] - a["sent_ns"] for a in select(r, "write-clients-fresh", outcome="ok")]
        self.assertGreater(len(took), 10)      # they do not wait for one another
        self.assertGreater(min(took), 950 * MS)
        self.assertLess(sorted(took)[len(took) // 2], 1900 * MS)
        self.assertEqual({a["instance"] for a in select(r, "write-clients-fresh", outcome="ok")}, {0})

    def test_names_and_service(self):
        """A service file, a password file and a host name."""
        self.a.sql("ALTER ROLE app PASSWORD 'not-for-logs'")
        with open(os.path.join(self.a.data, "pg_hba.conf"), "w") as f:
            f.write("host app app all scram-sha-256\nhost all postgres all trust\n")
        self.a.sql("SELECT pg_reload_conf()")
        service, passfile = (os.path.join(self.folder, n) for n in ("service", "passfile"))
        with open(service, "w") as f:
            f.write(f"[drill]\nhost=localhost\nport={self.a.port}\nuser=app\ndbname=app\n"
                    f"passfile={passfile}\n")
        with open(passfile, "w") as f:
            f.write("*:*:*:*:not-for-logs\n")
        os.chmod(passfile, 0o600)
        os.environ["PGSERVICEFILE"] = service
        self.addCleanup(os.environ.pop, "PGSERVICEFILE")
        run = self.start("service=drill", "clients-only").started()
        time.sleep(1)
        r = run.finish()
        self.assertIsNone(r["error"])
        self.assertGreater(r["ledger"]["ok"], 5)
        self.assertEqual({a["client"] for a in r["attempts"]},
                         {"write-clients", "write-clients-fresh", "read-clients", "read-clients-fresh"})
        self.assertEqual({a["instance"] for a in select(r, "write-clients")}, {0})
        with open(passfile, "w") as f:
            f.write("*:*:*:*:not-the-right-one\n")
        r = self.start("service=drill").result()
        self.assertIn("password authentication failed", r["error"])
        self.assertNotIn("not-the-right", r["error"])
        r = self.start("service=nowhere").result()
        self.assertIn("nowhere", r["error"])
        r = self.start("host=no-such-host.invalid dbname=app").result()
        self.assertIn("does not resolve", r["error"])

    def test_rights(self):
        self.a.sql("CREATE ROLE other LOGIN")
        r = self.start("user=other dbname=app").result()
        self.assertIn("needs CREATE on the database", r["error"])
        # With a table that an administrator made, it needs no more, and leaves it.
        self.a.sql("CREATE SCHEMA pgjolt_probe; CREATE TABLE pgjolt_probe.ledger (run text, client int, "
                   "sequence bigint, PRIMARY KEY (run, client, sequence)); "
                   "GRANT USAGE ON SCHEMA pgjolt_probe TO other")
        r = self.start("user=other dbname=app").result()
        self.assertIn("SELECT, INSERT, DELETE", r["error"])
        self.a.sql("GRANT SELECT, INSERT, DELETE ON pgjolt_probe.ledger TO other")
        run = self.start("user=other dbname=app").started()
        time.sleep(1)
        r = run.finish()
        self.assertIsNone(r["error"])
        self.assertGreater(r["ledger"]["ok"], 30)
        self.assertEqual(self.a.sql("SELECT count(*) FROM pgjolt_probe.ledger"), "0")

    def test_ledger_takes_no_more(self):
        run = self.start(file_limit=16384).started()
        time.sleep(3)
        r = run.finish()
        self.assertIn("ledger", r["failure"])
        self.assertIn("ledger", r["error"])
        # No write went out that the ledger does not know: probing stopped.
        last = max(a["sent_ns"] for a in r["attempts"])
        stopped = [e["at_ns"] for e in r["events"] if "probing stopped" in e["text"]]
        self.assertEqual(len(stopped), 1)
        self.assertLess(last - stopped[0], 100 * MS)

    def test_keep(self):
        run = self.start("user=app dbname=app", "keep").started()
        time.sleep(0.5)
        r = run.finish()
        self.assertEqual(self.a.sql("SELECT count(*) FROM pgjolt_probe.ledger"),
                         str(r["ledger"]["found"]))
        r = self.start(again=run.run).result()
        self.assertIn("already has rows of run " + run.run, r["error"])


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists(f"{BIN}/initdb"):
        print("needs root and PostgreSQL 15")
        sys.exit(77)
    unittest.main(verbosity=2)
