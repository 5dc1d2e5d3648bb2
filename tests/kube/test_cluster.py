"""pgjolt on a real Kubernetes of two nodes, as its users have it: from the manifests and the image, through the toolbox pod,
against three members of Patroni whose store is Kubernetes itself."""
# labels: alone
import base64
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cnpg         # noqa: E402
import lab          # noqa: E402
import suite        # noqa: E402
import ways         # noqa: E402
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


def run_drill(world, drill, *words, may_fail=()):
    """Its report; passed, or of what was expected only may_fail did not hold."""
    world.toolbox("rm", "-rf", "/runs/drill")
    r = world.toolbox("pgjolt", "run", drill, "--cluster", CLUSTER, "--out", "/runs/drill", *words, check=False)
    assert r.returncode in (0, 1), f"{drill}: {r.returncode}\n{r.stdout[-5000:]}{r.stderr[-2000:]}"
    report = json.loads(world.toolbox("cat", "/runs/drill/report.json"))
    missed = [reason for reason in report["reasons"] if not any(word in reason for word in may_fail)]
    assert not missed and (report["verdict"] == "passed" or may_fail), f"{missed}\n{r.stdout[-5000:]}"
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


test_kill_primary_by_the_plugin = ways.test_kill_primary_by_the_plugin


def test_wal_disk_stall(world):
    report = run_drill(world, "wal-disk-stall", "--set", "duration=8s")
    assert report["new_primary"] in (None, report["old_primary"]), report["new_primary"]
    assert all(f["hits"] > 0 for f in report["faults"]), report["faults"]


def test_clock_jump_forward_past_ttl(world):
    # Patroni 3.0 plans its next round by the time of day: when the clock goes back it sleeps past its lock's end. That is
    # what the drill is for; here it must be told, and cost nothing that was acknowledged.
    report = run_drill(world, "clock-jump-forward-past-ttl", "--set", "duration=10s",
                       may_fail=("writeDowntime", "writeTtr", "promoted"))
    assert all(f["hits"] > 0 for f in report["faults"]), report["faults"]


def test_partition_primary_from_apiserver(world):
    run_drill(world, "partition-primary-from-apiserver")


test_one_run_at_a_time = ways.test_one_run_at_a_time
test_cronjob_is_taken_by_the_server = ways.test_cronjob_is_taken_by_the_server


# Who may do what.

SMALL = ("proc-freeze", "--processes", "titles", "--titles", "checkpointer", "--for", "2s")


def inject(world, *words, target=None):
    """One small fault on a replica, or whatever is said: its exit code and words."""
    target = target or next(f"shop/{o['metadata']['name']}" for o in world.pods()
                            if o["metadata"]["labels"]["role"] != "master")
    return world.toolbox("pgjolt", "inject", SMALL[0], "--target", target, *SMALL[1:], *words, check=False, timeout=60)


def refused(world, r, *words):
    assert r.returncode != 0, r.stdout
    said = r.stdout + r.stderr
    assert any(word in said for word in words), said
    world.wait_clean(10)


def agents_logs(world):
    return "\n".join(world.kubectl("-n", "pgjolt", "logs", o["metadata"]["name"])
                     for o in world.pods("pgjolt", "component=agent"))


