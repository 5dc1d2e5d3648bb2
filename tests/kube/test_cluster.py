"""pgjolt on a real Kubernetes of two nodes, as its users have it: from the manifests and the image, through the toolbox pod,
against three members of Patroni whose store is Kubernetes itself."""
# labels: alone
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab          # noqa: E402
import suite        # noqa: E402
from lab import wait_for    # noqa: E402

CLUSTER = "shop/orders"
HOLD = """
drill: hold
summary: Several faults on one pod, until told to stop
vars: {pod: none, duration: 60s}
steps:
  - parallel:
      - {inject: net-partition, target: "${pod}", for: "${duration}", mayMiss: true, params: {peers: [instances]}}
      - {inject: cpu-throttle, target: "${pod}", for: "${duration}", mayMiss: true, params: {quota: 50%}}
      - {inject: proc-freeze, target: "${pod}", for: "${duration}", mayMiss: true, params: {processes: titles, titles: [checkpointer]}}
  - {wait: reverted, limit: 2m}
"""


def run_drill(world, drill, *words, code=0):
    """Its report."""
    r = world.toolbox("rm", "-rf", "/runs/drill", check=False)
    r = world.toolbox("pgjolt", "run", drill, "--cluster", CLUSTER, "--out", "/runs/drill", *words, check=False)
    assert r.returncode == code, f"{drill}: {r.returncode}\n{r.stdout[-5000:]}{r.stderr[-2000:]}"
    report = json.loads(world.toolbox("cat", "/runs/drill/report.json"))
    assert report["verdict"] == "passed", report["reasons"]
    assert report["ledger"]["checked"] and report["ledger"]["lost"] == 0 and report["ledger"]["ok"] > 0, report["ledger"]
    assert report["split_brain"]["grade"] == "none", report["split_brain"]
    assert report["faults"] and all(f["instance"].startswith("shop/orders-") for f in report["faults"]), report["faults"]
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)
    return report


def milestones(report):
    return {k: v for k, v in report["milestones_ms"].items() if v is not None}


# The agents and what they find.

def test_agents_are_ready_and_find_what_is_there(world):
    told = world.toolbox("pgjolt", "nodes", "--json")
    nodes = {n["name"]: n for n in json.loads(told)}
    assert sorted(nodes) == sorted(world.nodes)
    for node in nodes.values():
        off = [c for c in node["capabilities"] if not c["supported"]]
        assert not off, off
    found = {t["name"]: t for t in json.loads(world.toolbox("pgjolt", "targets", "--json"))}
    pods = {f"shop/{o['metadata']['name']}": o for o in world.pods()}
    assert sorted(n for n in found if n.startswith("shop/")) == sorted(pods)
    for name, o in pods.items():
        target = found[name]
        role = "primary" if o["metadata"]["labels"]["role"] == "master" else "replica"
        assert (target["role"], target["node"]) == (role, o["spec"]["nodeName"]), target
        assert o["status"]["podIP"] in target["addresses"], target
        assert target["cluster"] == CLUSTER, target
    assert len({o["spec"]["nodeName"] for o in pods.values()}) == 2, "the members are not spread"


# Drills, through the toolbox.

def test_partition_primary(world):
    before = world.primary()
    report = run_drill(world, "partition-primary")
    assert report["manager"].startswith("patroni") and report["old_primary"] == f"shop/{before}"
    assert report["new_primary"] == f"shop/{world.primary()}" != report["old_primary"]
    t = milestones(report)
    assert {"t0", "t3", "t5", "t8"} <= set(t), t
    assert t["t0"] < t["t3"] <= t["t8"] and report["write_ttr_ms"] > 5000, t
    assert report["new_timeline"] > report["old_timeline"]


def test_kill_primary(world):
    report = run_drill(world, "kill-primary")
    assert report["write_downtime_ms"] > 0 and "t8" in milestones(report)


def test_wal_disk_stall(world):
    report = run_drill(world, "wal-disk-stall", "--set", "duration=8s")
    assert report["new_primary"] in (None, report["old_primary"]), report["new_primary"]
    assert all(f["hits"] > 0 for f in report["faults"]), report["faults"]


def test_clock_jump_forward_past_ttl(world):
    report = run_drill(world, "clock-jump-forward-past-ttl", "--set", "duration=10s")
    assert report["new_primary"] in (None, report["old_primary"]), report["new_primary"]


def test_partition_primary_from_apiserver(world):
    run_drill(world, "partition-primary-from-apiserver")


