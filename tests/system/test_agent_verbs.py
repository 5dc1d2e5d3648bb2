#!/usr/bin/python3
"""pgjolt-agent's command line: every option's bad values, each verb's help, probe, and revert-all on journals that are no good."""
# labels: quick
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BINARY, Agent, scratch  # noqa: E402

VERBS = ("serve", "probe", "revert-all", "version")
TLS = ("--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a")


def agent(*words, code=0, **more):
    """stdout where it went well, else stderr."""
    r = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60, check=False, **more)
    assert r.returncode == code, f"{words}: {r.returncode}, not {code}\n{r.stdout}{r.stderr}"
    return r.stdout if code == 0 else r.stderr


def options_of(verb):
    """Name and whether it takes a value, by the verb's own help."""
    return dict(re.findall(r"^  --([a-z-]+)( [A-Z|]\S*)?", agent(verb, "--help"), re.M))


class Usage(unittest.TestCase):
    def refused(self, words, *said):
        """Should it be taken after all, it ends soon, beside what is this node's."""
        if words and words[0] == "serve":
            words = ("serve", "--socket", "/proc/none/socket", "--journal", "/proc/none/journal", *words[1:])
        text = agent(*words, code=2)
        self.assertEqual(text.splitlines()[1:], ["Try 'pgjolt-agent --help'."], text)
        for part in said:
            self.assertIn(part, text, words)

    def test_help(self):
        text = agent("--help")
        self.assertEqual(agent("-h"), text)
        for verb in VERBS:
            self.assertIn(f"\n  {verb} ", text)
            page = agent(verb, "--help")
            self.assertTrue(page.startswith(f"Usage: pgjolt-agent {verb}"), page)
            # Whatever else was given, and root or not.
            self.assertEqual(agent(verb, "-h"), page)
        page = agent("serve", "--help")
        self.assertEqual(agent("serve", "--listen", "x", "--help"), page)
        self.assertEqual(agent("serve", "--help", "--authorize", "kubernetes"), page)
        self.assertEqual(agent("serve", "--help", user=65534), page)
        self.assertEqual(agent("version"), agent("--version"))
        self.assertRegex(agent("version"), r"^pgjolt-agent \d+\.\d+\.\d+\n$")
        self.assertIn("tls-key", options_of("serve"))

    def test_verbs(self):
        self.refused((), "a verb is missing: serve, probe, revert-all or version")
        for word in ("dance", "", "Serve", "--json", "-"):
            self.refused((word,), f"'{word}': expected serve, probe, revert-all or version")

    def test_options_by_verb(self):
        every = options_of("serve") | options_of("probe") | options_of("revert-all")
        self.assertGreater(len(every), 25)
        for verb in VERBS:
            own = options_of(verb)
            self.assertIn("help", own)
            for option, value in every.items():
                if option not in own:
                    self.refused((verb, f"--{option}", "1"), f"'--{option}' is no option of {verb}")
                elif value:
                    self.refused((verb, f"--{option}"), f"--{option} needs a value")
                elif option != "help":
                    self.refused((verb, f"--{option}=1"), f"'--{option}=1': this option takes no value")
        for words, said in ((("-x",), "'-x' is no option of serve"), (("-xy",), "'-x' is no option"), (("-hx",), "'-x' is no option"),
                            (("--colour=no",), "'--colour=no' is no option"), (("x",), "'x': serve takes no argument"),
                            (("--", "--json"), "'--json': serve takes no argument"), (("-",), "'-': serve takes no argument")):
            self.refused(("serve", *words), said)

    def test_values(self):
        """What was given, and what may be."""
        for option, value, *said in (
                ("max-duration", "0s", "at least 1ms"), ("max-duration", "999us", "at least 1ms"),
                ("max-duration", "1h30", '"1h30"', "such as 20ms"), ("max-duration", "-5s", '"-5s"'),
                ("max-duration", "99999999999999999999s", "9999"),
                ("max-concurrent", "0", "0", "1000"), ("max-concurrent", "1001", "1001", "1000"), ("max-concurrent", "4x", "4x"),
                ("max-instances", "0", "0", "1000"), ("max-instances", "-1", "-1"),
                ("max-share", "101%", '"101%" is above 100%'), ("max-share", "half", '"half"', "12.5%"), ("max-share", "-1%", "-1%"),
                ("allow-fault", "net-partitio", '"net-partitio"; did you mean "net-partition"?'),
                ("allow-fault", "fire", '"fire"', "pgjolt faults"),
                ("log-level", "loud", "'loud'", "error, warning, info or debug"),
                ("owner-pid", "1", "1", "4194304"), ("owner-pid", "me", "me"), ("owner-pid", "99999999", "99999999"),
                ("ready-fd", "2", "2", "3"), ("ready-fd", "65536", "65535"), ("ready-fd", "999", "descriptor 999: Bad file descriptor"),
                ("halt-at", "proc-kill", "'proc-kill'", "FAULT:POINT or *:POINT"), ("halt-at", ":x", "FAULT:POINT"),
                ("halt-at", "proc-kill:", "FAULT:POINT"), ("halt-at", "proc-kil:x", '"proc-kil"'), ("halt-at", "y" * 100 + ":x", "yyyy"),
                ("authorize", "password", "'password'", "certificate or kubernetes"),
                ("authorize-cache", "999ms", "'999ms'", "1s to 1h"), ("authorize-cache", "3601s", "'3601s'", "1s to 1h"),
                ("authorize-cache", "long", '"long"'), ("require-label", "maybe", "'maybe'", "yes or no"),
                *(("stop-configmap", v, f"'{v}'", "NAMESPACE/NAME or none")
                  for v in ("x", "/x", "x/", "A/b", "a/B", "a/b/c", "a b/c", "a/b?c"))):
            self.refused(("serve", f"--{option}", value), f"--{option}: ", *said)
        for option in ("socket", "journal", "node-name", "listen", "tls-cert", "tls-key", "tls-ca", "tls-allow", "tls-allow-metrics",
                       "allow-target", "kubeconfig", "namespace", "token-audience"):
            self.refused(("serve", f"--{option}", ""), f"--{option}: must not be empty")

    def test_together(self):
        listen = ("--listen", "127.0.0.1:1")
        self.refused(("serve", *listen), "--listen needs --tls-cert, --tls-key and --tls-ca")
        for i in range(0, 6, 2):
            self.refused(("serve", *listen, *TLS[:i], *TLS[i + 2:]), "there is no TCP without TLS")
            self.refused(("serve", *TLS[i:i + 2]), "of no use without --listen")
        for option in ("--tls-allow", "--tls-allow-metrics"):
            self.refused(("serve", option, "x"), "of no use without --listen")
        self.refused(("serve", *listen, *TLS, "--tls-allow", "x", "--tls-allow-metrics", "y", "--tls-allow-metrics", "x"),
                     "'x' is named by --tls-allow and by --tls-allow-metrics")
        self.refused(("serve", "--authorize", "kubernetes"), "--authorize kubernetes is of no use without --listen")
        self.refused(("serve", *listen, *TLS, "--token-audience", "x"), "--token-audience is of no use without --authorize")

    def test_not_root(self):
        for verb in VERBS[:3]:
            self.assertIn("must run as root (this is user 65534)", agent(verb, code=3, user=65534))