def account(world, namespace, name):
    """Options by which a caller in the toolbox is that service account: a kubeconfig with a token for the API server, whose
    pgjolt may also read the cluster, and a file with one for agents."""
    world.kubectl("-n", namespace, "create", "serviceaccount", name)
    world.kubectl("create", "clusterrolebinding", f"test-{name}", "--clusterrole=pgjolt-toolbox",
                  f"--serviceaccount={namespace}:{name}")
    world.kubectl("-n", "pgjolt", "create", "rolebinding", f"{namespace}-{name}", "--role=pgjolt-toolbox",
                  f"--serviceaccount={namespace}:{name}")
    world.kubectl("apply", "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"kubernetes.io/service-account.name": name}}}))
    data = wait_for("a token", lambda: (world.get("-n", namespace, "secret", name) or {}).get("data", {}), 30)
    server = world.get("service", "kubernetes")["spec"]["clusterIP"]
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "it",
              "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
              "clusters": [{"name": "it", "cluster": {"server": f"https://{server}", "certificate-authority-data": data["ca.crt"]}}],
              "users": [{"name": "it", "user": {"token": base64.b64decode(data["token"]).decode()}}]}
    world.toolbox("sh", "-c", f"umask 077; cat >/tmp/{name}.json", stdin=json.dumps(config))
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
             "spec": {"audiences": ["pgjolt.io"], "expirationSeconds": 3600}}
    answer = world.kubectl("create", "--raw", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", "-f", "-",
                           stdin=json.dumps(asked))
    world.toolbox("sh", "-c", f"umask 077; cat >/tmp/{name}.token", stdin=json.loads(answer)["status"]["token"])
    return "--kubeconfig", f"/tmp/{name}.json", "--token-file", f"/tmp/{name}.token"


def test_caller_without_the_right_is_refused(world):
    caller = account(world, "pgjolt", "stranger")
    refused(world, inject(world, *caller), "may not create", "not allowed", "may not")
    log = agents_logs(world)
    assert "system:serviceaccount:pgjolt:stranger" in log and "403" in log, log[-3000:]


def test_token_for_another_audience_is_refused(world):
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    refused(world, inject(world, "--token-file", token), 'audience "pgjolt.io"')
    assert re.search(r"audit: .*401, the token is refused: a token for the audience", agents_logs(world))


def test_right_in_another_namespace_does_not_serve(world):
    world.kubectl("create", "namespace", "elsewhere")
    caller = account(world, "elsewhere", "neighbour")
    world.kubectl("-n", "elsewhere", "create", "rolebinding", "may", "--clusterrole=pgjolt-operator",
                  "--serviceaccount=elsewhere:neighbour")
    refused(world, inject(world, *caller), "may not create", "not allowed", "may not")
    assert "system:serviceaccount:elsewhere:neighbour" in agents_logs(world)
    world.kubectl("-n", "shop", "create", "rolebinding", "neighbour", "--clusterrole=pgjolt-operator",
                  "--serviceaccount=elsewhere:neighbour")
    # The refusal is kept for 5 s.
    wait_for("the right serves", lambda: inject(world, *caller).returncode == 0, 30)
    world.wait_clean()


def test_namespace_that_did_not_opt_in_is_refused(world):
    world.kubectl("label", "namespace", "shop", "pgjolt.io/enabled-")
    try:
        wait_for("the label's loss is known", lambda: inject(world).returncode != 0, 20)
        refused(world, inject(world), "pgjolt.io/enabled")
    finally:
        world.kubectl("label", "namespace", "shop", "pgjolt.io/enabled=true")
    wait_for("the label is known", lambda: inject(world).returncode == 0, 20)


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
    one, other = sorted(by_node.values())
    world.toolbox("sh", "-c", "cat >/tmp/two.yaml", stdin=TWO)

    def run():
        r = world.toolbox("pgjolt", "run", "/tmp/two.yaml", "--cluster", CLUSTER, "--set", f"one={one}", "--set", f"other={other}",
                          check=False)
        return r.returncode, r.stdout + r.stderr

    def claims():
        return [o["metadata"]["name"] for o in world.get("-n", "pgjolt", "configmaps")
                if o["metadata"]["name"].startswith("pgjolt-share-")]
    code, said = run()
    assert code == 0, said
    assert not claims(), claims()       # where no bound holds nothing is claimed
    world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share=50%")
    try:
        # Each agent hears of the annotation by itself.
        code, said = wait_for("the bound is known", lambda: (lambda r: r[0] != 0 and r)(run()), 60)
        assert "1 of 3 instances of cluster shop/orders is under fault" in said, said
        assert "annotation pgjolt.io/max-share" in said, said
        world.wait_clean()
        wait_for("claims are given back", lambda: not claims(), 30)
        for target in (one, other):     # one after the other
            r = inject(world, target=target)
            assert r.returncode == 0, r.stdout + r.stderr
    finally:
        world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share-")
    wait_for("claims are given back", lambda: not claims(), 30)
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


