"""Drills on real clusters, end to end: one synchronous lab, then one asynchronous lab.

The test runs in a mount namespace of its own with its own /run/pgjolt and journal, so that neither agents nor runs of
others on this machine meet these."""
import base64
import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BUILD, process_state, wait_until  # noqa: E402
from harness.target import cgroup_root  # noqa: E402

SOURCE = os.environ.get("PGJOLT_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PGJOLT = os.path.abspath(os.path.join(BUILD, "coordinator", "pgjolt"))
AGENT = os.path.abspath(os.path.join(BUILD, "agent", "pgjolt-agent"))
LAB = os.path.join(SOURCE, "tools", "lab")
NAME = f"rt{os.getpid() % 100000}"
JOURNAL = "/var/lib/pgjolt/journal"
REPORT_KEYS = {
    "run", "drill", "cluster", "verdict", "milestones_ms", "ttd_ms", "write_ttr_ms", "read_ttr_ms",
    "full_ttr_ms", "write_downtime_ms", "read_downtime_ms", "resolution_ms", "ledger", "split_brain",
    "faults", "expectations", "events"}


def say(text):
    print(text, flush=True)


# ---- the lab ----

def lab(*words, check=True):
    r = subprocess.run([LAB, *words], capture_output=True, text=True, timeout=120)
    assert not check or r.returncode == 0, f"lab {words}: {r.returncode}\n{r.stdout}{r.stderr}"
    return r.stdout


@contextlib.contextmanager
def a_lab(*options):
    lab("up", *options)
    exports = subprocess.run(["bash", "-c", f'eval "$({LAB} env)" && printf "%s\\n" "$PGSERVICEFILE" "$PGSERVICE"'],
                             check=True, capture_output=True, text=True).stdout.split()
    os.environ["PGSERVICEFILE"], os.environ["PGSERVICE"] = exports
    try:
        yield
    finally:
        lab("down")


def members():
    return {m["name"]: m for m in json.loads(lab("status", "--json"))["members"]}


def primary():
    return next(m for m in members().values() if m["role"] == "primary")


def a_replica():
    return next(m for m in members().values() if m["role"] == "replica" and not m["sync"])


def all_stream():
    """Ready for the next drill."""
    def ready():
        found = list(members().values())
        return (sum(m["role"] == "primary" for m in found) == 1 and
                all(m["role"] == "primary" or m["state"] == "streaming" for m in found))
    assert wait_until(ready, 60, 0.5), members()


def psql(sql, host=None):
    where = [f"host={host}"] if host else ["target_session_attrs=read-write"]
    r = subprocess.run(["psql", "-XAtq", " ".join(where), "-c", sql], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def pings(ip, limit_ms=300):
    return subprocess.run(["ping", "-n", "-c1", "-W", str(limit_ms / 1000), ip], stdout=subprocess.DEVNULL,
                          check=False).returncode == 0


# ---- pgjolt ----

def pgjolt(*words, code=0, timeout=150):
    r = subprocess.run([PGJOLT, *words], capture_output=True, text=True, timeout=timeout)
    assert r.returncode == code, f"{words}: {r.returncode}, not {code}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout if code == 0 else r.stdout + r.stderr


@contextlib.contextmanager
def under_way(*words):
    """A pgjolt in the background; its output is a pipe. Ended at the end."""
    p = subprocess.Popen([PGJOLT, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield p
    finally:
        if p.poll() is None:
            p.kill()
        p.communicate()


def read_until(p, text, seconds=60):
    """All lines up to the one with text in it."""
    seen = []
    timer = threading.Timer(seconds, p.kill)
    timer.start()
    for line in p.stdout:
        seen.append(line)
        if text in line:
            timer.cancel()
            return "".join(seen)
    timer.cancel()
    raise AssertionError(f"no \"{text}\" in:\n{''.join(seen)}")


def agent_pid():
    """Of the agent that a pgjolt of ours started: known by its socket's namespace, ours."""
    mine = os.readlink("/proc/self/ns/mnt")
    for path in glob.glob("/proc/[0-9]*/exe"):
        pid = int(path.split("/")[2])
        try:
            if os.readlink(path) == AGENT and os.readlink(f"/proc/{pid}/ns/mnt") == mine and \
                    process_state(pid) != "Z":
                return pid
        except OSError:
            continue
    return None


def clean():
    """No agent, no journal, everybody answers."""
    assert wait_until(lambda: agent_pid() is None, 10), "an agent is left"
    assert not glob.glob(f"{JOURNAL}/*.json*"), os.listdir(JOURNAL)
    for m in members().values():
        assert wait_until(lambda ip=m["ip"]: pings(ip), 3), f"{m['name']} does not answer"


def drill(folder, name, text):
    path = os.path.join(folder, f"{name}.yaml")
    with open(path, "w") as f:
        f.write(f"drill: {name}\nsummary: of a test\nsteadyState: {{for: 300ms}}\n{text}")
    return path


def report_of(out):
    with open(f"{out}/report.json") as f:
        report = json.load(f)
    assert REPORT_KEYS <= set(report), REPORT_KEYS - set(report)
    with open(f"{out}/events.jsonl") as f:
        events = [json.loads(line) for line in f]
    assert events and all({"at_ms", "kind", "text"} <= set(e) for e in events)
    assert len(events) == len(report["events"])
    for name in ("plan.yaml", "ledger", "report.html"):
        assert os.path.getsize(f"{out}/{name}") > 0, name
    return report


def ledger_of(out):
    """By outcome, the keys (client, sequence) of writes that have it; read without pgjolt."""
    clients, outcome, sent = {}, {}, set()
    with open(f"{out}/ledger") as f:
        run = f.readline().split()[2]
        for line in f:
            w = line.split()
            if w[0] == "C":
                clients[w[1]] = w[2]
            elif w[0] == "A":
                sent.add((w[1], w[2]))
            elif w[0] == "O":
                outcome[w[1], w[2]] = w[4]
    found = {"OK": set(), "FAIL": set(), "UNKNOWN": set()}
    for key in sent | set(outcome):
        if clients[key[0]].startswith("write"):
            found[outcome.get(key, "UNKNOWN").upper()].add(key)
    return run, found


# ---- on the synchronous lab ----

def test_01_verbs(_):
    targets = json.loads(pgjolt("targets", "--json"))
    ours = {t["name"]: t for t in targets if t["cluster"] == NAME}
    assert set(ours) == {f"{NAME}/{m}" for m in members()}, set(ours)
    for t in ours.values():
        assert {"name", "cluster", "role", "pid", "pgdata", "netns", "port", "node"} <= set(t)
        m = members()[t["name"].split("/")[1]]
        assert t["pid"] == m["pid"] and t["port"] == 5432
        assert (t["role"] == "primary") == (m["role"] == "primary")
        assert t["netns"] == os.stat(f"/proc/{t['pid']}/ns/net").st_ino
    assert set(ours) <= set(pgjolt("targets", "--names").split())
    assert f"{NAME}/pg1" in pgjolt("targets")
    nodes = json.loads(pgjolt("nodes", "--json"))
    assert len(nodes) == 1
    faults = {c["fault"]: c for c in nodes[0]["capabilities"]}
    assert {"net-partition", "net-shape", "proc-kill", "proc-freeze"} <= set(faults)
    assert all({"supported", "mechanism", "reason"} <= set(c) for c in faults.values())
    assert faults["net-partition"]["supported"] and "net-partition" in pgjolt("nodes")
    # No agent, no experiment.
    assert json.loads(pgjolt("status", "--json")) == []
    assert json.loads(pgjolt("stop", "--all", "--json")) == {"left": 0, "unknown": 0, "agents": []}
    assert "no agent answers" in pgjolt("stop", "x-1", code=3)


def test_02_no_rights(_):
    def as_nobody(*words):
        return subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", PGJOLT, *words],
                              capture_output=True, text=True, timeout=30)
    if as_nobody("version").returncode:
        say("    (nobody cannot reach the build; left out)")
        return
    r = as_nobody("targets")
    assert r.returncode == 3 and "run as root" in r.stderr, r
    with under_way("inject", "net-partition", "--target", f"{NAME}/pg1", "--for", "20s", "--peers", "10.9.9.9") as p:
        read_until(p, "fired")
        for words in (("targets",), ("status",), ("stop", "--all"), ("run", "kill-primary")):
            r = as_nobody(*words)
            assert r.returncode == 3 and "run as root" in r.stderr, (words, r)
        p.send_signal(signal.SIGINT)
        assert p.wait(10) == 0


def test_03_dry_run(folder):
    out = os.path.join(folder, "dry")
    lead = primary()
    looks = set(glob.glob("/run/pgjolt-look-*"))
    stale = f"/run/pgjolt-look-{os.getpid()}"           # of one that was killed
    os.mkdir(stale)
    os.utime(stale, (0, 0))
    text = pgjolt("run", "partition-primary", "--cluster", NAME, "--dry-run", "--out", out)
    assert f"on {NAME}/{lead['name']} (primary, pid {lead['pid']}" in text and "peer all=all" in text, text
    # Nothing in it may read as if it had been done.
    assert text.startswith("Dry run: nothing has been done, and nothing will be.") and "would revert every fault" in text
    assert not re.search(r"\b(is|are|was|were) (reverted|fired|injected|armed|waited)\b", text), text
    plan = json.loads(pgjolt("run", "partition-primary-from-dcs", "--cluster", NAME, "--dry-run", "--json"))
    step = plan["steps"][0]
    assert step["targets"][0]["instance"] == f"{NAME}/{lead['name']}"
    assert step["targets"][0]["peers"] == ["dcs=all:2379-2379"], step
    text = pgjolt("inject", "net-shape", "--target", "replicas", "--cluster", NAME, "--for", "5s", "--peers",
                  "primary", "--delay", "5ms", "--dry-run")
    assert text.count(f"peer primary={lead['ip']}") == 2, text
    assert not os.path.exists(out) and not os.path.exists("pgjolt-runs")
    assert psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgjolt_probe'") == "0"
    assert "no cluster \"none\"" in pgjolt("run", "kill-primary", "--cluster", "none", "--dry-run", code=2)
    bad = drill(folder, "bad", "steps:\n  - inject: net-partition\n    target: primary\n    for: 1s\n"
                               "    params: {peers: primary}\n")
    assert f"{bad}:5:5: peer \"primary\": that is the target itself" in \
        pgjolt("run", bad, "--cluster", NAME, "--dry-run", code=2)
    assert wait_until(lambda: not set(glob.glob("/run/pgjolt-look-*")) - looks, 20), "what looks leaves a folder"
    clean()


def test_04_inject(_):
    replica, lead = a_replica(), primary()
    words = ("inject", "net-partition", "--target", f"{NAME}/{replica['name']}", "--for", "30s", "--peers", "clients")
    with under_way(*words) as p:
        read_until(p, "fired")
        assert not pings(replica["ip"]), "the cut is not felt"
        assert pings(lead["ip"]), "a bystander is cut off"
        assert psql("SELECT 1", lead["ip"]) == "1"
        (e,) = json.loads(pgjolt("status", "--json"))
        assert {"experiment", "fault", "instance", "state", "remaining_ms", "hits"} <= set(e)
        assert e["state"] == "active" and e["instance"] == f"{NAME}/{replica['name']}" and e["hits"] > 0, e
        assert 0 < e["remaining_ms"] <= 30000
        assert e["experiment"] in pgjolt("status")
        assert "another injection is under way here" in pgjolt("run", "kill-primary", "--cluster", NAME, code=3)
        p.send_signal(signal.SIGINT)
        p.send_signal(signal.SIGINT)
        assert p.wait(10) == 0, p.stdout.read()
        assert pings(replica["ip"])
        rest = p.stdout.read()
        assert "interrupted" in rest and "verified clean" in rest, rest
    assert not os.path.exists(f"/run/pgjolt/run-{NAME}.lock"), "its lock's file stays"
    clean()
    # Ended by somebody else, by its id.
    with under_way(*words, "--json") as p:
        assert wait_until(lambda: not pings(replica["ip"], 100), 10), "not cut"
        (e,) = json.loads(pgjolt("status", "--json"))
        assert "no agent knows" in pgjolt("stop", "inject-none", code=2)
        pgjolt("stop", e["experiment"])
        assert pings(replica["ip"])
        out, _ = p.communicate(timeout=10)
        assert p.returncode == 0, out
        (f,) = json.loads(out)
        assert f["experiment"] == e["experiment"] and f["verified_clean"] and f["hits"] > 0 and f["fire_us"] > 0, f
    for peers, words in (("lab/none", "no instance"), ("slaves", "not an address"),
                         ("apiserver", "no Kubernetes here")):
        assert words in pgjolt("inject", "net-partition", "--target", "primary", "--cluster", NAME, "--for", "5s",
                               "--peers", peers, code=2)
    clean()


def test_05_coordinator_killed(_):
    replica = a_replica()
    with under_way("inject", "net-partition", "--target", f"{NAME}/{replica['name']}", "--for", "60s", "--peers",
                   "clients") as p:
        read_until(p, "fired")
        assert not pings(replica["ip"])
        p.kill()
        p.wait()
        # Its own agent leaves with it; one that was there before would wait for the lease's end.
        assert wait_until(lambda: pings(replica["ip"], 100), 8), "still cut off"
    clean()


def test_06_lease(folder):
    replica = a_replica()
    agent = subprocess.Popen([AGENT, "serve", "--log-level", "warning"], stdin=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: os.path.exists("/run/pgjolt/agent.sock"), 10)
        with under_way("inject", "net-partition", "--target", f"{NAME}/{replica['name']}", "--for", "60s", "--peers",
                       "clients") as p:
            read_until(p, "fired")
            p.kill()
            p.wait()
            assert not pings(replica["ip"])
            start = time.monotonic()
            assert wait_until(lambda: pings(replica["ip"], 100), 12), "still cut off"
            assert time.monotonic() - start < 10
        (e,) = json.loads(pgjolt("status", "--all", "--json"))
        assert e["state"] == "clean" and e["end_reason"] == "lease", e
    finally:
        agent.terminate()
        assert agent.wait(10) == 0
    clean()


def is_pending(pid, number):
    """Has the signal not been taken yet? proc(5)"""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return int(re.search(r"^ShdPnd:\s*(\w+)", f.read(), re.M)[1], 16) >> (number - 1) & 1


def test_06_interrupted_while_arming(folder):
    """The agent stands still while it arms; what is told to stop by then must not be fired any more."""
    path = drill(folder, "arming", HARMLESS + "  - wait: 60s\n")
    for words in (("inject", "conn-reset", "--target", f"{NAME}/{a_replica()['name']}", "--for", "30s"),
                  ("run", path, "--cluster", NAME, "--out", os.path.join(folder, "arming"))):
        agent = subprocess.Popen([AGENT, "serve", "--log-level", "warning", "--halt-at", "*:armed"],
                                 stdin=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: os.path.exists("/run/pgjolt/agent.sock"), 10)
            with under_way(*words) as p:
                assert wait_until(lambda: process_state(agent.pid) == "T", 60)
                p.send_signal(signal.SIGINT)
                assert wait_until(lambda: not is_pending(p.pid, signal.SIGINT), 20)
                agent.send_signal(signal.SIGCONT)
                rest, _ = p.communicate(timeout=60)
            assert p.returncode == 4 and "aborting: interrupted" in rest and " armed " in rest, rest
            assert " fired in " not in rest, rest
        finally:
            agent.send_signal(signal.SIGCONT)
            agent.terminate()
            assert agent.wait(20) == 0
        clean()


def test_07_partition_primary(folder):
    """The drill that all of this is for."""
    out = os.path.join(folder, "pp")
    lead, bystander = primary(), a_replica()
    missed, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.2):
            if not pings(bystander["ip"], 900):
                missed.append(time.monotonic())
    watcher = threading.Thread(target=watch)
    with under_way("run", "partition-primary", "--cluster", NAME, "--out", out) as p:
        watcher.start()
        try:
            read_until(p, "fired")
            assert not pings(lead["ip"]), "the primary still answers"
            text = pgjolt("run", "kill-primary", "--cluster", NAME, code=3)
            assert f"another run is under way here (pid {p.pid})" in text and NAME in text, text
            text = pgjolt("inject", "net-shape", "--target", f"{NAME}/{bystander['name']}", "--for", "1s", "--delay",
                          "1ms", code=3)
            assert f"another run is under way here (pid {p.pid})" in text, text
            rest, _ = p.communicate(timeout=200)
        finally:
            stop.set()
            watcher.join()
        assert p.returncode == 0, rest
        assert "PASSED" in rest and f"{out}/report.html" in rest, rest
    assert not missed, "a bystander was cut off"
    report = report_of(out)
    assert report["verdict"] == "passed" and report["cluster"] == NAME and report["drill"] == "partition-primary"
    m = report["milestones_ms"]
    assert set(m) == {f"t{i}" for i in range(9)} and m["t0"] == 0
    # Readers may go on by another instance all the while: then t6 is not seen.
    assert all(m[k] is not None for k in m if k != "t6"), m
    assert m["t1"] <= m["t3"] <= m["t5"] <= m["t8"], m
    for figure, milestone in (("ttd_ms", "t2"), ("write_ttr_ms", "t5"), ("full_ttr_ms", "t8")):
        assert abs(report[figure] - m[milestone]) < 0.01, (figure, report[figure], m)
    assert report["ledger"]["lost"] == 0 and report["ledger"]["unexpected"] == 0
    assert report["split_brain"]["grade"] == "none"
    (f,) = report["faults"]
    assert f["instance"] == f"{NAME}/{lead['name']}" and f["verified_clean"] and f["hits"] > 0
    assert {"experiment", "params", "armed_ms", "fired_ms", "fire_us", "reverted_ms"} <= set(f)
    assert all(e["passed"] and {"name", "expected", "actual"} <= set(e) for e in report["expectations"])
    _, keys = ledger_of(out)
    for ours, theirs in (("ok", "OK"), ("failed", "FAIL"), ("unknown", "UNKNOWN")):
        assert report["ledger"][ours] == len(keys[theirs]), (report["ledger"], ours, len(keys[theirs]))
    assert psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pgjolt_probe'") == "0"
    # The plan is a drill again; the folder is not overwritten; the report can be read later.
    all_stream()
    assert "what partition-primary would do" in pgjolt("run", f"{out}/plan.yaml", "--cluster", NAME, "--dry-run")
    assert "a folder of its own" in pgjolt("run", f"{out}/plan.yaml", "--cluster", NAME, "--out", out, code=3)
    assert json.loads(pgjolt("report", out, "--format", "json"))["run"] == report["run"]
    clean()


HARMLESS = """steps:
  - inject: net-partition
    target: replica
    for: 60s
    params: {peers: clients}
    mayMiss: true
"""


def test_08_interrupted(folder):
    out = os.path.join(folder, "int")
    path = drill(folder, "wait", HARMLESS + "  - wait: 60s\n")
    with under_way("run", path, "--cluster", NAME, "--out", out) as p:
        head = read_until(p, "fired")
        where = re.search(rf"net-partition on {NAME}/(\w+) fired", head)[1]
        assert wait_until(lambda: not pings(members()[where]["ip"], 100), 3)
        p.send_signal(signal.SIGINT)
        rest, _ = p.communicate(timeout=90)
        assert p.returncode == 4, rest
        assert "interrupted" in rest
    report = report_of(out)
    assert report["verdict"] == "aborted" and report["faults"][0]["verified_clean"], report["faults"]
    clean()
    # And before anything was done: nothing to revert, a report all the same.
    out = os.path.join(folder, "int2")
    path = drill(folder, "early", "steps:\n  - wait: 60s\n")
    with under_way("run", path, "--cluster", NAME, "--out", out) as p:
        read_until(p, "steady state")
        p.send_signal(signal.SIGTERM)
        rest, _ = p.communicate(timeout=90)
        assert p.returncode == 4, rest
    assert report_of(out)["verdict"] == "aborted"
    clean()


def test_09_agent_killed(folder):
    """With a fault that ends with its agent, and one that does not."""
    out = os.path.join(folder, "kill")
    path = drill(folder, "two", """steps:
  - parallel:
      - inject: net-partition
        target: primary
        for: 60s
        params: {peers: 10.9.9.9}
        mayMiss: true
      - inject: proc-freeze
        target: replica
        for: 60s
        params: {mechanism: cgroup}
  - wait: 60s
""")
    with under_way("run", path, "--cluster", NAME, "--out", out) as p:
        head = read_until(p, "wait 60.00 s")
        where = re.search(rf"proc-freeze on {NAME}/(\w+) fired", head)[1]
        pid = agent_pid()
        assert len(glob.glob(f"{JOURNAL}/*.json")) == 2
        os.kill(pid, signal.SIGKILL)
        rest, _ = p.communicate(timeout=200)
        assert p.returncode == 4, rest
        assert "is gone" in rest and "left the node clean" in rest, rest
    report = report_of(out)
    assert report["verdict"] == "aborted" and "is gone" in json.dumps(report["events"])
    assert psql("SELECT 1", members()[where]["ip"]) == "1"
    clean()


def test_10_disk_full(folder):
    disk = os.path.join(folder, "disk")
    os.mkdir(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "t", disk], check=True)
    try:
        with open(f"{disk}/full", "wb") as f:
            f.write(bytes(208 << 10))
        path = drill(folder, "long", HARMLESS + "  - wait: 60s\n")
        text = pgjolt("run", path, "--cluster", NAME, "--out", f"{disk}/run", code=4)
        assert "No space left on device" in text and "aborting" in text, text
        assert "verified clean" in text, text
    finally:
        subprocess.run(["umount", disk], check=True)
    clean()


def test_11_target_dies(folder):
    """One fault kills the postmaster, the next was armed on it and fires then."""
    out = os.path.join(folder, "dies")
    where = a_replica()["name"]
    path = drill(folder, "dies", f"""steps:
  - parallel:
      - inject: proc-kill
        target: {NAME}/{where}
        for: 1s
        params: {{process: postmaster}}
      - inject: net-partition
        target: {NAME}/{where}
        for: 2s
        params: {{peers: clients}}
        mayMiss: true
  - wait: reverted
""")
    r = subprocess.run([PGJOLT, "run", path, "--cluster", NAME, "--out", out], capture_output=True, text=True,
                       timeout=150)
    assert r.returncode in (0, 4), r.stdout + r.stderr
    report = report_of(out)
    cut = next(f for f in report["faults"] if f["fault"] == "net-partition")
    assert cut["verified_clean"], cut
    if r.returncode == 4:
        assert any(words in r.stdout for words in ("did not fire", "ended before", "could not be fired")), r.stdout
    all_stream()
    clean()


def test_11_fault_ends_with_its_target(folder):
    """A disk fault is about one postmaster; when that is killed, the drill goes on, passes, and says so."""
    out = os.path.join(folder, "along")
    where = f"{NAME}/{a_replica()['name']}"
    path = drill(folder, "along", f"""steps:
  - inject: disk-latency
    target: {where}
    for: 60s
    params: {{delay: 1ms}}
    mayMiss: true
  - inject: proc-kill
    target: {where}
    for: 1s
    params: {{process: postmaster}}
  - wait: reverted
    limit: 20s
""")
    text = pgjolt("run", path, "--cluster", NAME, "--out", out)
    report = report_of(out)
    note, = report["notes"]
    assert note.startswith(f"{where} ended, and disk-latency on it with it, ") and note in text, (note, text)
    assert {f["fault"]: f["target_gone"] for f in report["faults"]} == {"disk-latency": True, "proc-kill": False}
    assert report["verdict"] == "passed" and not report["reasons"]
    all_stream()
    clean()


def test_12_step_that_cannot(folder):
    """A wait whose limit ends fails the drill; peers that are nobody: it is refused, since nothing was done."""
    out = os.path.join(folder, "limit")
    path = drill(folder, "limit", "steps:\n  - wait: promoted\n    limit: 500ms\n")
    text = pgjolt("run", path, "--cluster", NAME, "--out", out, code=1)
    assert f"{path}:5:5: not promoted within the limit" in text, text
    assert report_of(out)["verdict"] == "failed"
    out = os.path.join(folder, "nobody")
    path = drill(folder, "nobody", f"steps:\n  - inject: net-partition\n    target: {NAME}/pg1\n    for: 5s\n"
                                   f"    params: {{peers: {NAME}/pg1}}\n")
    text = pgjolt("run", path, "--cluster", NAME, "--out", out, code=3)
    assert "that is the target itself" in text, text
    report = report_of(out)
    assert report["verdict"] == "refused" and all(f["fired_ms"] is None for f in report["faults"])
    clean()


def test_13_paused(_):
    def pause(on):
        request = urllib.request.Request(f"http://{primary()['ip']}:8008/config", method="PATCH",
                                         data=json.dumps({"pause": on}).encode())
        with open(f"/run/pgjolt-lab/{NAME}/secrets") as f:
            secrets = dict(line.strip().split("=", 1) for line in f if "=" in line)
        word = base64.b64encode(f"lab:{secrets['rest_password']}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    pause(True)
    try:
        assert f"cluster {NAME} is paused" in pgjolt("run", "kill-primary", "--cluster", NAME, code=3)
        assert "is paused" in pgjolt("run", "kill-primary", "--cluster", NAME, "--dry-run", code=3)
    finally:
        pause(None)
    assert "expected auto, " in pgjolt("run", "kill-primary", "--cluster", NAME, "--manager", "x",
                                                       code=2)
    clean()


def managers_of(name):
    """Pids of the member's Patroni."""
    found = []
    with open(f"{cgroup_root()}/pgjolt-lab/{NAME}/{name}/cgroup.procs", encoding="ascii") as f:
        pids = f.read().split()
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
            if f.read().endswith(b"patroni\0/run/patroni/patroni.yml\0"):
                found.append(int(pid))
    return found


def test_13_manager_alone(_):
    """Patroni stands still, or is killed and started again; its PostgreSQL runs on."""
    m = a_replica()
    (manager,) = managers_of(m["name"])
    words = ("--target", f"{NAME}/{m['name']}", "--for", "30s")
    with under_way("inject", "proc-freeze", *words, "--processes", "manager") as p:
        read_until(p, "fired")
        assert process_state(manager) == "t" and process_state(m["pid"]) == "S"
        assert psql("SELECT pg_is_in_recovery()", m["ip"]) == "t"
        assert members()[m["name"]]["state"] == "no answer"
        p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=20)
        assert p.returncode == 0 and "verified clean" in out, out
    assert managers_of(m["name"]) == [manager] and process_state(manager) != "t"
    with under_way("inject", "proc-kill", *words, "--process", "manager") as p:
        read_until(p, "fired")
        assert wait_until(lambda: managers_of(m["name"]) not in ([], [manager]), 20), "Patroni was not started again"
        assert process_state(manager) is None and psql("SELECT pg_is_in_recovery()", m["ip"]) == "t"
        p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=20)
        assert p.returncode == 0, out
    all_stream()
    assert members()[m["name"]]["pid"] == m["pid"], "PostgreSQL was started again"
    clean()


