"""Tests of test_cluster.py: what is lost, or stopped from outside, while faults are active. Nothing may stay in any pod."""
import json
import os
import re

import callers
import lab
from harness.agent import TIME_SCALE
from lab import wait_for

CLUSTER = "shop/orders"
FAULTS = ("net-partition", "cpu-throttle", "proc-freeze")
HOLD = """
drill: hold
summary: Several faults on one pod, or on each of several, until told to stop
steps:
  - parallel:
{injections}
  - {{wait: reverted, limit: 10m}}
recovery: {{limit: 1s}}
"""
INJECTIONS = """
      - {{inject: net-partition, target: "{pod}", for: "{duration}", mayMiss: true, params: {{peers: [instances]}}}}
      - {{inject: cpu-throttle, target: "{pod}", for: "{duration}", mayMiss: true, params: {{quota: 50%}}}}
      - inject: proc-freeze
        target: "{pod}"
        for: "{duration}"
        mayMiss: true
        params: {{processes: titles, titles: [checkpointer]}}
"""

# What leftovers() says while they are: of nodes that can be looked at, and of what agents tell.
HELD = ("{node}: programs on eth0", "{node}: process ", "{node}: journal", "{node}: /sys/fs/cgroup/")
TOLD = tuple(f"{fault} on {{pod}}: active" for fault in FAULTS)


def hold(world, *nodes, duration="60s"):
    """Three faults on a pod of each of those nodes, by a coordinator in the background; returns when they are active: the pods.
    duration: of all, or a list, a node each."""
    world.wait_agents()
    wait_for("no other run is under way", lambda: "pgjolt run" not in world.toolbox("ps", check=False).stdout, 90)
    wait_for("the cluster is whole", world.patroni_is_whole, 120)
    ordered = sorted(world.pods(), key=lambda o: o["metadata"]["labels"]["role"] == "master")
    pods = [next(f"shop/{o['metadata']['name']}" for o in ordered if o["spec"]["nodeName"] == node) for node in nodes]
    durations = [duration] * len(pods) if isinstance(duration, str) else duration
    injections = "\n".join(INJECTIONS.strip("\n").format(pod=pod, duration=d) for pod, d in zip(pods, durations))
    world.toolbox("sh", "-c", "cat >/tmp/hold.yaml", stdin=HOLD.format(injections=injections))
    command = ("pgjolt", "run", "/tmp/hold.yaml", "--cluster", CLUSTER)
    world.start(*command)

    def active():
        seen = "\n".join(world.leftovers(nodes))
        if all(word.format(pod=pod, node=node) in seen for word in (HELD if world.own else TOLD)
               for pod, node in zip(pods, nodes)):
            return True
        if world.background[-1].poll() is not None:     # refused: what the case before broke is just coming back
            world.start(*command)
        return False
    wait_for(f"three faults on each of {', '.join(pods)}", active, 90, every=1)
    return pods


def nodes_with_members(world):
    return sorted({o["spec"]["nodeName"] for o in world.pods()})


def other_node(world):
    """One without the toolbox, so that it can be spoken to whatever happens there."""
    box = next(o["spec"]["nodeName"] for o in world.pods("pgjolt", "component=toolbox"))
    return next(n for n in nodes_with_members(world) if n != box)


def wait_ended(log, pods, why, limit=20):
    """In the agents' own words: each of the faults on those pods was found clean, and what had ended it."""
    log.wait(*(rf"info: \S+: {fault} on {pod}: clean: {why}" for pod in pods for fault in FAULTS), limit=limit)


def end_of_run(world, limit):
    """The last one's exit code and what it said."""
    code = world.background[-1].wait(limit)
    with open(os.path.join(world.folder, "background.log"), encoding="utf-8") as log:
        log.seek(world.log_from)
        return code, log.read()[-6000:]


# Stopped from outside.

