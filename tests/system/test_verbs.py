"""pgjolt's verbs as far as they need no cluster: help, lists, completion, man page, wrong usage."""
# labels: quick
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BUILD  # noqa: E402

PGJOLT = os.path.join(BUILD, "coordinator", "pgjolt")
VERBS = ("run", "inject", "drills", "faults", "nodes", "targets", "status", "stop", "report", "certs",
         "completion", "version")
FAULTS = {"net-partition", "net-shape", "proc-kill", "proc-freeze"}
DRILLS = {"partition-primary", "partition-primary-from-dcs", "partition-primary-from-apiserver",
          "partition-asymmetric", "kill-primary",
          "freeze-primary", "slow-replication", "lossy-network", "flap-primary", "isolate-replica",
          "cascade-primary-then-candidate"}


def pgjolt(*words, code=0, **kwargs):
    """What it says: stdout where it went well, else stderr."""
    r = subprocess.run([PGJOLT, *words], capture_output=True, text=True, timeout=60, **kwargs)
    assert r.returncode == code, f"{words}: {r.returncode}, not {code}\n{r.stdout}{r.stderr}"
    return r.stdout if code == 0 else r.stderr


def test_help():
    text = pgjolt("--help")
    for verb in VERBS:
        assert f"\n  {verb} " in text, verb
        page = pgjolt(verb, "--help")
        assert page.startswith(f"Usage: pgjolt {verb}"), page
        assert "--help" in page
    assert pgjolt("help") == text
    assert "Exit codes: 0 passed, 1 " in text
    assert "Usage: " in pgjolt(code=2)
    assert pgjolt("version").startswith("pgjolt ")
    assert pgjolt("--version") == pgjolt("version")
    assert json.loads(pgjolt("version", "--json"))["version"]


def test_faults():
    assert FAULTS <= set(pgjolt("faults", "--names").split())
    every = json.loads(pgjolt("faults", "--json"))
    assert FAULTS <= {f["name"] for f in every}
    for fault in FAULTS:
        assert pgjolt("faults", fault).startswith(fault)
        assert json.loads(pgjolt("faults", fault, "--json"))["name"] == fault
        assert pgjolt("faults", fault, "--format", "markdown").startswith("#")
    assert "--peers" in pgjolt("faults", "net-partition", "--names").split()
    assert "net-partition" in pgjolt("faults", "net-partitio", code=2)


def test_drills(folder):
    names = set(pgjolt("drills", "--names").split())
    assert DRILLS <= names
    every = json.loads(pgjolt("drills", "--json"))
    assert {d["drill"] for d in every} == names
    assert all(d["summary"] and d["expected_behaviour"] for d in every)
    for drill in names:
        text = pgjolt("drills", drill)
        path = os.path.join(folder, f"{drill}.yaml")
        with open(path, "w") as f:
            f.write(text)
        # The file is the drill, and so is its canonical form.
        plan = json.loads(pgjolt("drills", path, "--json"))["yaml"]
        with open(path, "w") as f:
            f.write(plan)
        assert json.loads(pgjolt("drills", path, "--json"))["yaml"] == plan
        assert pgjolt("drills", path) == plan
    assert "no built-in drill" in pgjolt("drills", "none", code=2)


def test_completion(folder):
    script = os.path.join(folder, "completion")
    with open(script, "w") as f:
        f.write(pgjolt("completion", "bash"))
    subprocess.run(["bash", "-n", script], check=True)

    def complete(*words, cwd=None):
        """What the shell would offer for the last word."""
        line = " ".join(f"'{w}'" for w in words)
        r = subprocess.run(["bash", "-c", f"""PATH={os.path.dirname(os.path.abspath(PGJOLT))}:$PATH
            . {script}; COMP_WORDS=(pgjolt {line}); COMP_CWORD={len(words)}
            _pgjolt; printf '%s\\n' "${{COMPREPLY[@]}}" """],
                           capture_output=True, text=True, check=True, timeout=20, cwd=cwd)
        assert not r.stderr, r.stderr
        return set(r.stdout.split())

    roots = {"help", "--help", "--version"}
    assert complete("") == set(VERBS) | roots
    assert complete("-") == {"--help", "--version"} and complete("re") == {"report"}
    for root in roots:
        pgjolt(root)
    # Every verb of the help, with every option of its own help, and no other.
    verbs = re.findall(r"^  ([a-z]+) ", pgjolt("--help"), re.M)
    assert set(verbs) == set(VERBS)
    for verb in verbs:
        page = pgjolt(verb, "--help")
        options = set(re.findall(r"^  (--[a-z-]+)", page, re.M))
        assert "--help" in options and complete(verb, "--") == options, verb
        # Where an option takes a value, what comes next is no verb's argument and no option.
        for option in re.findall(r"^  (--[a-z-]+) [A-Z]", page, re.M):
            assert not any(w.startswith("--") for w in complete(verb, option, "")), (verb, option)
        flags = options - set(re.findall(r"^  (--[a-z-]+) [A-Z]", page, re.M))
        assert complete(verb, sorted(flags)[0], "--") == options, verb
    assert complete("run", "partition-p") == {"partition-primary", "partition-primary-from-dcs",
                                              "partition-primary-from-apiserver"}
    assert FAULTS <= complete("inject", "")
    own = set(re.findall(r"^  (--[a-z-]+)", pgjolt("inject", "--help"), re.M))
    for fault in pgjolt("faults", "--names").split():
        assert complete("inject", fault, "--") == own | set(pgjolt("faults", fault, "--names").split()), fault
    assert complete("inject", "proc-freeze", "--mechanism", "c") == {"cgroup"}
    assert complete("inject", "net-shape", "--delay", "") == set()
    assert {"primary", "dcs"} <= complete("inject", "net-partition", "--peers", "")
    assert {"primary", "replicas"} <= complete("inject", "net-partition", "--target", "")
    assert {"patroni", "plain"} <= complete("run", "x", "--manager", "p")
    assert {"patroni", "plain"} <= complete("run", "x", "--manager", "=", "p")
    assert "patroni" in complete("run", "x", "--manager", "=")
    assert complete("faults", "--format", "") == {"text", "markdown"}
    assert complete("report", "--format", "j") == {"json", "junit"}
    assert complete("completion", "") == {"bash", "man"}
    os.makedirs(os.path.join(folder, "pgjolt-runs", "run-12345678"))
    assert complete("report", "run-1", cwd=folder) == {"run-12345678"}