def test_14_interrupted_again(folder):
    """The second Ctrl-C ends the waiting, and the report says what is left unchecked."""
    out = os.path.join(folder, "again")
    path = drill(folder, "again", HARMLESS + "  - wait: 60s\n")
    postmasters = [m["pid"] for m in members().values()]
    with under_way("run", path, "--cluster", NAME, "--out", out) as p:
        try:
            read_until(p, "fired")
            time.sleep(0.5)                 # some writes
            for pid in postmasters:         # no new session, so the ledger's rows cannot be read
                os.kill(pid, signal.SIGSTOP)
            p.send_signal(signal.SIGINT)
            read_until(p, "reverted (requested)")
            start = time.monotonic()
            p.send_signal(signal.SIGINT)
            rest, _ = p.communicate(timeout=60)
            took = time.monotonic() - start
        finally:
            for pid in postmasters:
                os.kill(pid, signal.SIGCONT)
    assert p.returncode == 4, rest
    assert "interrupted again" in rest and "the ledger was not checked" in rest, rest
    assert took < 10, f"{took:.1f} s after the second signal"
    report = report_of(out)
    assert report["verdict"] == "aborted" and report["faults"][0]["verified_clean"], report
    assert not report["ledger"]["checked"] and report["ledger"]["ok"] > 0, report["ledger"]
    clean()
    psql("DROP SCHEMA IF EXISTS pgjolt_probe CASCADE")


