"""pgjolt's verbs in a Kubernetes of a test's own, with agents that only talk: stop by ids, the lock, nodes, and what keeps a
run from beginning."""
import copy
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import suite  # noqa: E402
from harness.in_pod import in_pod  # noqa: E402
from test_agents import NOT_READY, PGJOLT, World, pgjolt  # noqa: E402

CLUSTER = "shop/pjkube"
STATEFUL = {"ownerReferences": [{"kind": "StatefulSet", "name": "pjkube", "controller": True}]}
LABELS = {"app": "pjkube", "tier": "db"}


def experiment(name, **more):
    return {"experiment": name, "run": "run-1", "fault": "proc-freeze", "instance": "c/n", "state": "active", "armed_ns": 1,
            "end_reason": "none", "hits": 1, "lifetime": "held", **more}


def reverts(agent, name):
    return agent.was_asked(f"/v1/experiments/{name}/revert", "POST")


def test_stop_by_ids(world):
    with world.fakes(3) as agents:
        for agent in agents:
            world.put(agent.name, agent.address, agent.port)
        agents[1].armed, agents[2].armed = experiment("x-1"), experiment("x-2")
        out, err = pgjolt("stop", "x-1", *world.cluster())
        assert (out, err) == ("Reverted; the nodes are clean.\n", ""), out + err
        assert [reverts(a, "x-1") for a in agents] == [1, 1, 1]
        # An unknown one, in whatever place, keeps none of the others.
        _, err = pgjolt("stop", "x-8", "x-1", "x-9", "x-2", *world.cluster(), code=2)
        for name in ("x-8", "x-9"):
            assert f'no agent knows experiment "{name}" (see `pgjolt status`)' in err, err
        assert reverts(agents[1], "x-1") == 2 and reverts(agents[2], "x-2") == 1
        # One that is no id is a slip of the keyboard: nothing was done yet.
        _, err = pgjolt("stop", "x-1", "X/1", *world.cluster(), code=2)
        assert '"X/1" is no experiment\'s id' in err and reverts(agents[1], "x-1") == 2, err
        # What is left counts for more than what was not found.
        agents[2].ends = "stuck"
        for ids in (("x-2", "x-1"), ("x-9", "x-2"), ("x-2", "x-9")):
            out, err = pgjolt("stop", *ids, *world.cluster(), code=5)
            assert "1 experiment could not be reverted" in err and "clean" not in out, out + err
            assert ('"x-9"' in err) == ("x-9" in ids), err
        assert json.loads(pgjolt("stop", "x-2", "--json", *world.cluster(), code=5)[0]) == {"left": 1, "unknown": 0, "agents": []}
        # Whoever could not be asked might have known it.
        agents[0].fails["/v1/experiments/x-9/revert"] = "the disk is gone"
        assert "the disk is gone" in pgjolt("stop", "x-9", *world.cluster(), code=4)[1]
        world.put("n3", "127.1.0.99", agents.port)
        out, err = pgjolt("stop", "x-1", *world.cluster())
        assert "warning: agent-n3 was not asked: " in err and "clean" in out, err


SWITCH = ("pgjolt", "pgjolt-stop")


def heeds(reason, switch=SWITCH):
    """What an agent says of its node while it heeds the lock."""
    return {"accepting": False, "reason": f"the kill switch (ConfigMap {switch[0]}/{switch[1]}) is on: {reason}"}


def test_lock(world):
    with world.fakes(1) as agents:
        world.put("n0", agents[0].address, agents[0].port)
        assert pgjolt("stop", "--unlock", *world.cluster())[0] == "It was not locked.\n"
        assert SWITCH not in world.api.objects["configmaps"]
        for reason in ("sale today", "and tomorrow"):
            agents[0].more = heeds(reason)
            out, _ = pgjolt("stop", "--all", "--lock", reason, *world.cluster())
            assert "The lock is written (ConfigMap pgjolt/pgjolt-stop).\n" in out, out
            assert "Locked: 1 agent takes no fault until `pgjolt stop --unlock`.\n" in out, out
            data = world.api.objects["configmaps"][SWITCH]["data"]
            assert (data["stop"], data["reason"]) == ("true", reason) and data["by"] and data["at"].endswith("Z"), data
        assert agents[0].was_asked("/v1/revert") == 2
        assert pgjolt("stop", "--unlock", *world.cluster())[0] == "Unlocked: agents take faults again.\n"
        data = world.api.objects["configmaps"][SWITCH]["data"]
        assert data["stop"] == "false" and "reason" not in data, data
        assert agents[0].was_asked("/v1/revert") == 2, "nothing is stopped by unlocking"
        # Who may not lock is told, and may stop what there is without it.
        world.api.refused.add(("PATCH", "pgjolt-stop"))
        try:
            for words in (("--all", "--lock", "x"), ("--unlock",)):
                _, err = pgjolt("stop", *words, *world.cluster(), code=3)
                assert "kill switch" in err and "forbidden" in err, err
            assert agents[0].was_asked("/v1/revert") == 2
        finally:
            world.api.refused.clear()
    # No agent is needed to unlock.
    pgjolt("stop", "--unlock", *world.cluster())


