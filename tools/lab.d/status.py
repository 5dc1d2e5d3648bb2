#!/usr/bin/python3 -B
"""How a lab's members are: status [--json], primary (its name), wait (until the lab is up; tools/lab up)."""
import base64
import ctypes
import http.client
import json
import os
import shlex
import socket
import sys
import threading
import time

LAB = os.environ.get("LAB") or "lab"
STATE = "/run/pgjolt-lab/" + LAB
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def settings(path):
    with open(path, encoding="utf-8") as f:
        return dict(shlex.split(line)[0].split("=", 1) for line in f if line.strip())


CONF = settings(STATE + "/settings")
MEMBERS = ["pg%d" % (i + 1) for i in range(int(CONF["nodes"]))]


def member_ip(name):
    return "%s.%d" % (CONF["subnet"], 10 + int(name[2:]))


def stat_fields(pid):
    with open("/proc/%s/stat" % pid, encoding="utf-8", errors="replace") as f:
        head, tail = f.read().rsplit(")", 1)
    return [head.split("(", 1)[1]] + tail.split()


def init_pid(name):
    try:
        with open("%s/%s/pid" % (STATE, name), encoding="ascii") as f:
            pid, start = f.read().split()
        return int(pid) if stat_fields(pid)[20] == start else None
    except (OSError, ValueError, IndexError):
        return None


def cgroup_pids(name):
    with open("/proc/self/mounts", encoding="utf-8") as f:
        root = next(p[1] for p in map(str.split, f) if p[2] == "cgroup2" and p[1].startswith("/sys/fs/cgroup"))
    with open("%s/pgjolt-lab/%s/%s/cgroup.procs" % (root, LAB, name), encoding="ascii") as f:
        return f.read().split()


def postmaster(name):
    """The pid here of the process named postgres whose parent is not one."""
    found = {}
    try:
        for pid in cgroup_pids(name):
            try:
                fields = stat_fields(pid)
            except OSError:
                continue
            if fields[0] == "postgres" and fields[1] != "Z":
                found[pid] = fields[2]
    except (OSError, StopIteration):
        return None
    return next((int(pid) for pid, parent in found.items() if parent not in found), None)