def test_kill_switch(world):
    pods = hold(world, other_node(world))
    log = lab.AgentsLog(world)
    try:
        world.toolbox("pgjolt", "stop", "--all", "--lock", "incident 4711", timeout=60)
        world.wait_clean(20)
        wait_ended(log, pods, "(stopped|requested)")
        callers.refused(world, callers.inject(world), "incident 4711")
        assert world.get("-n", "pgjolt", "configmap", "pgjolt-stop")["data"]["stop"] == "true"
        world.toolbox("pgjolt", "stop", "--unlock", timeout=60)
        wait_for("faults are taken again", lambda: callers.inject(world).returncode == 0, 30)
    finally:
        world.kubectl("-n", "pgjolt", "delete", "configmap", "pgjolt-stop", "--ignore-not-found")


def boot_seconds():
    with open("/proc/uptime", encoding="utf-8") as f:
        return float(f.read().split()[0])


def test_kill_switch_by_its_config_map_alone(world):
    """By whoever has kubectl and the right to write it; no pgjolt has a part in that."""
    stop = ("-n", "pgjolt", "patch", "configmap", "pgjolt-stop", "--type=merge", "-p")
    world.kubectl("-n", "pgjolt", "create", "configmap", "pgjolt-stop", "--from-literal=stop=false",
                  "--from-literal=reason=incident 4712")
    try:
        pods = hold(world, other_node(world))
        log = lab.AgentsLog(world)
        # One clock: that of this machine's kernel, which is the nodes', too.
        ended = world.toolbox_start("sh", "-c", "until pgjolt status | grep -q '^No experiment is under way'; do sleep 0.1; done; "
                                    "cat /proc/uptime")
        began = boot_seconds()
        world.kubectl(*stop, '{"data": {"stop": "true"}}')
        taken = boot_seconds()
        at = float(ended.communicate(timeout=60)[0].split()[0])
        world.wait_clean(20)
        wait_ended(log, pods, "stopped")
        log.wait(r"info: the kill switch \(ConfigMap pgjolt/pgjolt-stop\) is on: incident 4712: all faults are reverted, "
                 r"none is taken")
        if world.own:
            print(f"    reverted {at - taken:.2f} s after kubectl had returned, {at - began:.2f} s after it was begun", flush=True)
            # That an agent takes less than a second is tests/system/test_authorize.py's; here pgjolt has to be asked, too.
            assert began < at < taken + 5 * TIME_SCALE, f"{began}, {taken}: reverted at {at}"
        callers.refused(world, callers.inject(world), "incident 4712")
        world.kubectl(*stop, '{"data": {"stop": "false"}}')
        wait_for("faults are taken again", lambda: callers.inject(world).returncode == 0, 30)
    finally:
        world.kubectl("-n", "pgjolt", "delete", "configmap", "pgjolt-stop")


# What is lost.

def test_agent_deleted_by_force(world):
    node = other_node(world)
    hold(world, node)
    world.kubectl("-n", "pgjolt", "delete", "pod", world.pod_of("agent", node), "--force", "--grace-period=0")
    world.wait_clean()
    # The run hears of it from the pod that comes next: aborted, and known to be clean.
    code, said = end_of_run(world, 200)
    assert code == 4 and ("its successor reports nothing left" in said or "reverted (shutdown), verified clean" in said), \
        f"{code}: {said}"
    world.wait_agents()


def test_coordinator_killed(world):
    """Nobody is told: the leases end."""
    pods = hold(world, *nodes_with_members(world)[:2], duration="5m")
    log = lab.AgentsLog(world)
    world.toolbox("sh", "-c", "kill -KILL $(busybox pidof pgjolt)")
    world.wait_clean()
    wait_ended(log, pods, "lease")


def test_toolbox_deleted_by_force(world):
    """Without a second to revert: what its coordinator does not get to say, the leases do."""
    pods = hold(world, other_node(world), duration="5m")
    log = lab.AgentsLog(world)
    world.kubectl("-n", "pgjolt", "delete", "pod", world.pod_of("toolbox"), "--force", "--grace-period=0")
    if not world.own:
        world.wait_agents()     # who is asked there is the next toolbox
    world.wait_clean()
    wait_ended(log, pods, "(lease|requested)")
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


