"""Every fault once, with parameters that work on a Target(disk=400, tls=True), and how its effect is seen
from outside. A new fault is one more row of FAULTS."""
import os

from harness.agent import TIME_SCALE

DELAY = f"{400 * TIME_SCALE:.0f}ms"     # longer than effects are looked for


def file_has(controller, name, text):
    """seen: a file of the target's group has this."""
    def seen(target):
        with open(os.path.join(target.group(controller), name)) as f:
            return text in f.read()
    return seen


def either(*choices):
    """seen: the first of the files that is there, in v2 or v1."""
    def seen(target):
        for controller, name, text in choices:
            if os.path.exists(os.path.join(target.group(controller), name)):
                return file_has(controller, name, text)(target)
        raise AssertionError("none of the files is there")
    return seen


def disk_is_full(target):
    """seen: as df would say it."""
    s = os.statvfs(os.path.join(target.folder, "data"))
    return s.f_bavail * s.f_frsize < 24 << 20


def has_busy_worker(target):
    """seen: a process of a stress fault that has begun."""
    for pid in target.pids():
        try:
            with open(f"/proc/{pid}/comm") as f:
                ours = f.read() == "pgjolt-stress\n"
            with open(f"/proc/{pid}/stat") as f:
                words = f.read().rsplit(")", 1)[1].split()
            if ours and words[0] not in "ZX" and int(words[11]) + int(words[12]) > 1:
                return True
        except OSError:
            pass
    return False


def shows_another(name):
    """seen: the instance has another content in a file of its data directory than the volume has."""
    def seen(target):
        path = os.path.join(target.folder, "data", name)
        pid = target.postmaster()
        if pid is None:
            raise AssertionError("there is no postmaster")
        with open(path, "rb") as f, open(f"/proc/{pid}/root{path}", "rb") as g:
            return f.read() != g.read()
    return seen


# name: fault, parameters, what a killed agent leaves (skewed: until the deadline), points of the
# driver's own. waits: there a process that forks waits for the agent, its tracer, which only this
# test keeps stopped. seen: how to see from outside whether the fault is in effect, where it is
# not that the instance does not answer. options: of the agent. only: no other points than these.
# filters: where there is no tcx, the points at which filters are on the interface (and pass everything).
CLSACT = dict(options=["--without-tcx"], before=["before-place", "qdisc-made", "filter-added", "placed"],
              during=[], after=[],
              filters=["filter-added", "placed", "active", "released", "replay-reverting"])
FAULTS = {
    "net-partition": dict(
        fault="net-partition", params={"peers": ["all"]}, leaves="nothing",
        before=["before-load", "loaded", "attached", "before-fire"],
        during=["before-release"], after=["healed"]),
    "net-shape": dict(
        fault="net-shape", params={"peers": ["all"], "delay": DELAY}, leaves="nothing",
        before=["before-taps", "taps-open", "programs-loaded", "line-started", "attached",
                "before-fire"],
        during=["before-release"], after=[]),
    "dns": dict(
        fault="dns", params={"mode": "timeout"}, leaves="nothing", ask="name_ms",
        before=["before-taps", "taps-open", "programs-loaded", "line-started", "attached",
                "before-fire"],
        during=["before-release"], after=[]),
    "net-partition-clsact": dict(
        fault="net-partition", params={"peers": ["all"]}, leaves="nothing", **CLSACT,
        only=["armed-unjournaled", "before-place", "qdisc-made", "filter-added", "placed", "active",
              "released", "reverted", "verified", "replay-reverting", "replay-reverted"]),
    "net-shape-clsact": dict(
        fault="net-shape", params={"peers": ["all"], "delay": "400ms"}, leaves="nothing", **CLSACT,
        only=["filter-added", "active", "replay-reverting"]),
    "dns-clsact": dict(
        fault="dns", params={"mode": "timeout"}, leaves="nothing", ask="name_ms", **CLSACT,
        only=["placed", "active"]),
    "proc-kill": dict(
        fault="proc-kill", params={"process": "all", "every": "20s"}, leaves="dead",
        before=[], during=[], after=[]),
    "proc-freeze": dict(
        fault="proc-freeze", params={}, leaves="nothing",
        before=["seizing", "seized", "stopping"], during=["stopped", "releasing"], after=[],
        waits=["seized", "armed-unjournaled", "armed", "firing", "stopping"]),
    "proc-freeze-cgroup": dict(
        fault="proc-freeze", params={"mechanism": "cgroup"}, leaves="frozen",
        before=[], during=[], after=[]),
    "conn-reset": dict(
        fault="conn-reset", params={"role": "client", "every": "20s"}, leaves="reset",
        before=["opening", "opened", "resetting"], during=["reset"], after=[]),
    "clock-skew": dict(
        fault="clock-skew", params={"offset": "1h"}, leaves="skewed",
        before=["looking", "stopping", "stopped", "patched"], during=["releasing"], after=[],
        waits=["stopped", "patched"]),
    "disk-latency": dict(
        fault="disk-latency", params={"delay": DELAY, "operations": ["read", "open"]},
        leaves="nothing", ask="session_ms",
        before=["resolving", "loaded", "seized", "before-fire"],
        during=["gates-shut", "before-release"], after=[],
        waits=["seized", "armed-unjournaled", "armed", "firing", "before-fire"]),
    "disk-latency-file": dict(
        fault="disk-latency", params={"delay": DELAY, "operations": ["read", "open"],
                                      "mechanism": "file"},
        leaves="nothing", ask="session_ms",
        before=["before-fire"], during=["gates-shut", "before-release"], after=[]),
    "disk-error": dict(
        fault="disk-error", params={"operations": ["write", "fsync", "fdatasync", "open"],
                                    "paths": ["base/*", "global/*"]},
        leaves="nothing", ask="session_ms",
        before=["loaded", "seized", "before-fire"], during=["gates-shut", "before-release"],
        after=[], waits=["seized", "armed-unjournaled", "armed", "firing", "before-fire"]),
    "disk-fill": dict(
        fault="disk-fill", params={"leave": "16MiB"}, leaves="nothing", seen=disk_is_full,
        before=["opening", "opened", "before-fire"], during=["before-release"], after=["freed"]),
    "cpu-stress": dict(
        fault="cpu-stress", params={"workers": 2}, leaves="nothing", seen=has_busy_worker,
        before=["forking", "forked", "before-fire"], during=[], after=["ended"]),
    "mem-stress": dict(
        fault="mem-stress", params={"bytes": "128MiB"}, leaves="nothing", seen=has_busy_worker,
        before=["forking", "forked", "before-fire"], during=[], after=["ended"]),
    "disk-stress": dict(
        fault="disk-stress", params={"size": "32MiB"}, leaves="nothing", seen=has_busy_worker,
        before=["forking", "forked", "before-fire"], during=[], after=["ended"]),
    "cpu-throttle": dict(
        fault="cpu-throttle", params={"quota": "50%"}, leaves="frozen",
        seen=either(("", "cpu.max", "50000 "), ("cpu", "cpu.cfs_quota_us", "50000")),
        before=["writing"], during=["written"], after=[]),
    "tls-cert": dict(
        fault="tls-cert", params={"mode": "expired"}, leaves="frozen", seen=shows_another("server.crt"),
        before=["reading", "made", "before-fire"], during=["mounted", "releasing"], after=[]),
    "disk-throttle": dict(
        fault="disk-throttle", params={"write-bytes": "7000000"}, leaves="frozen",
        seen=either(("", "io.max", "wbps=7000000"),
                    ("blkio", "blkio.throttle.write_bps_device", " 7000000")),
        before=["writing"], during=["written"], after=[]),
}