def test_15_hung_agent(folder):
    """The agent that pgjolt started stands still: the second Ctrl-C says what is not known, and ends it."""
    replica = f"{NAME}/{a_replica()['name']}"
    path = drill(folder, "hung", HARMLESS + "  - wait: 60s\n")
    for words, said in ((("inject", "net-partition", "--target", replica, "--for", "60s", "--peers", "10.9.9.9"), replica),
                        (("run", path, "--cluster", NAME, "--out", os.path.join(folder, "hung")), NAME)):
        all_stream()
        with under_way(*words) as p:
            read_until(p, "fired")
            pid = agent_pid()
            os.kill(pid, signal.SIGSTOP)
            try:
                p.send_signal(signal.SIGINT)
                wait_until(lambda: p.poll() is not None, 0.5)
                assert p.poll() is None, "it did not wait for the agent"
                p.send_signal(signal.SIGINT)
                p.wait(12)                              # 35 s, were anything waited for
            finally:
                os.kill(pid, signal.SIGCONT)
            rest = p.stdout.read()                      # the agent has this pipe too
        assert p.returncode == 5, f"{p.returncode}\n{rest}"
        assert re.search(rf"net-partition on {said}\S* is not known to be reverted \(experiment ", rest), rest
        assert wait_until(lambda: agent_pid() is None, 20), "the agent stays"
        clean()
    psql("DROP SCHEMA IF EXISTS pgjolt_probe CASCADE")


