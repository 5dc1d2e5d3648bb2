"""What a drill's report must say, for each drill that tests/kube runs."""
import re

# The first of two cannot come after the second, but for how fine each is seen.
ORDER = (("t1", "t5"), ("t2", "t3"), ("t3", "t4"), ("t4", "t5"), ("t4", "t7"), ("t5", "t8"), ("t7", "t8"))
FAILOVER = ("t0", "t1", "t2", "t3", "t4", "t5", "t7", "t8")
# The milestones that a drill must reach, and those that it must not.
MILESTONES = {
    "partition-primary": (FAILOVER, ()),
    "partition-primary-from-apiserver": (FAILOVER, ()),
    "kill-primary": (("t0", "t1", "t2", "t5", "t8"), ()),       # promoted or restarted in place: either is right
    "wal-disk-stall": (("t0", "t1", "t5"), ("t3", "t4", "t7")),
    "clock-jump-forward-past-ttl": (("t0",), ()),               # what Patroni 3.0 makes of it differs
}


def milestones(report):
    return {k: v for k, v in report["milestones_ms"].items() if v is not None}


def events(report, kind, instance=None):
    """From the first fault on."""
    return [e for e in report["events"] if e["kind"] == kind and instance in (None, e["instance"])
            and e["at_ms"] >= report["t0_ms"]]


def check_milestones(report):
    t, (must, must_not) = milestones(report), MILESTONES[report["drill"]]
    assert set(must) <= set(t) and not set(must_not) & set(t), f"{report['drill']}: {t}"
    assert t["t0"] == 0 and min(t.values()) == 0, t
    coarse = max(report["poll_resolution_ms"], report["manager_resolution_ms"])
    for first, second in ORDER:
        if first in t and second in t:
            assert t[first] <= t[second] + coarse, f"{first} after {second}: {t}"
    for figure, name in (("ttd_ms", "t2"), ("write_ttr_ms", "t5"), ("full_ttr_ms", "t8")):
        assert (report[figure] is None) == (name not in t) and abs((report[figure] or 0) - t.get(name, 0)) < 0.01, \
            f"{figure} is not {name}: {report[figure]}, {t}"


def check_who_leads(world, report, before):
    """Before and after, as the cluster itself says."""
    old, new, t = report["old_primary"], report["new_primary"], milestones(report)
    now = f"shop/{world.primary()}"
    assert report["manager"].startswith("patroni"), report["manager"]
    assert (old, new or old) == (f"shop/{before}", now), f"{old}, {new}: {before} led, {now} does"
    if "t4" in t:
        assert new != old and report["new_timeline"] > report["old_timeline"], report["new_timeline"]
    if "t3" in MILESTONES[report["drill"]][1]:
        assert new in (None, old) and report["new_timeline"] in (0, report["old_timeline"]), report["new_timeline"]


def check_names(world, report):
    """Instances are pods on nodes, faults are on them, and the probes went as clients do: by the Service."""
    nodes = {o["metadata"]["name"]: o["spec"]["nodeName"] for o in world.pods()}
    told = {i["pod"]: i["node"] for i in report["instances"]}
    assert told == nodes, told
    for i in report["instances"]:
        assert (i["namespace"], i["name"]) == ("shop", f"shop/{i['pod']}") and "last_node" not in i, i
    assert report["faults"] and {f["instance"] for f in report["faults"]} <= {i["name"] for i in report["instances"]}, \
        report["faults"]
    assert any(c["way"] == "clients" and c["kind"] == "writer" for c in report["clients"]), report["clients"]
    notes = [e["text"] for e in report["events"] if e["kind"] == "note"]
    for whose, service in (("clients", "orders"), ("readers", "orders-repl")):
        address = world.get("-n", "shop", "service", service)["spec"]["clusterIP"]
        assert f"{whose}' way: Service {service}.shop.svc ({address}, port 5432)" in notes, notes


def check_faults(report):
    for f in report["faults"]:
        assert f["hits"] > 0 and f["verified_clean"] and f["error"] is None, f
        assert f["fired_ms"] >= report["t0_ms"] and f["reverted_ms"] > f["fired_ms"], f


def check_pods(report):
    """A primary that the kubelet does not reach is not ready, until it is reached again; nobody restarts it for that."""
    if report["drill"] != "partition-primary":
        return
    old = report["old_primary"]
    ready = [e["value"] for e in events(report, "ready", old)]
    assert "fail" in ready, ready       # "ok" may come after the run's end
    reasons = {e["value"]: e["text"] for e in events(report, "kubernetes", old)}
    assert "Unhealthy" in reasons and re.search("Readiness probe failed", reasons["Unhealthy"]), reasons
    assert not [e for e in events(report, "pod") if e["value"] in ("new", "gone", "restarted")], events(report, "pod")


def check(world, report, drill, before, may_fail=()):
    """Passed, or of what was expected only may_fail did not hold. before: who led."""
    assert report["drill"] == drill and report["cluster"] == "shop/orders", report["drill"]
    missed = [reason for reason in report["reasons"] if not any(word in reason for word in may_fail)]
    assert not missed and (report["verdict"] == "passed" or may_fail), missed
    assert report["ledger"]["checked"] and report["ledger"]["lost"] == 0 and report["ledger"]["ok"] > 0, report["ledger"]
    assert report["split_brain"]["grade"] == "none", report["split_brain"]
    check_names(world, report)
    check_faults(report)
    check_milestones(report)
    check_who_leads(world, report, before)
    check_pods(report)