# What is lost while faults are active. Nothing may stay in any pod.

def hold(world, node, duration="60s"):
    """Faults on a pod of that node, by a coordinator in the background; returns when they are active."""
    world.wait_agents()
    wait_for("the cluster is whole", world.patroni_is_whole, 120)
    pods = sorted(world.pods(), key=lambda o: o["metadata"]["labels"]["role"] == "master")
    pod = next(o["metadata"]["name"] for o in pods if o["spec"]["nodeName"] == node)
    world.toolbox("sh", "-c", "cat >/tmp/hold.yaml", stdin=HOLD)
    world.start("pgjolt", "run", "/tmp/hold.yaml", "--cluster", CLUSTER, "--set", f"pod=shop/{pod}", "--set",
                f"duration={duration}")

    def active():
        seen = "\n".join(world.leftovers([node]))
        return all(word in seen for word in ("programs on eth0", "traced", "journal", "cfs_quota"))
    wait_for(f"three faults on {pod}", active, 40)
    return pod


def other_node(world):
    """One without the toolbox, so that it can be spoken to whatever happens there."""
    box = next(o["spec"]["nodeName"] for o in world.pods("pgjolt", "component=toolbox"))
    return next(n for n in world.nodes if n != box)


def test_agent_deleted_by_force(world):
    node = other_node(world)
    hold(world, node)
    world.kubectl("-n", "pgjolt", "delete", "pod", world.pod_of("agent", node), "--force", "--grace-period=0")
    world.wait_clean()
    world.wait_agents()


def stop_process(world, node, name):
    pids = world.on(node, "pgrep", "-x", name).split()
    assert len(pids) == 1, f"{name} on {node}: {pids}"
    world.on(node, "kill", "-KILL", pids[0])


def stop_all(world):
    world.toolbox("pgjolt", "stop", "--all", timeout=60)


def test_kubelet_stopped(world):
    node = other_node(world)
    hold(world, node)
    stop_process(world, node, "kubelet")
    try:
        stop_all(world)
        world.wait_clean()
    finally:
        world.on(node, "setsid", "-f", "/run/kubelet.sh")


def test_containerd_restarted(world):
    node = other_node(world)
    hold(world, node)
    stop_process(world, node, "containerd")
    world.on(node, "setsid", "-f", "bash", "-c", "exec containerd -c /etc/containerd.toml >/run/containerd.log 2>&1 </dev/null")
    stop_all(world)
    world.wait_clean()


def test_api_server_stopped(world):
    node = other_node(world)
    hold(world, node, duration="20s")
    pid = world.on("cp", "pgrep", "-x", "kube-apiserver").strip()
    command = world.on("cp", "cat", f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
    world.on("cp", "kill", "-KILL", pid)
    try:
        world.wait_clean()      # while it is away: the coordinator in the toolbox, or the lease, ends them
    finally:
        world.on("cp", "setsid", "-f", "bash", "-c", 'exec "$@" >/dev/null 2>&1 </dev/null', "_", *command)
    wait_for("the API server is back", lambda: world.get("nodes"), 60)


def test_node_powered_off(world):
    node = other_node(world)
    stays = next(n for n in world.nodes if n != node)
    hold(world, node)
    lab.kubelab("off", node)
    world.wait_clean(nodes=[stays])
    lab.kubelab("on-again", node)
    world.wait_agents(180)
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 180)


# Removal.

def test_removed_in_the_middle_of_a_drill(world):
    node = other_node(world)
    hold(world, node)
    world.kubectl("delete", "-f", "-", stdin=world.objects, timeout=180)
    world.wait_clean()
    for one in world.nodes:
        assert not world.on(one, "sh", "-c", "ls /var/lib/pgjolt/journal | grep -v '^lock$' || true").strip()
    assert world.get("namespace", "pgjolt") is None
    assert not [o for kind in ("clusterrole", "clusterrolebinding", "priorityclass") for o in world.get(kind)
                if o["metadata"]["name"].startswith("pgjolt")]
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)


OWN_ONLY = ("kubelet", "containerd", "api_server", "powered_off")

if __name__ == "__main__":
    if lab.reason_to_skip():
        print(f"SKIPPED: {lab.reason_to_skip()}")
        sys.exit(77)
    tests = {name: value for name, value in globals().items()
             if lab.kubelab_script() or not any(word in name for word in OWN_ONLY)}
    suite.main(tests, lab.Cluster)