def test_16_agent_started_anew(folder):
    """By a service manager, under faults of which one would outlive it: aborted, and known to be clean."""
    out = os.path.join(folder, "anew")
    path = drill(folder, "anew", """steps:
  - inject: proc-freeze
    target: replica
    for: 60s
    params: {mechanism: cgroup}
  - wait: 60s
""")

    def start():
        p = subprocess.Popen([AGENT, "serve", "--log-level", "warning"], stdin=subprocess.DEVNULL)
        nodes = [PGJOLT, "nodes", "--agent", "/run/pgjolt/agent.sock"]
        if not wait_until(lambda: subprocess.run(nodes, capture_output=True, check=False).returncode == 0, 20):
            p.kill()
            raise AssertionError("the agent does not listen")
        return p
    agent = start()
    try:
        with under_way("run", path, "--cluster", NAME, "--out", out) as p:
            where = re.search(rf"proc-freeze on {NAME}/(\w+) fired", read_until(p, "fired"))[1]
            agent.kill()
            agent.wait()
            agent = start()
            rest, _ = p.communicate(timeout=100)
        assert p.returncode == 4, rest
        assert "its successor reports nothing left" in rest, rest
        report = report_of(out)
        assert report["verdict"] == "aborted" and report["faults"][0]["verified_clean"], report["faults"]
        assert psql("SELECT 1", members()[where]["ip"]) == "1"
    finally:
        agent.terminate()
        agent.wait(10)
    clean()