class Probe(unittest.TestCase):
    def test_text_and_json(self):
        """The same, without an agent that runs; columns are in line."""
        answers = json.loads(agent("probe", "--json"))
        head, *lines = agent("probe").splitlines()
        self.assertEqual([line.split()[0] for line in lines], [a["fault"] for a in answers])
        self.assertEqual([line.split()[1] == "yes" for line in lines], [a["supported"] for a in answers])
        reasons = [(line, a["reason"]) for line, a in zip(lines, answers) if a["reason"]]
        for line, reason in reasons:
            self.assertEqual(line[head.index("REASON"):], reason)
        for a in answers:
            self.assertTrue(a["mechanism"] if a["supported"] else a["reason"], a)
        older = {a["fault"]: a for a in json.loads(agent("probe", "--json", "--without-tcx", "--node-name", "x"))}
        self.assertNotIn("tcx", older["net-partition"]["mechanism"] or "")


class RevertAll(unittest.TestCase):
    def setUp(self):
        where = scratch("agent-verbs")
        self.folder = where.__enter__()
        self.addCleanup(where.__exit__, None, None, None)
        self.journal = os.path.join(self.folder, "journal")

    def revert(self, *words, code=0):
        return agent("revert-all", "--journal", self.journal, *words, code=code)

    def put(self, name, content):
        os.makedirs(self.journal, 0o700, exist_ok=True)
        with open(os.path.join(self.journal, name), "wb") as f:
            f.write(content)

    def names(self):
        return sorted(n for n in os.listdir(self.journal) if ".json" in n)

    def test_nothing_there(self):
        """The first call makes the folder, for root alone; the next finds it."""
        for _ in range(2):
            self.assertEqual(self.revert(), "")
            self.assertEqual(os.stat(self.journal).st_mode & 0o777, 0o700)

    def test_damaged_entries(self):
        """Each is kept until somebody says that it may go."""
        good = {"experiment": "good", "run": "r", "fault": "proc-freeze", "instance": "a/b", "pid": 7, "start_ticks": 1,
                "boot_id": "of-an-earlier-boot", "written_realtime_ns": 1, "undo": {}}
        bad = {"empty": b"", "cut": json.dumps(good).encode()[:60], "array": b"[]", "deep": b"[" * 50000, "binary": bytes(range(256)),
               "other": json.dumps({**good, "experiment": "somebody-else"}).encode(),
               "pid": json.dumps({**good, "experiment": "pid", "pid": [7]}).encode()}
        for name, content in bad.items():
            self.put(f"{name}.json", content)
        self.put("good.json", json.dumps(good).encode())
        for _ in range(2):
            text = self.revert(code=5)
            self.assertIn(f"{len(bad)} broken journal entries are kept in {self.journal} (*.bad)", text)
            self.assertIn("pgjolt-agent revert-all --discard-bad", text)
            self.assertEqual(self.names(), sorted(f"{name}.json.bad" for name in bad))
        # A node takes no new fault meanwhile.
        with Agent(self.folder) as running:
            self.assertFalse(running.node()["accepting"])
            self.assertIn(f"pid {running.pid}", self.revert("--discard-bad", code=3))
            self.assertIn("pgjolt stop --all", self.revert(code=3))
        self.assertIn(f"{len(bad)} broken entries discarded\n", self.revert("--discard-bad"))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.revert("--discard-bad"), "0 broken entries discarded\n")

    def test_no_journal_of_ours(self):
        self.put("x", b"")
        os.chmod(self.journal, 0o777)
        self.assertIn(self.journal, self.revert(code=3))
        os.chmod(self.journal, 0o700)
        os.chown(self.journal, 65534, 65534)
        self.assertIn(self.journal, self.revert(code=3))
        shutil.rmtree(self.journal)
        with open(self.journal, "w", encoding="ascii"):
            pass
        self.assertIn(self.journal, self.revert(code=1))
        self.journal = os.path.join(self.journal, "below-a-file")
        self.assertIn(self.journal, self.revert(code=1))


