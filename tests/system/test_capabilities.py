#!/usr/bin/python3
"""The agent with less than it is given in Kubernetes: what then is off, and that it says why. The table in docs/security.md
is this one."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BINARY, Agent  # noqa: E402
from lib_postgres import Server  # noqa: E402

# As manifests/base/agent.yaml.
GIVEN = ["bpf", "chown", "dac_override", "dac_read_search", "fowner", "kill", "net_admin", "perfmon", "sys_admin", "sys_chroot",
         "sys_nice", "sys_ptrace"]
NEEDED = {
    "sys_admin": ["net-partition", "net-shape", "dns", "conn-reset", "tls-cert"],
    "net_admin": ["net-shape", "dns", "conn-reset"],
    "kill": ["proc-kill", "tls-cert"],
    "dac_override": ["cpu-throttle", "disk-throttle", "mem-stress", "disk-fill", "disk-stress"],
    "sys_chroot": ["tls-cert"],
    # SYS_ADMIN is enough where these are not (capabilities(7)); the rest is of use without a fault being lost.
    "bpf": [], "perfmon": [], "chown": [], "fowner": [], "dac_read_search": [], "sys_nice": [],
}
TUN = ["net-shape", "dns"]


def run(capabilities, before="", verb=("probe", "--json")):
    words = ",".join(["-all", *(f"+{c}" for c in capabilities)])
    return subprocess.run(["unshare", "--mount", "sh", "-c", f"{before} exec \"$@\"", "sh", "setpriv", "--bounding-set", words,
                           "--inh-caps", "-all", "--", BINARY, *verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, check=False)


def probe(capabilities, before=""):
    done = run(capabilities, before)
    assert done.returncode == 0, done.stderr
    return {s["fault"]: s for s in json.loads(done.stdout)}


def off(answers):
    return {name for name, s in answers.items() if not s["supported"]}


class Less(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = off(probe(GIVEN))

    def expect(self, answers, faults):
        """These are off besides what this node cannot do at all."""
        self.assertEqual(off(answers) - self.all, set(faults) - self.all, answers)
        for s in answers.values():
            if not s["supported"]:
                self.assertTrue(s["reason"], s)

    def test_given_is_enough(self):
        everything = {s["fault"] for s in json.loads(subprocess.run([BINARY, "probe", "--json"], stdout=subprocess.PIPE, check=True,
                                                                    timeout=120).stdout) if not s["supported"]}
        self.assertEqual(self.all, everything)

    def test_each_capability(self):
        for name, faults in NEEDED.items():
            with self.subTest(name):
                answers = probe([c for c in GIVEN if c != name])
                self.expect(answers, faults)
                for fault in set(faults) - self.all:
                    self.assertRegex(answers[fault]["reason"], "CAP_|not permitted|Permission denied")
                    said = answers[fault]["reason"].split("; ")
                    self.assertEqual(len(said), len(set(said)), said)

    def test_without_looking_there_is_no_agent(self):
        done = run([c for c in GIVEN if c != "sys_ptrace"])
        self.assertEqual((done.returncode, "CAP_SYS_PTRACE" in done.stderr), (3, True), done)
        done = run([c for c in GIVEN if not c.startswith("dac_")])
        self.assertEqual((done.returncode, "CAP_DAC_READ_SEARCH" in done.stderr), (3, True), done)

    def test_tun_missing(self):
        answers = probe(GIVEN, "mount -t tmpfs none /dev/net;")
        self.expect(answers, TUN)
        for fault in set(TUN) - self.all:
            self.assertIn("/dev/net/tun", answers[fault]["reason"])

    def test_tun_refused(self):
        """As by a runtime's device rules: the node is there, opening it is not allowed."""
        answers = probe(GIVEN, "mount -t tmpfs -o nodev none /dev/net; mknod /dev/net/tun c 10 200;")
        self.expect(answers, TUN)
        for fault in set(TUN) - self.all:
            self.assertIn("/dev/net/tun", answers[fault]["reason"])
            self.assertIn("Permission denied", answers[fault]["reason"])

    def test_an_instance_is_found_without_sys_admin(self):
        folder = tempfile.mkdtemp(prefix="pj-caps-")
        self.addCleanup(shutil.rmtree, folder)
        binary = os.path.join(folder, "agent")
        words = ",".join(["-all", *(f"+{c}" for c in GIVEN if c != "sys_admin")])
        with open(binary, "w", encoding="ascii") as f:
            f.write(f'#!/bin/sh\nexec setpriv --bounding-set {words} --inh-caps -all -- {BINARY} "$@"\n')
        os.chmod(binary, 0o755)
        server = Server("pgcaps", 25491)
        self.addCleanup(server.remove)
        server.start()
        agent = Agent.alone(binary=binary)
        self.addCleanup(agent.remove)
        found = agent.instance_of(server.postmaster)
        self.assertEqual((found["pgdata"], found["addresses"]), (server.data, []))
        experiment = agent.inject("proc-freeze", found["name"], {})
        self.assertEqual(agent.revert(experiment)["state"], "clean")


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        print("needs root and setpriv")
        sys.exit(77)
    unittest.main(verbosity=2)