# ---- on the asynchronous lab ----

def test_20_lost_commits(folder):
    """Clients that still reach the old primary: what it acknowledged meanwhile is lost, and counted."""
    out = os.path.join(folder, "lost")
    text = pgjolt("run", "partition-primary", "--cluster", NAME, "--set", "peers=instances,dcs", "--keep", "--out", out,
                  code=1)
    assert "FAILED" in text and "lostCommits" in text, text
    report = report_of(out)
    run, keys = ledger_of(out)
    rows = {tuple(line.split("|")) for line in psql(
        f"SELECT client, sequence FROM pgjolt_probe.ledger WHERE run = '{run}'").splitlines()}
    lost = len(keys["OK"] - rows)
    assert lost > 0 and report["ledger"]["lost"] == lost, (lost, report["ledger"])
    assert report["ledger"]["recovered"] == len(keys["UNKNOWN"] & rows)
    assert report["ledger"]["unexpected"] == len(rows - keys["OK"] - keys["UNKNOWN"])
    assert report["verdict"] == "failed"
    (e,) = (e for e in report["expectations"] if e["name"] == "lostCommits")
    assert not e["passed"] and e["actual"] == str(lost), e
    clean()


def test_21_lab_taken_down(folder):
    """The last one: a cluster that is no more ends the run long before its limits, with what was counted."""
    out = os.path.join(folder, "down")
    path = drill(folder, "down", HARMLESS + "  - wait: streaming\n    limit: 10m\n  - wait: 10m\n")
    with under_way("run", path, "--cluster", NAME, "--out", out) as p:
        read_until(p, "fired")
        time.sleep(0.5)                     # some writes
        lab("down")
        rest, _ = p.communicate(timeout=60)
    assert p.returncode == 4, rest
    assert f"no instance of cluster {NAME} is there any more" in rest, rest
    report = report_of(out)
    assert report["verdict"] == "aborted" and not report["ledger"]["checked"], report["ledger"]
    assert report["ledger"]["attempted"] >= report["ledger"]["ok"] > 0, report["ledger"]
    assert wait_until(lambda: agent_pid() is None, 10), "an agent is left"
    assert not glob.glob(f"{JOURNAL}/*.json*"), os.listdir(JOURNAL)


