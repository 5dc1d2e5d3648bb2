"""CloudNativePG by its own objects (data/cnpg.yaml), written as its operator and its instance managers write them, over two real
instances; the operator itself does not run."""
import json
import os

import lab
from lab import wait_for

WATCH = """
drill: watch
summary: Look at a cluster while its status changes
steps:
  - {wait: 5m}
recovery: {limit: 1s}
"""
API = "/apis/postgresql.cnpg.io/v1/namespaces/cloud"
LEASE = """
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: main, namespace: cloud}}
spec: {{holderIdentity: {holder}, leaseDurationSeconds: 15}}
"""


def status_of(primary, target, phase, timeline, promoted="2026-01-01T00:00:01.000001Z", asked="2026-01-01T00:00:00.000001Z"):
    """As its operator writes it."""
    reported = {n: {"isPrimary": n == primary, "timeLineID": timeline, "ip": "10.244.0.9"} for n in ("main-1", "main-2")}
    return {"instances": 2, "readyInstances": 2, "instanceNames": ["main-1", "main-2"],
            "instancesStatus": {"healthy": ["main-1", "main-2"]}, "instancesReportedState": reported, "phase": phase,
            "timelineID": timeline, "currentPrimary": primary, "targetPrimary": target,
            "currentPrimaryTimestamp": promoted, "targetPrimaryTimestamp": asked, "writeService": "main-rw",
            "readService": "main-r"}


def patch_status(world, resource, status, check=True):
    """kubectl's own patch of a subresource came later than this cluster's version."""
    uri = f"{API}/{resource}/main"
    now = json.loads(world.kubectl("get", "--raw", uri))
    now["status"] = status
    return world.kubectl("replace", "--raw", f"{uri}/status", "-f", "-", stdin=json.dumps(now), check=check)


def set_quorum(world, names, number, primary):
    """As the primary's instance manager writes it."""
    patch_status(world, "failoverquorums", {"method": "ANY", "standbyNames": names, "standbyNumber": number, "primary": primary})


def set_lease(world, holder):
    world.kubectl("apply", "-f", "-", stdin=LEASE.format(holder=holder))


def kinds_are_checked(world):
    """What has not CloudNativePG's shape does not get in: else this would be a test of anything."""
    good = status_of("main-1", "main-1", "Cluster in healthy state", 1)
    for wrong in ({"currentPrimary": 1}, {"timelineID": "1"}, {"instanceNames": "main-1"}, {"currentPrimaryTimestamp": 0},
                  {"instancesReportedState": {"main-1": {"timeLineID": 1}}}):
        r = patch_status(world, "clusters", {**good, **wrong}, check=False)
        assert r.returncode != 0 and "nvalid" in r.stderr, (wrong, r.stdout, r.stderr)
    r = patch_status(world, "failoverquorums", {"standbyNames": "main-2"}, check=False)
    assert r.returncode != 0 and "nvalid" in r.stderr, r.stderr
    patch_status(world, "clusters", {**good, "somethingElse": 1})
    assert "somethingElse" not in json.loads(world.kubectl("get", "--raw", f"{API}/clusters/main"))["status"]