def test_man(folder):
    page = os.path.join(folder, "pgjolt.1")
    with open(page, "w") as f:
        f.write(pgjolt("completion", "man"))
    if not shutil.which("groff"):
        return
    r = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", page], capture_output=True, text=True,
                       timeout=30, check=True)
    assert not r.stderr, r.stderr
    for verb in VERBS:
        assert f"pgjolt {verb}" in r.stdout, verb
    assert "could not revert" in r.stdout


def test_wrong_usage(folder):
    for words, said in (
            (("dance",), 'unknown verb "dance"'),
            (("run",), "give one drill"),
            (("run", "a", "b"), "give one drill"),
            (("run", "kill-primary", "--colour"), "unknown option --colour"),
            (("run", "kill-primary", "-x"), "unknown option -x"),
            (("run", "kill-primary", "--set"), "--set needs a value"),
            (("run", "kill-primary", "--set", "x"), "expected NAME=VALUE"),
            (("run", "kill-primary", "--set", "x=1"), "no such variable; it has: signal"),
            (("run", "kill-primary", "--seed", "-1"), "--seed"),
            (("run", "kill-primary", "--json=1"), "--json takes no value"),
            (("run", "no-such-drill"), "no built-in drill"),
            (("run", "./none.yaml"), "./none.yaml"),
            (("inject",), "give one fault"),
            (("inject", "--target", "primary", "net-partition"), "the fault comes first"),
            (("inject", "net-partition", "--for", "1s"), "--target is missing"),
            (("inject", "net-partition", "--target", "primary"), "--for says how long"),
            (("inject", "net-partition", "--target", "primary", "--for", "5"), "--for"),
            (("inject", "net-partitio", "--target", "primary", "--for", "1s"), "net-partitio"),
            (("inject", "net-partition", "--target", "primary", "--for", "1s", "--loss", "1"),
             "unknown option --loss"),
            (("version", "foo"), "unexpected \"foo\""),
            (("nodes", "foo"), "unexpected \"foo\""),
            (("stop",), "give the ids of experiments, or --all"),
            (("stop", "--all", "x"), "give the ids of experiments, or --all"),
            (("stop", "--unlock", "--all"), "or --unlock"),
            (("stop", "--lock", "why", "x"), "--lock goes with --all"),
            (("certs", "--days", "0"), "--days: 1 to 3650"),
            (("certs", "x"), 'unexpected "x"'),
            (("faults", "a", "b"), "one fault at a time"),
            (("faults", "--values", "mechanism"), "--values goes with one fault"),
            (("faults", "net-shape", "--values", "x"), "net-shape has no such parameter"),
            (("faults", "net-shape", "--format", "pdf"), "text or markdown"),
            (("targets", "x"), 'unexpected "x"'),
            (("completion", "fish"), "bash, man"),
            (("nodes", "--agent", "agent.sock"), "neither a socket's absolute path nor https://")):
        text = pgjolt(*words, code=2)
        assert said in text, f"{words}: {text}"
    drill = os.path.join(folder, "wrong.yaml")
    with open(drill, "w") as f:
        f.write("drill: x\nsummary: y\nsteps:\n  - wait: soon\n")
    assert f"{drill}:4:11: wait: \"soon\": expected" in pgjolt("run", drill, "--dry-run", code=2)


def test_absent_agent(folder):
    """Nothing was begun: refused."""
    absent = os.path.join(folder, "none.sock")
    for verb in ("nodes", "targets", "status"):
        text = pgjolt(verb, "--agent", absent, code=3)
        assert absent in text and "No such file" in text and "localhost" not in text, text
    assert absent in pgjolt("stop", "--all", "--agent", absent, code=3)
    assert absent in pgjolt("run", "kill-primary", "--agent", absent, code=3)
    long = "/" + "x" * 200
    assert "too long" in pgjolt("nodes", "--agent", long, code=2)


def main():
    if not os.path.exists(PGJOLT):
        print(f"{PGJOLT} is not there")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory(prefix="pgjolt-verbs-") as folder:
        for name, test in sorted(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test(folder) if test.__code__.co_argcount else test()
                print(f"ok: {name}", flush=True)
            except Exception:  # noqa: B902 - each test is told on its own
                failed += 1
                print(f"FAILED: {name}\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