def run_tests(prefix, only):
    failed = 0
    with tempfile.TemporaryDirectory(prefix="pgjolt-run-") as folder:
        os.chdir(folder)
        for name, test in sorted(globals().items()):
            if not name.startswith(prefix) or (only and not any(o in name for o in only)):
                continue
            start = time.monotonic()
            try:
                all_stream()
                test(folder)
                say(f"ok: {name} ({time.monotonic() - start:.1f} s)")
            except Exception:  # noqa: B902 - each test is told on its own
                failed += 1
                say(f"FAILED: {name}\n{traceback.format_exc()}")
        os.chdir("/")
    return failed


def main():
    if os.geteuid() != 0 or not os.path.exists(PGJOLT):
        say("needs root and a build")
        return 77
    if not os.environ.get("PGJOLT_TEST_NAMESPACE"):
        made = [folder for folder in ("/run/pgjolt", "/var/lib/pgjolt") if not os.path.isdir(folder)]
        for folder in made:
            os.makedirs(folder)
        os.environ["PGJOLT_TEST_NAMESPACE"] = "1"
        code = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount -t tmpfs t /run/pgjolt && mount -t tmpfs t /var/lib/pgjolt && "$@"; exit $?', "x", sys.executable,
             "-B", os.path.abspath(__file__), *sys.argv[1:]], check=False).returncode
        for folder in made:
            os.rmdir(folder)
        return code
    os.environ["LAB"] = NAME
    only, failed = sys.argv[1:], 0
    on_async = [o for o in only if re.match(r"(test_)?2\d", o)]
    if not only or len(on_async) < len(only):
        with a_lab("--sync"):
            failed += run_tests("test_0", only) + run_tests("test_1", only)
    if not only or on_async:
        with a_lab("--async"):
            failed += run_tests("test_2", only)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