def test_cloudnativepg_is_read_through_a_failover(world):
    wait_for("its kinds are known", lambda: world.kubectl(
        "apply", "-f", os.path.join(lab.TOP, "tests", "kube", "data", "cnpg.yaml"), check=False).returncode == 0, 30)
    world.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "postgresql.cnpg.io/v1", "kind": "FailoverQuorum",
                                                        "metadata": {"name": "main", "namespace": "cloud"}}))
    kinds_are_checked(world)
    set_lease(world, "main-1")
    wait_for("both instances", lambda: len([o for o in world.pods("cloud") if lab.is_ready(o)]) == 2, 90)
    found = wait_for("the agents name them", lambda: [t for t in json.loads(world.toolbox("pgjolt", "targets", "--json"))
                                                       if t["cluster"] == "cloud/main"], 20)
    assert sorted((t["name"], t["role"]) for t in found) == [("cloud/main-1", "primary"), ("cloud/main-2", "replica")]
    world.toolbox("sh", "-c", "cat >/tmp/watch.yaml; rm -rf /runs/watch", stdin=WATCH)
    world.kubectl("-n", "cloud", "annotate", "clusters.postgresql.cnpg.io", "main", 'cnpg.io/fencedInstances=["main-1"]')
    r = world.toolbox("pgjolt", "run", "/tmp/watch.yaml", "--cluster", "cloud/main", check=False)
    assert r.returncode == 3 and "fenced" in r.stdout + r.stderr, r.stdout + r.stderr
    world.kubectl("-n", "cloud", "annotate", "clusters.postgresql.cnpg.io", "main", "cnpg.io/fencedInstances-")
    set_quorum(world, ["main-2", "main-3"], 1, "main-1")
    r = world.toolbox("pgjolt", "run", "/tmp/watch.yaml", "--cluster", "cloud/main", check=False)
    assert r.returncode == 3 and "were main-1 lost now, a failover would be refused by the quorum" in r.stdout + r.stderr, \
        r.stdout + r.stderr
    set_quorum(world, ["main-2"], 1, "main-1")

    def told():
        return world.toolbox("cat", "/runs/watch/events.jsonl", check=False).stdout

    world.start("sh", "-c", "echo $$ >/tmp/watch.pid; exec pgjolt run /tmp/watch.yaml --cluster cloud/main --out /runs/watch")
    wait_for("the run has begun", lambda: '"steady"' in told() and '"step"' in told(), 60)
    patch_status(world, "clusters", status_of("main-1", "pending", "Failing over", 1, asked="2026-01-01T00:01:00.000001Z"))
    patch_status(world, "failoverquorums", {})     # so the operator resets it
    patch_status(world, "clusters", status_of("main-1", "main-2", "Failing over", 1, asked="2026-01-01T00:01:02.000001Z"))
    world.kubectl("-n", "cloud", "delete", "pod", "main-1", "--now")
    set_lease(world, "main-2")
    world.kubectl("-n", "cloud", "exec", "main-2", "--", "pg_ctl", "promote", "-D", "/data/pg")
    patch_status(world, "clusters", status_of("main-2", "main-2", "Cluster in healthy state", 2, "2026-01-01T00:01:04.000001Z",
                                              "2026-01-01T00:01:02.000001Z"))
    set_quorum(world, ["main-1"], 1, "main-2")
    world.kubectl("-n", "cloud", "label", "pod", "main-2", "--overwrite", "cnpg.io/instanceRole=primary")
    world.kubectl("-n", "cloud", "delete", "lease", "main")
    wait_for("the last of it is told", lambda: "lease: it is gone" in told(), 60)
    world.toolbox("sh", "-c", "kill -INT $(cat /tmp/watch.pid)")
    wait_for("the run has ended", lambda: world.background[-1].poll() is not None, 60)
    report = json.loads(world.toolbox("cat", "/runs/watch/report.json"))
    assert report["manager"] == "cnpg", report["manager"]
    check_events(report["events"])
    world.kubectl("delete", "namespace", "cloud", timeout=120)


def check_events(events):
    def told(kind, text, value=None):
        """When it was told first."""
        found = [i for i, e in enumerate(events) if e["kind"] == kind and text in e["text"] and value in (None, e["value"])]
        assert found, (kind, text, value, [(e["kind"], e["value"], e["text"]) for e in events])
        return found[0]

    given_up = told("chosen", "a new one is to be chosen, asked for at 2026-01-01T00:01:00.000001Z", "pending")
    chosen = told("chosen", "main-2 is to be primary, asked for at 2026-01-01T00:01:02.000001Z", "main-2")
    leads = told("leader", "main-2 leads, by the manager's word since 2026-01-01T00:01:04.000001Z", "main-2")
    assert given_up < chosen < leads, (given_up, chosen, leads)
    assert told("phase", "Failing over", "fail") < told("phase", "Cluster in healthy state", "ok")
    before = told("kubernetes", "ANY 1 of main-2, told by main-1; were main-1 lost now, a failover would be allowed",
                  "FailoverQuorum")
    reset = told("kubernetes", "quorum: it is empty; a failover would be refused until", "FailoverQuorum")
    after = told("kubernetes", "ANY 1 of main-1, told by main-2; were main-2 lost now, a failover would be refused by the "
                 "quorum: R 0 ", "FailoverQuorum")
    assert before < reset < after, (before, reset, after)
    assert told("kubernetes", "main-2 holds the primary's lease", "Lease") < told("kubernetes", "lease: it is gone", "Lease")