def call_from_node(world, o, files, token, *calls):
    """From that pod's node to its agent, since kubectl needs the server that is away: status and answer of each."""
    answers = world.on(o["spec"]["nodeName"], "/usr/bin/python3", "-",
                       callers.order(files, o["agent"], token, calls), stdin=callers.caller_script())
    return json.loads(answers)


def without_api_server(world):
    """What is there goes on and ends in time, nothing new is armed, a certificate reverts, and what was claimed is given back
    once the server is there again."""
    node = other_node(world)
    stays = next(n for n in nodes_with_members(world) if n != node)
    long, short = hold(world, node, stays, duration=["5m", "40s"])
    assert world.claims(), "nothing was claimed"
    log, token = lab.AgentsLog(world), world.toolbox("cat", "/var/run/secrets/pgjolt.io/token")
    pods = {f"shop/{o['metadata']['name']}": o for o in world.pods()}
    for o in pods.values():
        o["agent"] = callers.agent_on(world, o["spec"]["nodeName"])["status"]["podIP"]
    files = callers.identity(world)
    third = next(name for name in pods if name not in (long, short))
    pid = world.on("cp", "pgrep", "-x", "kube-apiserver").strip()
    command = world.on("cp", "cat", f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
    refusals = []

    def refused(word):
        arm = callers.arm_words(f"away-{len(refusals)}", third)
        status, answer = call_from_node(world, pods[third], files, token, ["POST", "/v1/experiments", arm])[0]
        assert status >= 400, answer
        refusals.append((arm["experiment"], status, answer["error"]["message"]))
        return word in refusals[-1][2]
    world.on("cp", "kill", "-KILL", pid)
    try:
        # While the allowance of before lasts (30 s) it is the share that cannot be asked for; then the allowance itself.
        assert refused("share of its cluster"), refusals
        assert all(word.format(node=stays) in "\n".join(world.leftovers([stays])) for word in HELD), "it was over before"
        world.wait_clean(120, nodes=[stays])
        wait_for("the allowance has ended", lambda: refused("Review"), 60, every=1)
        assert all(word.format(node=node) in "\n".join(world.leftovers([node])) for word in HELD), "what was there did not go on"
        # With a token of nobody's, which nobody can be asked about.
        status, answer = call_from_node(world, pods[long], files, "nobody", ["POST", "/v1/revert", None])[0]
        assert status == 200, answer
        world.wait_clean(10)
    finally:
        world.on("cp", "setsid", "-f", "bash", "-c", 'exec "$@" >/dev/null 2>&1 </dev/null', "_", *command)
    wait_for("the API server is back", lambda: world.get("nodes"), 60)
    wait_for("claims are given back", lambda: world.claims() == [], 60)
    wait_ended(log, [short], "duration")
    wait_ended(log, [long], "requested")
    log.wait_audit(r"certificate pgjolt-client: revert all: 200.*",     # and of no user
                   *(rf".*certificate pgjolt-client.*: arm {experiment}, proc-freeze on {third}: {status}, {re.escape(said)}.*"
                     for experiment, status, said in refusals))


def test_api_server_stopped(world):
    world.wait_agents()
    world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share=70%")      # of three two
    try:
        without_api_server(world)
    finally:
        world.kubectl("annotate", "namespace", "shop", "pgjolt.io/max-share-")


def test_node_powered_off(world):
    """With faults there and elsewhere: these are reverted, and of the others nobody can be asked."""
    node = other_node(world)
    stays = next(n for n in nodes_with_members(world) if n != node)
    lost, kept = hold(world, node, stays, duration="5m")
    log = lab.AgentsLog(world, stays)
    lab.kubelab("off", node)
    world.wait_clean(30, nodes=[stays])
    wait_ended(log, [kept], "requested")
    code, said = end_of_run(world, 150)
    assert code == 5, f"{code}: {said}"
    for fault in FAULTS:
        assert re.search(rf"{fault} on {lost} is not known to be reverted \(experiment \S+, agent {node}\)", said), said
    assert f" on {kept} is not known" not in said, said
    lab.kubelab("on-again", node)
    world.wait_agents(180)
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 180)


# Removal.

def test_removed_in_the_middle_of_a_drill(world):
    hold(world, other_node(world))
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