def test_foreign_and_expired_certificates_are_refused(world):
    foreign = lab.Authority(os.path.join(world.folder, "foreign"))
    for authority, days in ((foreign, 30), (world.authority, -1)):
        for path, name in zip(authority.issue("pgjolt-client", days), ("crt", "key")):
            with open(path, encoding="utf-8") as f:
                world.toolbox("sh", "-c", f"umask 077; cat >/tmp/bad.{name}", stdin=f.read())
        refused(world, inject(world, "--tls-ca", "/etc/pgjolt/tls/ca.crt", "--tls-cert", "/tmp/bad.crt",
                              "--tls-key", "/tmp/bad.key"), "certificate", "401", "403")
    log = agents_logs(world)
    assert re.search(r"certificate.*(401|refused|expired|not signed|unknown|signer)", log), log[-3000:]


REPLAY = r"""
import json, ssl, sys, urllib.request
address, token, pod = sys.argv[1:]
tls = ssl.create_default_context(cafile="/tmp/tls/ca.crt")
tls.check_hostname = False
tls.load_cert_chain("/tmp/tls/tls.crt", "/tmp/tls/tls.key")
def send(path, body=None, method="POST"):
    request = urllib.request.Request(f"https://{address}:7420{path}", method=method, headers={
        "Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        data=json.dumps(body).encode() if body else None)
    try:
        return urllib.request.urlopen(request, context=tls, timeout=20).status
    except urllib.error.HTTPError as e:
        return e.code
arm = {"experiment": "again-1", "run": "again", "fault": "proc-freeze", "instance": pod, "duration_ms": 5000, "lease_ms": 5000,
       "params": {"processes": "titles", "titles": ["checkpointer"]}}
first = send("/v1/experiments", arm)
gone = send("/v1/experiments/again-1/revert")
import time
for _ in range(50):
    again = send("/v1/experiments", arm)
    if again not in (200, 201):
        break
    time.sleep(0.2)
print(first, gone, again, send("/v1/experiments/again-1/fire"))
"""


def test_request_sent_again_is_refused(world):
    """By somebody who has all: certificate, token, and the very words."""
    o = next(o for o in world.pods() if o["metadata"]["labels"]["role"] != "master")
    agent = next(a for a in world.pods("pgjolt", "component=agent") if a["spec"]["nodeName"] == o["spec"]["nodeName"])
    sender = f"shop/{world.primary()}".split("/")[1]
    token = world.toolbox("cat", "/var/run/secrets/pgjolt.io/token")
    files = {"ca.crt": world.authority.ca, "tls.crt": os.path.join(world.authority.folder, "pgjolt-client.crt"),
             "tls.key": os.path.join(world.authority.folder, "pgjolt-client.key")}
    world.authority.issue("pgjolt-client")
    for name, path in files.items():
        with open(path, encoding="utf-8") as f:
            world.kubectl("-n", "shop", "exec", "-i", sender, "--", "sh", "-c", f"mkdir -p /tmp/tls; cat >/tmp/tls/{name}",
                          stdin=f.read())
    answer = world.kubectl("-n", "shop", "exec", "-i", sender, "--", "python3", "-", agent["status"]["podIP"], token,
                           f"shop/{o['metadata']['name']}", stdin=REPLAY).split()
    assert answer[:2] == ["201", "200"] and answer[2] in ("409", "403"), answer
    assert answer[3] != "200", answer
    world.wait_clean(20)
    assert "again-1" in agents_logs(world)