def test_agents_that_do_not_heed_the_lock(world):
    with world.fakes(4) as agents:
        for agent in agents:
            world.put(agent.name, agent.address, agent.port)
            world.api.put("nodes", agent.name)
        agents[0].more = heeds("x")
        # One that hears of it later is waited for; one that never does, and one of another lock, are named.
        agents[1].more_after = (3, heeds("x"))
        agents[3].more = heeds("x", ("other", "pgjolt-stop"))
        out, err = pgjolt("stop", "--all", "--lock", "x", *world.cluster(), code=5)
        assert agents[1].was_asked("/v1/node") >= 3
        assert "n2: does not heed the lock: it takes faults, so it does not watch ConfigMap pgjolt/pgjolt-stop\n" in out, out
        assert "n3: it is not known whether it heeds the lock: it takes no faults now, since the kill switch (ConfigMap other/" in out, out
        assert "Locked: 2 agents take no fault" in out and "2 agents are not known to heed the lock" in err, out + err
        assert not [line for line in out.splitlines() if "heed" in line and line[:2] in ("n0", "n1")], out
        said = json.loads(pgjolt("stop", "--all", "--lock", "x", "--json", *world.cluster(), code=5)[0])
        assert (said["unheeding"], [a["locked"] for a in said["agents"]]) == (2, [True, True, False, False]), said
        # Without the lock nobody is asked for it.
        said = json.loads(pgjolt("stop", "--all", "--json", *world.cluster())[0])
        assert "unheeding" not in said and "locked" not in said["agents"][0], said
        # One that cannot be asked counts as such.
        agents[2].fails["/v1/node"] = "out of memory"
        agents[2].more = agents[3].more = heeds("x")
        out, err = pgjolt("stop", "--all", "--lock", "x", *world.cluster(), code=5)
        assert "n2 (pod agent-n2): not reached" in out and "Locked: 3 agents" in out, out + err
    pgjolt("stop", "--unlock", *world.cluster())


def test_in_a_pod_the_agents_are_in_its_namespace(world):
    """Where the chart was installed in another namespace: agents, the lock, the lock of runs, and Secrets."""
    def here(*words, code=0, space="drills", **environment):
        r = subprocess.run(in_pod(world.folder, world.api, world.authority.path("ca.crt"), space) +
                           ["env", *(f"{k}={v}" for k, v in environment.items()), PGJOLT, *words],
                           capture_output=True, text=True, timeout=90, check=False)
        assert r.returncode == code, f"{words}: {r.returncode}\n{r.stdout}{r.stderr}"
        return r.stdout, r.stderr
    with world.fakes(3) as agents:
        stateful(world, agents, "drills")
        assert here("targets", "--names", *world.tls())[0].split() == [f"shop/pjkube-{i}" for i in range(3)]
        for agent in agents:
            agent.more = heeds("x", ("drills", "pgjolt-stop"))
        out, _ = here("stop", "--all", "--lock", "x", *world.tls())
        assert "(ConfigMap drills/pgjolt-stop)" in out and "Locked: 3 agents" in out, out
        assert world.api.objects["configmaps"][("drills", "pgjolt-stop")]["data"]["stop"] == "true"
        here("stop", "--unlock", *world.tls())
        world.api.calls.clear()
        _, err = here("run", "kill-primary", "--cluster", CLUSTER, "--out", os.path.join(world.folder, "run"), *world.tls(), code=3)
        assert "takes no faults now: the kill switch (ConfigMap drills/pgjolt-stop)" in err, err
        leases = {path for method, path in world.api.calls if method != "GET" and "/leases" in path}
        assert leases and all("/namespaces/drills/leases" in path for path in leases), world.api.calls
        assert here("certs")[0].count("namespace: drills\n") == 3
        # What is said counts for more; and a kubeconfig's cluster may be another than the pod's.
        for words, environment in ((("--agents-namespace", "pgjolt"), {}), ((), {"PGJOLT_AGENTS_NAMESPACE": "pgjolt"}),
                                   (("--kubeconfig", world.config), {})):
            _, err = here("targets", *words, *world.tls(), code=3, **environment)
            assert "no agent runs in namespace pgjolt" in err, err
    forget(world)