class Serve(unittest.TestCase):
    def test_what_it_was_given(self):
        with tempfile.TemporaryDirectory(prefix="pgjolt-agent-verbs-") as folder:
            for words, said in ((("--listen", "127.0.0.1:1", *TLS), "TLS certificate: open c"), (("--socket", "/" + "x" * 200), "xxx"),
                                (("--kubernetes", "--kubeconfig", f"{folder}/none", "--namespace", "n", "--listen", "127.0.0.1:1",
                                  *TLS, "--tls-allow", "x", "--authorize", "kubernetes", "--authorize-cache", "5s",
                                  "--token-audience", "x", "--require-label", "yes", "--stop-configmap", "a/b-c.d",
                                  "--halt-at", "proc-kill:x"), "none"), (("--stop-configmap", "a/b"), "KUBERNETES_SERVICE_HOST"), (("--owner-pid", "4194304"), "4194304")):
                text = agent("serve", "--socket", f"{folder}/s", "--journal", f"{folder}/j", *words, code=1)
                self.assertIn(said, text)
                self.assertTrue(text.splitlines()[-1].startswith("pgjolt-agent: "), text)
            self.assertEqual([n for n in os.listdir(folder) if n != "j"], [])

    def test_options_that_hold(self):
        with scratch("agent-verbs") as folder, Agent(
                folder, "--node-name", "some-node", "--max-duration", "1500ms", "--max-concurrent", "3", "--max-instances", "2",
                "--max-share", "50%", "--allow-fault", "proc-kill", "--allow-fault", "dns", "--allow-target", "shop*", "--log-level",
                "debug", "--owner-pid", str(os.getpid()), "--without-tcx") as running:
            self.assertEqual(running.node()["name"], "some-node")
            status, answer = running.request("POST", "/v1/experiments", {
                "experiment": "x", "run": "r", "fault": "proc-freeze", "instance": "shop/a", "params": {}, "duration_ms": 1000,
                "lease_ms": 1000})
            self.assertEqual(status, 403, answer)
            self.assertIn("proc-freeze", answer["error"]["message"])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2)