def test_kill_switch(world):
    node = other_node(world)
    hold(world, node)
    world.toolbox("pgjolt", "stop", "--all", "--lock", "incident 4711", timeout=60)
    world.wait_clean(20)
    refused(world, inject(world), "incident 4711")
    assert world.get("-n", "pgjolt", "configmap", "pgjolt-stop")["data"]["stop"] == "true"
    world.toolbox("pgjolt", "stop", "--unlock", timeout=60)
    wait_for("faults are taken again", lambda: inject(world).returncode == 0, 30)


test_certificates_are_renewed_without_a_restart = ways.test_certificates_are_renewed_without_a_restart


test_cloudnativepg_is_read_through_a_failover = cnpg.test_cloudnativepg_is_read_through_a_failover


# What is lost while faults are active. Nothing may stay in any pod.

# What leftovers() says while they are: of nodes that can be looked at, and of what agents tell.
HELD = ("programs on eth0", "traced", "journal", "cfs_quota")
TOLD = tuple(f"{fault} on {{pod}}: active" for fault in ("net-partition", "cpu-throttle", "proc-freeze"))


def hold(world, node, duration="60s"):
    """Faults on a pod of that node, by a coordinator in the background; returns when they are active."""
    world.wait_agents()
    wait_for("no other run is under way", lambda: "pgjolt run" not in world.toolbox("ps", check=False).stdout, 90)
    wait_for("the cluster is whole", world.patroni_is_whole, 120)
    pods = sorted(world.pods(), key=lambda o: o["metadata"]["labels"]["role"] == "master")
    pod = next(o["metadata"]["name"] for o in pods if o["spec"]["nodeName"] == node)
    world.toolbox("sh", "-c", "cat >/tmp/hold.yaml", stdin=HOLD)
    command = ("pgjolt", "run", "/tmp/hold.yaml", "--cluster", CLUSTER, "--set", f"pod=shop/{pod}", "--set",
               f"duration={duration}")
    world.start(*command)

    def active():
        seen = "\n".join(world.leftovers([node]))
        if all(word.format(pod=f"shop/{pod}") in seen for word in (HELD if world.own else TOLD)):
            return True
        if world.background[-1].poll() is not None:     # refused: what the case before broke is just coming back
            world.start(*command)
        return False
    wait_for(f"three faults on {pod}", active, 90, every=1)
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
    # The run hears of it from the pod that comes next: aborted, and known to be clean.
    code = world.background[-1].wait(200)
    with open(os.path.join(world.folder, "background.log"), encoding="utf-8") as log:
        said = log.read()[-3000:]
    assert code == 4 and ("its successor reports nothing left" in said or "reverted (shutdown), verified clean" in said), \
        f"{code}: {said}"
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
    world.wait_agents()     # kubelet counts them as not ready until it has found the runtime again
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
    if world.own:
        world.wait_clean()
    for one in world.nodes if world.own else []:
        assert not world.on(one, "sh", "-c", "ls /var/lib/pgjolt/journal | grep -vx 'lock\\|ids' || true").strip()
    assert world.get("namespace", "pgjolt") is None
    assert not [o for kind in ("clusterrole", "clusterrolebinding", "priorityclass") for o in world.get(kind)
                if o["metadata"]["name"].startswith("pgjolt")]
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)


# These stop kubelets, runtimes, API servers and nodes: on a cluster of our own alone.
OWN_ONLY = (test_kubelet_stopped, test_containerd_restarted, test_api_server_stopped, test_node_powered_off)

if __name__ == "__main__":
    if lab.reason_to_skip():
        print(f"SKIPPED: {lab.reason_to_skip()}")
        sys.exit(77)
    tests = dict(globals())
    if not lab.kubelab_script():
        for test in OWN_ONLY:
            print(f"SKIPPED {tests.pop(test.__name__).__name__}: it breaks nodes, so it needs PGJOLT_KUBELAB")
    suite.main(tests, lab.Cluster)