def test_nodes(world):
    with world.fakes(3) as agents:
        for agent in agents:
            world.put(agent.name, agent.address, agent.port)
            world.api.put("nodes", agent.name)
        agents[1].more = {"accepting": False, "reason": "the kill switch is on"}
        agents[2].more = {"capabilities": [{"fault": "dns", "supported": False, "reason": "no tun"}]}
        world.put("n3", "127.1.0.99", agents.port)
        world.put("n4", None, 1, conditions=NOT_READY)
        for name in ("n3", "n4", "n5"):
            world.api.put("nodes", name)
        out, err = pgjolt("nodes", *world.cluster())
        rows = [line.split() for line in out.splitlines() if " yes " in line or " no " in line]
        assert ["n0", "proc-kill", "yes", "signal", "-"] in rows and ["n2", "dns", "no", "-", "no", "tun"] in rows, out
        for line in ("\nn0: Linux 6.18 x86_64, agent 1\n", "\nn1: Linux 6.18 x86_64, agent 1, takes no faults now: the kill switch is on\n",
                     "\nn3: no agent: pod agent-n3: ", "\nn4: no agent: pod agent-n4: ", "\nn5: no agent: no agent's pod is there (taints?"):
            assert line in out, f"{line}\n{out}"
        assert "no agent on node n3: pod pgjolt/agent-n3: " in err, err
        nodes = {n["name"]: n for n in json.loads(pgjolt("nodes", "--json", *world.cluster())[0])}
        assert set(nodes) == {f"n{i}" for i in range(6)}
        assert not nodes["n1"]["accepting"] and nodes["n5"]["reason"].startswith("no agent's pod"), nodes
        # Who names an agent asks for it alone.
        named = ["--agent", f"https://{agents[0].address}:{agents.port}", "--tls-server-name", "pgjolt-agent"]
        assert [n["name"] for n in json.loads(pgjolt("nodes", "--json", *named, *world.tls())[0])] == ["n0"]
        # One that fails is named with its words.
        agents[0].fails["/v1/node"] = "out of memory"
        world.api.delete("pods", "agent-n1", "pgjolt")
        _, err = pgjolt("nodes", *named, *world.tls(), code=4)
        assert "out of memory" in err, err


# ---- a StatefulSet that nobody manages ----

def stateful(world, agents, space="pgjolt"):
    """Three pods, the first of which is the primary; one agent a node, in that namespace."""
    world.api.put("statefulsets", "pjkube", "shop", spec={"selector": {"matchLabels": LABELS}})
    for i, agent in enumerate(agents):
        pod = f"pjkube-{i}"
        world.put(agent.name, agent.address, agent.port, space=space)
        world.api.put("pods", pod, "shop", labels=LABELS, metadata=copy.deepcopy(STATEFUL), spec={"nodeName": agent.name},
                      status={"phase": "Running", "podIP": f"10.9.0.{i}", "conditions": [{"type": "Ready", "status": "True"}]})
        agent.instances = [{"name": f"shop/{pod}", "cluster": CLUSTER, "member": pod, "node": agent.name, "pid": 1, "port": 5432,
                            "role": "replica" if i else "primary", "addresses": [f"10.9.0.{i}"], "namespace": "shop", "pod": pod}]
    for name, ip, behind in (("pjkube-rw", "10.96.0.1", "0"), ("pjkube-ro", "10.96.0.2", "12"), ("pjkube", "None", "012")):
        world.api.put("services", name, "shop", spec={"clusterIP": ip, "ports": [{"name": "pg", "port": 5432}], "selector": LABELS})
        world.api.put("endpointslices", name, "shop", labels={"kubernetes.io/service-name": name}, addressType="IPv4",
                      ports=[{"name": "pg", "port": 5432}],
                      endpoints=[{"addresses": [f"10.9.0.{i}"], "conditions": {"ready": True}} for i in behind])


def change(world, kind, name, **fields):
    """Of an object's spec or status."""
    item = copy.deepcopy(world.api.objects[kind][("shop", name)])
    for key, value in fields.items():
        item[key] = {**item.get(key, {}), **value}
    meta = item.pop("metadata")
    world.api.put(kind, name, "shop", meta["labels"], metadata={k: meta[k] for k in ("ownerReferences", "deletionTimestamp") if k in meta},
                  **item)


def refused(world, *said, words=("kill-primary",), code=3):
    out, err = pgjolt("run", *words, "--cluster", CLUSTER, "--out", os.path.join(world.folder, "run"), *world.cluster(), code=code)
    for part in said:
        assert part in err, f"{part}\n{out}{err}"
    assert not os.path.exists(os.path.join(world.folder, "run"))
    assert not world.api.objects["leases"], "the cluster stays locked"


