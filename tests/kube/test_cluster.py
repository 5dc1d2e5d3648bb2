"""pgjolt on a real Kubernetes of two nodes, as its users have it: from the manifests and the image, through the toolbox pod,
against three members of Patroni whose store is Kubernetes itself."""
# labels: alone
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import suite        # noqa: E402
import callers      # noqa: E402
import cnpg         # noqa: E402
import lab          # noqa: E402
import losses       # noqa: E402
import reports      # noqa: E402
import ways         # noqa: E402
from lab import wait_for    # noqa: E402

CLUSTER = "shop/orders"


def run_drill(world, drill, *words, may_fail=()):
    """Its report; passed, or of what was expected only may_fail did not hold."""
    before = world.primary()
    world.toolbox("rm", "-rf", "/runs/drill")
    r = world.toolbox("pgjolt", "run", drill, "--cluster", CLUSTER, "--out", "/runs/drill", *words, check=False)
    assert r.returncode in (0, 1), f"{drill}: {r.returncode}\n{r.stdout[-5000:]}{r.stderr[-2000:]}"
    report = json.loads(world.toolbox("cat", "/runs/drill/report.json"))
    page = world.toolbox("cat", "/runs/drill/report.html")
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)
    try:
        reports.check(world, report, drill, before, may_fail)
        for o in world.pods():
            assert o["metadata"]["name"] in page and o["spec"]["nodeName"] in page, "pods and nodes in report.html"
    except AssertionError:
        print(r.stdout[-5000:], flush=True)
        raise
    return report


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
    assert len({o["spec"]["nodeName"] for o in pods.values()}) >= 2, "the members are not spread"


# Drills, through the toolbox.

def test_partition_primary(world):
    report = run_drill(world, "partition-primary")
    assert report["write_ttr_ms"] > 5000, report["write_ttr_ms"]


test_kill_primary_by_the_plugin = ways.test_kill_primary_by_the_plugin


def test_wal_disk_stall(world):
    report = run_drill(world, "wal-disk-stall", "--set", "duration=8s")
    assert report["redundancy"] == "kept", report["redundancy"]


def test_clock_jump_forward_past_ttl(world):
    # Patroni 3.0 plans its next round by the time of day: when the clock goes back it sleeps past its lock's end. That is
    # what the drill is for; here it must be told, and cost nothing that was acknowledged.
    run_drill(world, "clock-jump-forward-past-ttl", "--set", "duration=10s", may_fail=("writeDowntime", "writeTtr", "promoted"))


def test_partition_primary_from_apiserver(world):
    run_drill(world, "partition-primary-from-apiserver")


test_one_run_at_a_time = ways.test_one_run_at_a_time
test_cronjob_is_taken_by_the_server = ways.test_cronjob_is_taken_by_the_server


# Who may do what.

inject = callers.inject
test_caller_without_the_right_is_refused = callers.test_caller_without_the_right_is_refused
test_token_for_another_audience_is_refused = callers.test_token_for_another_audience_is_refused
test_right_in_another_namespace_does_not_serve = callers.test_right_in_another_namespace_does_not_serve
test_namespace_that_did_not_opt_in_is_refused = callers.test_namespace_that_did_not_opt_in_is_refused
test_expired_certificate_is_refused = callers.test_expired_certificate_is_refused
test_foreign_certificate_is_refused = callers.test_foreign_certificate_is_refused
test_request_sent_again_is_refused = callers.test_request_sent_again_is_refused
test_certificates_are_renewed_without_a_restart = ways.test_certificates_are_renewed_without_a_restart
test_kill_switch = losses.test_kill_switch
test_kill_switch_by_its_config_map_alone = losses.test_kill_switch_by_its_config_map_alone


def agents_logs(world):
    return "\n".join(lab.AgentsLog(world).before.values())