def ask(name, path, method="GET", body=None, headers=None):
    """One request to a member's Patroni from inside its own network namespace."""
    pid = init_pid(name)
    if pid is None:
        return None
    try:
        ns = os.open("/proc/%d/ns/net" % pid, os.O_RDONLY)
        try:
            if libc.setns(ns, CLONE_NEWNET) != 0:
                return None
        finally:
            os.close(ns)
        link = http.client.HTTPConnection("127.0.0.1", 8008, timeout=2)
        link.request(method, path, body, headers or {})
        return json.loads(link.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return None


def each_member():
    """What Patroni says of itself on each member, asked from a thread each, as a namespace is a thread's."""
    answers = {}

    def run(name):
        answers[name] = ask(name, "/patroni")

    threads = [threading.Thread(target=run, args=(m,)) for m in MEMBERS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [answers[m] for m in MEMBERS]


def describe(name, patroni, head):
    """One member's row; head is the primary's WAL position, if there is a primary."""
    out = {"name": name, "ip": member_ip(name), "role": None, "state": None, "timeline": None, "lag": None,
           "sync": False, "pid": postmaster(name)}
    if init_pid(name) is None:
        out["state"] = "stopped" if os.path.exists("%s/%s/stopped" % (STATE, name)) else "off"
    elif patroni is None:
        out["state"] = "no answer"
    else:
        role = patroni.get("role")
        out["role"] = "primary" if role in ("master", "primary") else role
        out["state"] = patroni.get("state")
        out["timeline"] = patroni.get("timeline")
        out["sync"] = bool(patroni.get("sync_standby"))
        if out["role"] == "replica":
            at = (patroni.get("xlog") or {}).get("replayed_location")
            out["lag"] = max(0, head - at) if head is not None and at is not None else None
            if out["state"] == "running" and streaming(out["pid"]):
                out["state"] = "streaming"
    return out


def streaming(pid):
    """PostgreSQL's own word: a child of this postmaster calls itself walreceiver streaming."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as f:
            children = f.read().split()
    except (OSError, TypeError):
        return False
    for child in children:
        try:
            with open("/proc/%s/cmdline" % child, "rb") as f:
                if b"walreceiver streaming" in f.read():
                    return True
        except OSError:
            continue
    return False


def survey():
    answers = each_member()
    heads = [a["xlog"].get("location") for a in answers
             if a and a.get("role") in ("master", "primary") and isinstance(a.get("xlog"), dict)]
    head = max((h for h in heads if h is not None), default=None)
    return [describe(m, a, head) for m, a in zip(MEMBERS, answers)]


def status(as_json):
    rows = survey()
    if as_json:
        print(json.dumps({"lab": LAB, "mode": CONF["mode"], "ttl": int(CONF["ttl"]), "network": CONF["subnet"] + ".0/24",
                          "members": rows}))
        return 0
    print("%-6s %-15s %-8s %-12s %8s %10s %8s" % ("name", "ip", "role", "state", "timeline", "lag", "pid"))
    for r in rows:
        role = "sync" if r["sync"] else r["role"]
        show = ["-" if v is None else v for v in (role, r["state"], r["timeline"], r["lag"], r["pid"])]
        print("%-6s %-15s %-8s %-12s %8s %10s %8s" % (r["name"], r["ip"], *show))
    return 0


def primary():
    names = [r["name"] for r in survey() if r["role"] == "primary"]
    if not names:
        return 1
    print(names[0])
    return 0


def settle(name):
    """Give Patroni its real pace: the cluster was made with loop_wait 1 so that it forms quickly."""
    secret = settings(STATE + "/secrets")["rest_password"]
    basic = base64.b64encode(("lab:" + secret).encode()).decode()
    change = {"loop_wait": max(1, int(CONF["ttl"]) // 4)}
    answer = []
    thread = threading.Thread(target=lambda: answer.append(ask(
        name, "/config", "PATCH", json.dumps(change),
        {"Authorization": "Basic " + basic, "Content-Type": "application/json"})))
    thread.start()
    thread.join()
    return bool(answer[0]) and answer[0].get("loop_wait") == change["loop_wait"]


def wait(started):
    """Print each phase as it is reached. Gives up after 90 seconds."""
    def phase(text):
        print("%7.1f s  %s" % (time.time() - started, text), flush=True)

    want_sync = CONF["mode"] == "sync" and len(MEMBERS) > 1
    said, settled = set(), False
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        rows = survey()
        for r in rows:
            good = {"primary": "running", "replica": "streaming"}.get(r["role"])
            if r["name"] not in said and good and r["state"] == good:
                said.add(r["name"])
                phase("%s %s" % (r["name"], "is the primary" if r["role"] == "primary" else "streams"))
            if r["sync"] and "sync" not in said:
                said.add("sync")
                phase("%s is the synchronous standby" % r["name"])
        if len(said - {"sync"}) == len(MEMBERS) and ("sync" in said or not want_sync):
            settled = settled or settle(next(r["name"] for r in rows if r["role"] == "primary"))
            if settled and all(reachable(m) for m in MEMBERS):
                phase("up")
                return 0
        time.sleep(0.15)
    print("tools/lab: gave up after 90 s: " + "; ".join(
        "%s %s" % (r["name"], r["state"]) for r in survey()), file=sys.stderr)
    return 1


def reachable(name):
    try:
        socket.create_connection((member_ip(name), 5432), timeout=2).close()
        return True
    except OSError as e:
        print("tools/lab: %s cannot be reached from this host: %s" % (name, e), file=sys.stderr)
        return False


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        sys.exit(wait(int(sys.argv[2]) / 1e6))
    if sys.argv[1] == "primary":
        sys.exit(primary())
    sys.exit(status("--json" in sys.argv[2:]))