def forget(world):
    for kind in ("statefulsets", "services", "endpointslices", "secrets"):
        world.api.objects[kind].clear()
    try:
        os.unlink("/run/pgjolt/run-shop%2Fpjkube.lock")
    except FileNotFoundError:
        pass


def test_plan_of_a_stateful_set(world):
    with world.fakes(3) as agents:
        stateful(world, agents)
        try:
            plan = json.loads(pgjolt("run", "kill-primary", "--dry-run", "--json", "--cluster", CLUSTER, *world.cluster())[0])
            text = json.dumps(plan)
            assert "statefulset" in text and "shop/pjkube-0" in text, text
            out, _ = pgjolt("run", "kill-primary", "--dry-run", "--cluster", CLUSTER, *world.cluster())
            assert "shop/pjkube-0" in out, out
        finally:
            forget(world)


def test_what_keeps_a_run_from_beginning(world):
    with world.fakes(3) as agents:
        stateful(world, agents)
        try:
            # A member that no agent can see: its node has none; then one that does not answer.
            world.api.put("pods", "pjkube-3", "shop", labels=LABELS, metadata=copy.deepcopy(STATEFUL), spec={"nodeName": "n9"})
            refused(world, f"pod pjkube-3 of cluster {CLUSTER} runs on node n9, which is out of our sight: it has no agent")
            world.put("n9", "127.1.0.99", agents.port)
            refused(world, "node n9, which is out of our sight: its agent does not answer (pod agent-n9: ")
            # One that has ended, one on no node, or one of another owner is no such member.
            change(world, "pods", "pjkube-3", status={"phase": "Succeeded"})
            for name, owner, spec in (("pjkube-4", STATEFUL, {}), ("batch", {}, {"nodeName": "n9"})):
                world.api.put("pods", name, "shop", metadata=copy.deepcopy(owner), spec=spec)
            world.api.put("pods", "other-0", "shop", spec={"nodeName": "n9"},
                          metadata={"ownerReferences": [{"kind": "StatefulSet", "name": "other"}]})
            agents[2].more = {"accepting": False, "reason": "disk full"}
            refused(world, "node n2 takes no faults now: disk full")
            agents[2].more = {"capabilities": []}
            refused(world, "node n2 cannot do proc-kill: its agent does not know it")
            agents[2].more = {}
            # What its pods are counts, whatever the instances say.
            for name in ("pjkube-3", "pjkube-4"):
                world.api.delete("pods", name, "shop")
            change(world, "pods", "pjkube-1", status={"conditions": [{"type": "Ready", "status": "False"}]})
            refused(world, 'member pjkube-1 is "not ready", not running')
            change(world, "pods", "pjkube-1", status={"conditions": [{"type": "Ready", "status": "True"}]})
            agents[0].instances[0]["role"] = "replica"
            refused(world, f"cluster {CLUSTER} has no primary now")
            agents[0].instances[0]["role"] = "primary"
            agents[1].experiments = [experiment("x-1", instance="shop/pjkube-1")]
            refused(world, "x-1")
            agents[1].experiments = []
            # The set itself.
            world.api.put("statefulsets", "pjkube", "shop", spec={"selector": {"matchLabels": {}}})
            refused(world, "StatefulSet shop/pjkube: StatefulSet pjkube selects by no labels", code=4)
            world.api.delete("statefulsets", "pjkube", "shop")
            refused(world, "StatefulSet shop/pjkube: ", "pjkube not found", code=2)
        finally:
            forget(world)


def test_logins(world):
    """Out of a Secret: no word of it is told when it is no good."""
    with world.fakes(3) as agents:
        stateful(world, agents)
        try:
            world.api.put("secrets", "bad", "shop", data={"username": "YXBw", "password": "czNjcmV0!!"})
            for number, (secret, said) in enumerate((
                    ("shop/none", "Secret shop/none: Kubernetes API: none not found"), ("shop/a/b", "expected NAMESPACE/NAME"),
                    ("shop/bad", "Secret shop/bad: data.password is no text in Base64"))):
                out, err = pgjolt("run", "kill-primary", "--cluster", CLUSTER, "--user-secret", secret, "--out",
                                  os.path.join(world.folder, f"login-{number}"), *world.cluster(), code=2)
                assert said in err and "czNj" not in out + err, out + err
        finally:
            forget(world)


if __name__ == "__main__":
    suite.main(globals(), World, needs={"pgjolt": os.path.exists(PGJOLT)})