TWO = """
drill: two
summary: A fault on each of two instances
vars: {one: none, other: none}
steps:
  - parallel:
      - {inject: proc-freeze, target: "${one}", for: 3s, mayMiss: true, params: {processes: titles, titles: [checkpointer]}}
      - {inject: proc-freeze, target: "${other}", for: 3s, mayMiss: true, params: {processes: titles, titles: [checkpointer]}}
  - {wait: reverted, limit: 1m}
"""


def test_share_of_the_cluster(world):
    """Two agents, each with members of its own: one of three at once."""
    by_node = {o["spec"]["nodeName"]: f"shop/{o['metadata']['name']}" for o in world.pods()}
    one, other = sorted(by_node.values())[:2]
    world.toolbox("sh", "-c", "cat >/tmp/two.yaml", stdin=TWO)

    def run():
        r = world.toolbox("pgjolt", "run", "/tmp/two.yaml", "--cluster", CLUSTER, "--set", f"one={one}", "--set", f"other={other}",
                          check=False)
        return r.returncode, r.stdout + r.stderr

    code, said = run()
    assert code == 0, said
    assert not world.claims(), world.claims()       # where no bound holds nothing is claimed
    world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share=50%")
    try:
        # Each agent hears of the annotation by itself.
        code, said = wait_for("the bound is known", lambda: (lambda r: r[0] != 0 and r)(run()), 60)
        assert "1 of 3 instances of cluster shop/orders is under fault" in said, said
        assert "annotation pgjolt.io/max-share" in said, said
        world.wait_clean()
        wait_for("claims are given back", lambda: not world.claims(), 30)
        for target in (one, other):     # one after the other
            r = inject(world, target=target)
            assert r.returncode == 0, r.stdout + r.stderr
    finally:
        world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share-")
    wait_for("claims are given back", lambda: not world.claims(), 30)
    assert re.search(r"audit: .*409, .*1 of 3 instances of cluster shop/orders", agents_logs(world))
    world.wait_clean()
    # Who drills cannot lift the bound: neither take claims away nor change them.
    toolbox = "--as=system:serviceaccount:pgjolt:pgjolt-toolbox"
    world.kubectl("-n", "pgjolt", "create", "configmap", "pgjolt-share-none.none", "--from-literal=claims={}", toolbox)
    try:
        for words in (("delete", "configmap", "pgjolt-share-none.none"),
                      ("patch", "configmap", "pgjolt-share-none.none", "--type=merge", "-p", '{"data": {"claims": "{}"}}'),
                      ("label", "configmap", "pgjolt-share-none.none", "a=b")):
            r = world.kubectl("-n", "pgjolt", *words, toolbox, check=False)
            assert r.returncode != 0 and "orbidden" in r.stderr, r.stdout + r.stderr
    finally:
        world.kubectl("-n", "pgjolt", "delete", "configmap", "pgjolt-share-none.none")


test_cloudnativepg_is_read_through_a_failover = cnpg.test_cloudnativepg_is_read_through_a_failover


# What is lost while faults are active.

test_agent_deleted_by_force = losses.test_agent_deleted_by_force
test_coordinator_killed = losses.test_coordinator_killed
test_toolbox_deleted_by_force = losses.test_toolbox_deleted_by_force
test_kubelet_stopped = losses.test_kubelet_stopped
test_containerd_restarted = losses.test_containerd_restarted
test_api_server_stopped = losses.test_api_server_stopped
test_node_powered_off = losses.test_node_powered_off
test_removed_in_the_middle_of_a_drill = losses.test_removed_in_the_middle_of_a_drill

if __name__ == "__main__":
    if lab.reason_to_skip():
        print(f"SKIPPED: {lab.reason_to_skip()}")
        sys.exit(77)
    tests = dict(globals())
    if not lab.kubelab_script():
        for test in losses.OWN_ONLY:
            print(f"SKIPPED {tests.pop(test.__name__).__name__}: it breaks nodes, so it needs PGJOLT_KUBELAB")
    suite.main(tests, lab.Cluster)
