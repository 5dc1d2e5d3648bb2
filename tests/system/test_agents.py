"""Many agents, agents that hang, and agents that are replaced under a fault: what pgjolt says and how it exits."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BINARY, BUILD, Agent, process_state, scratch, wait_until  # noqa: E402
from harness.certificates import Authority  # noqa: E402
from harness.fake_agents import FakeAgents  # noqa: E402
from harness.kube_api import KubeApi  # noqa: E402
from lib_postgres import Server, bin_dir, cgroup_root, children  # noqa: E402
import suite  # noqa: E402

PGJOLT = os.path.abspath(os.path.join(BUILD, "coordinator", "pgjolt"))
NODE = "testnode"
LABELS = {"app.kubernetes.io/name": "pgjolt", "app.kubernetes.io/component": "agent"}
READY = [{"type": "Ready", "status": "True"}]
NOT_READY = [{"type": "Ready", "status": "False", "message": "containers with unready status: [agent]"}]


class World:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="pj-agents-")
        self.authority = Authority(os.path.join(self.folder, "tls"))
        self.authority.make("agent", host="pgjolt-agent", user="root")
        self.authority.make("api", host="localhost", user="root")
        self.authority.make("client", user="root")
        subject = ["-addext", "subjectAltName=IP:127.0.0.1"]
        self.authority.openssl("api", "/CN=api", "-CA", self.authority.path("ca.crt"), "-CAkey",
                               self.authority.path("ca.key"), *subject)
        self.api = KubeApi(self.authority.path("api.crt"), self.authority.path("api.key"))
        self.config = self.api.kubeconfig(os.path.join(self.folder, "config"), self.authority.path("ca.crt"))
        self.server = None

    def database(self):
        if not self.server:
            self.server = Server("pjag", 25491, cluster=f"pjagents{os.getpid()}").start()
        return self.server

    def remove(self):
        if self.server:
            self.server.remove()
        self.api.stop()
        shutil.rmtree(self.folder)

    def tls(self):
        words = []
        for option, name in (("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key")):
            words += [f"--tls-{option}", self.authority.path(name)]
        return words

    def cluster(self):
        """The options by which pgjolt finds agents in our Kubernetes."""
        return ["--kubeconfig", self.config, *self.tls()]

    def put(self, node, address, port, name=None, conditions=None, space="pgjolt", **status):
        if conditions is None:
            conditions = READY
        if address:
            status["podIP"] = address
        spec = {"containers": [{"name": "agent", "ports": [{"name": "agent", "containerPort": port}]}]}
        if node:
            spec["nodeName"] = node
        self.api.put("pods", name or f"agent-{node}", space, labels=LABELS, spec=spec,
                     status={"conditions": conditions, **status})

    def forget(self):
        for kind in ("pods", "nodes"):
            for space, name in list(self.api.objects[kind]):
                self.api.delete(kind, name, space)

    @contextlib.contextmanager
    def fakes(self, count):
        agents = FakeAgents(self.authority, count)
        try:
            yield agents
        finally:
            agents.close()
            self.forget()


def pgjolt(*words, code=0, timeout=90):
    """stdout and stderr."""
    r = subprocess.run([PGJOLT, *words], capture_output=True, text=True, timeout=timeout)
    assert r.returncode == code, f"{words}: {r.returncode}, not {code}\n{r.stdout}{r.stderr}"
    return r.stdout, r.stderr


def instance(agent):
    return {"name": f"c/{agent.name}", "cluster": "c", "member": agent.name, "node": agent.name, "pid": 1,
            "role": "replica", "port": 5432, "addresses": [agent.address]}


def test_all_are_asked_before_one_has_answered(world):
    """50 agents, of which one takes requests and answers none."""
    with world.fakes(50) as agents:
        for agent in agents:
            agent.instances = [instance(agent)]
            world.put(agent.name, agent.address, agent.port)
            world.api.put("nodes", agent.name)
        agents[7].hangs = True
        # Each of the others answers when all have been asked, so asking one after another ends in errors.
        for path in ("/v1/node", "/v1/clock", "/v1/instances"):
            agents.gate(path, 49)
        out, err = pgjolt("targets", "--names", *world.cluster())
        assert set(out.split()) == {f"c/n{i}" for i in range(50) if i != 7}, out
        assert re.search(r"no agent on node n7: pod pgjolt/agent-n7: agent https://127\.1\.0\.8:\d+: ", err), err
        def again(path, count, method="GET"):
            for agent in agents:
                agent.asked.clear()
            agents.gates.clear()
            agents.gate(path, count, method)
        again("/v1/revert", 49, "POST")
        out, err = pgjolt("stop", "--all", *world.cluster(), code=5)
        assert out.count("nothing was under way") == 49 and "n7 (pod agent-n7): not reached" in out, out
        assert "1 agent that may hold faults could not be asked" in err, err
        agents[7].hangs = False
        again("/v1/experiments", 50)
        assert "No experiment is under way" in pgjolt("status", *world.cluster())[0]
        again("/v1/node", 50)
        assert len(json.loads(pgjolt("nodes", "--json", *world.cluster())[0])) == 50


def test_all_are_armed_before_one_is_fired(world):
    with world.fakes(20) as agents:
        for agent in agents:
            agent.instances = [instance(agent)]
            world.put(agent.name, agent.address, agent.port)
        agents.gate("/v1/experiments", 20, "POST")
        out, _ = pgjolt("inject", "proc-kill", "--target", "all", "--for", "60s", "--cluster", "c", "--manager", "plain",
                        *world.cluster())
        assert out.count("proc-kill armed on c/n") == 20 and out.count(", verified clean") == 20, out
        for agent in agents:
            paths = [path.rsplit("/", 1)[-1] for method, path, _ in agent.asked if method == "POST"]
            assert paths[:2] == ["experiments", "fire"] and "renew" in paths, paths


def test_stop_all_asks_who_is_not_ready(world):
    with world.fakes(3) as agents:
        world.put("n0", agents[0].address, agents[0].port)
        world.put("n1", agents[1].address, agents[1].port, conditions=NOT_READY)
        world.put("n2", agents[2].address, agents[2].port, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
        agents[1].experiments = [{"experiment": "x-1", "run": "run-1", "fault": "proc-freeze", "instance": "c/n1",
                                  "state": "clean"}]
        # Never started; on no node; its node is no more.
        waiting = [{"name": "agent", "state": {"waiting": {"reason": "ImagePullBackOff"}}, "restartCount": 0}]
        world.put("n3", None, 1, conditions=NOT_READY, containerStatuses=waiting)
        world.put("", None, 1, name="agent-x", conditions=NOT_READY)
        world.put("n4", "127.1.0.99", agents.port, conditions=NOT_READY)
        out, _ = pgjolt("stop", "--all", *world.cluster())
        for line in ("n0: nothing was under way", "n1: 1 experiment reverted, clean", "n2: nothing was under way",
                     "n3 (pod agent-n3): its agent was never started (container agent: ImagePullBackOff), so it holds nothing",
                     "(no node) (pod agent-x): its agent was never started",
                     "n4 (pod agent-n4): the node is gone from the cluster", "the nodes are clean"):
            assert line in out, f"{line}\n{out}"
        assert all(a.was_asked("/v1/revert") == 1 for a in agents)
        # The node is there, and nobody answers on it: nobody knows.
        world.api.put("nodes", "n4", status={"conditions": [{"type": "Ready", "status": "False"}]})
        out, err = pgjolt("stop", "--all", *world.cluster(), code=5)
        assert "n4 (pod agent-n4): not reached" in out and "the node is not ready" in out, out
        assert "could not be asked" in err and "nodes are clean" not in out, err
        document = json.loads(pgjolt("stop", "--all", "--json", *world.cluster(), code=5)[0])
        assert (document["left"], document["unknown"]) == (0, 1), document
        assert {a["node"]: a["outcome"] for a in document["agents"]} == {
            "n0": "nothing", "n1": "reverted", "n2": "nothing", "n3": "nothing", "": "nothing", "n4": "unknown"}
        # One experiment by its id: whoever knows it.
        assert "no agent knows" in pgjolt("stop", "x-9", *world.cluster(), code=2)[1]


def test_stop_all_reaches_nobody(world):
    with world.fakes(1) as agents:
        named = f"https://127.1.0.1:{agents.port}"
        assert "nothing was under way" in pgjolt("stop", "--all", "--agent", named, "--tls-server-name", "pgjolt-agent",
                                                 *world.tls())[0]
        out, _ = pgjolt("stop", "--all", "--agent", named, "--agent", f"https://127.1.0.9:{agents.port}",
                        "--tls-server-name", "pgjolt-agent", *world.tls(), code=5)
        assert "n0: nothing was under way" in out and f"https://127.1.0.9:{agents.port}: not reached" in out, out
        pgjolt("stop", "--all", "--agent", f"https://127.1.0.9:{agents.port}", *world.tls(), code=5)
    # Which agents there are is not known.
    world.api.stop()
    try:
        pgjolt("stop", "--all", *world.cluster(), code=5)
    finally:
        world.api.start()
    # There are none.
    assert "no agent runs in namespace pgjolt" in pgjolt("stop", "--all", *world.cluster(), code=3)[1]


def test_the_ca_that_is_named_is_the_only_one(world):
    """Not those of the system beside it: ours is one of them here."""
    other = Authority(os.path.join(world.folder, "other"))
    folder = os.path.join(world.folder, "system")
    os.mkdir(folder)
    with open(world.authority.path("ca.crt"), "rb") as f:
        ca = f.read()
    name = subprocess.run(["openssl", "x509", "-noout", "-hash"], input=ca, capture_output=True, check=True).stdout.decode().strip()
    for file in (f"{name}.0", "ca-certificates.crt"):
        with open(os.path.join(folder, file), "wb") as f:
            f.write(ca)
    with world.fakes(1) as agents:
        words = [PGJOLT, "nodes", "--json", "--agent", f"https://127.1.0.1:{agents.port}", "--tls-server-name", "pgjolt-agent",
                 "--tls-cert", world.authority.path("client.crt"), "--tls-key", world.authority.path("client.key")]

        def ask(*more):
            return subprocess.run(["unshare", "--mount", "sh", "-c", f"mount --bind {folder} /etc/ssl/certs && exec \"$@\"", "sh",
                                   *words, *more], capture_output=True, text=True, timeout=60, check=False)
        done = ask()
        assert done.returncode == 0, done.stderr    # so the system's do count where none is named
        done = ask("--tls-ca", other.path("ca.crt"))
        assert done.returncode == 3 and "verification failed" in done.stderr, f"{done.returncode} {done.stderr}"


def test_answers_that_cannot_be_read(world):
    """A yes that cannot be read is no refusal: what may be armed is reverted. And no sum of what is left is none."""
    with world.fakes(1) as agents:
        agents[0].instances = [instance(agents[0])]
        world.put("n0", agents[0].address, agents[0].port)
        agents[0].instead["/v1/experiments"] = {"experiments": [], "state": "what?"}
        _, err = pgjolt("inject", "proc-kill", "--target", "all", "--for", "60s", "--cluster", "c", "--manager", "plain",
                        *world.cluster(), code=4)
        assert "the agent did not answer" in err, err
        assert [path for method, path, _ in agents[0].asked if path.endswith("/revert")], agents[0].asked
        agents[0].instead.clear()
        for left in (1e300, -1, 0.5, None):
            agents[0].instead["/v1/revert"] = {"left": left, "experiments": []}
            out, _ = pgjolt("stop", "--all", *world.cluster(), code=5)
            assert "n0: did not do it" in out, (left, out)


# ---- drills that come to nothing ----

def run_drill(server, agent, steps, code):
    """The run's report."""
    with scratch("drill") as folder:
        path, out = os.path.join(folder, "x.yaml"), os.path.join(folder, "out")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"drill: x\nsummary: of a test\nsteadyState: {{for: 300ms}}\nrecovery: {{limit: 1s}}\nsteps:\n{steps}")
        pgjolt("run", path, "--agent", agent.socket, "--cluster", server.cluster, "--manager", "plain", "--out", out, "--conninfo",
               f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres", code=code)
        with open(f"{out}/report.json", encoding="utf-8") as f:
            return json.load(f)


def test_refused_at_the_first_fault(world):
    """Of an instance in the node's own network that is told at the arming: refused where nothing had been done before."""
    cut = "{inject: net-partition, target: primary, for: 5s, params: {peers: 10.9.9.9}}"
    server = Server("pjopen", 25492, alone=False, cluster=f"pjopen{os.getpid()}").start()
    try:
        with scratch("agents") as folder, Agent(folder, "--node-name", NODE) as agent:
            report = run_drill(server, agent, f"  - wait: 10ms\n  - {cut}\n", 3)
            assert report["verdict"] == "refused" and "network" in report["reasons"][0], report["reasons"]
            assert [f["fired_ms"] for f in report["faults"]] == [None]
            # Something was: it is reverted.
            kill = "{inject: proc-kill, target: primary, for: 5s, params: {process: title, titles: walwriter}}"
            report = run_drill(server, agent, f"  - parallel:\n      - {kill}\n      - {cut}\n", 4)
            assert report["verdict"] == "aborted" and "network" in report["reasons"][0], report["reasons"]
            # An injection on two likewise: the other one can be cut off.
            more = ["inject", "net-partition", "--peers", "10.9.9.9", "--for", "5s", "--cluster", server.cluster, "--manager", "plain",
                    "--agent", agent.socket, "--target"]
            assert "network" in pgjolt(*more, "all", code=3)[1]
            other = Server("pjshut", 25493, cluster=server.cluster).start()
            try:
                subprocess.run(["nsenter", "--net", "--target", str(other.postmaster), "ip", "link", "add", "pj0",
                                "type", "veth", "peer", "name", "pj1"], check=True)
                out, err = pgjolt(*more, "all", code=4)
                assert "net-partition armed on" in out and "network" in err, out + err
            finally:
                other.remove()
            assert all(e["state"] in ("clean", "refused") for e in agent.experiments())
    finally:
        server.remove()


# ---- replaced under a fault ----

@contextlib.contextmanager
def under_way(*words):
    """An injection that has fired: a list of the lines that came so far, and the process."""
    p = subprocess.Popen([*words, "--for", "120s", "--manager", "plain"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []

    def read():
        for line in p.stdout:
            lines.append(line)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert wait_until(lambda: any("fired" in line for line in lines), 30), lines
        yield p, lines
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
        reader.join()
        p.stdout.close()


@contextlib.contextmanager
def injection(world, *words, before=()):
    """Of a fault that outlives its agent."""
    database = world.database()
    with under_way(*before, PGJOLT, "inject", "proc-freeze", "--target", f"{database.cluster}/pjag", "--mechanism", "cgroup",
                   *words) as both:
        assert frozen(database)
        yield both


def frozen(database):
    with open(f"{cgroup_root()}{database.cgroup}/cgroup.freeze", encoding="ascii") as f:
        return f.read().strip() == "1"


def ended(p, reader_lines, code):
    assert wait_until(lambda: p.poll() is not None, 60), reader_lines
    wait_until(lambda: any("successor" in line or "not known" in line for line in reader_lines), 2)
    text = "".join(reader_lines)
    assert p.returncode == code, f"{p.returncode}, not {code}\n{text}"
    return text


REPLACED = f"the agent on {NODE} was replaced; its successor reports nothing left"


def test_agent_started_anew_on_its_socket(world):
    """As a service manager does it."""
    with scratch("agents") as folder, Agent(folder, "--node-name", NODE) as agent:
        with injection(world, "--agent", agent.socket) as (p, lines):
            agent.kill()
            agent.start()
            text = ended(p, lines, 4)
            assert "is gone" in text and REPLACED in text, text
        assert not frozen(world.server) and not agent.entries()


def pod_agent(world, folder, address, port):
    return Agent(folder, "--node-name", NODE, "--listen", f"{address}:{port}", "--tls-cert", world.authority.path("agent.crt"),
                 "--tls-key", world.authority.path("agent.key"), "--tls-ca", world.authority.path("ca.crt"))


def replace_pod(world, end, *said):
    """end(agent) ends the first one, and one of these is said; its successor has another address, and the same journal."""
    with world.fakes(1) as spare:
        port = spare.port + 1 if spare.port < 65535 else spare.port - 1
    with scratch("agents") as folder, pod_agent(world, folder, "127.0.0.2", port) as old:
        world.put(NODE, "127.0.0.2", port, name="agent-old")
        with injection(world, *world.cluster()) as (p, lines):
            end(old)
            world.api.delete("pods", "agent-old", "pgjolt")
            with pod_agent(world, folder, "127.0.0.3", port) as new:
                # Its pod is not ready yet, but answers.
                world.put(NODE, "127.0.0.3", port, name="agent-new", conditions=NOT_READY)
                text = ended(p, lines, 4)
                assert any(words in text for words in said), text
                assert not new.entries()
        world.forget()
    assert not frozen(world.server)


def test_pod_deleted_by_force(world):
    replace_pod(world, lambda agent: agent.kill(), REPLACED)


def test_pod_upgraded(world):
    """It reverts as it leaves: it may have said so, or its successor has nothing of it."""
    replace_pod(world, lambda agent: agent.stop(), "reverted (shutdown), verified clean", REPLACED)


def test_agent_of_ones_own_and_another_after_it(world):
    """Whom somebody else started is asked; that it is there alone says nothing."""
    alone = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && exec \"$@\"", "sh"]
    with injection(world, before=alone) as (p, lines):
        (own,) = children(p.pid)
        os.kill(p.pid, signal.SIGSTOP)
        try:
            os.kill(own, signal.SIGKILL)
            assert wait_until(lambda: process_state(own) == "Z", 10)
            with subprocess.Popen(["nsenter", "--mount", "--target", str(p.pid), BINARY, "serve", "--log-level", "warning"],
                                  stdin=subprocess.DEVNULL) as other:
                try:
                    asks = ["nsenter", "--mount", "--target", str(p.pid), PGJOLT, "nodes", "--agent", "/run/pgjolt/agent.sock"]
                    assert wait_until(lambda: subprocess.run(asks, capture_output=True, check=False).returncode == 0, 30)
                    os.kill(p.pid, signal.SIGCONT)
                    text = ended(p, lines, 4)
                    assert "was replaced; its successor reports nothing left" in text, text
                    assert "found the journal" not in text, text
                finally:
                    other.terminate()
        finally:
            if p.poll() is None:
                os.kill(p.pid, signal.SIGCONT)
    assert not frozen(world.server)


def test_agent_that_was_out_of_reach(world):
    """It is no successor that answers: nobody was replaced."""
    with world.fakes(1) as agents:
        agents[0].instances, agents[0].stays = [instance(agents[0])], True
        world.put("n0", agents[0].address, agents[0].port)
        with under_way(PGJOLT, "inject", "proc-kill", "--target", "all", "--cluster", "c", *world.cluster()) as (p, lines):
            agents[0].away = True
            assert wait_until(lambda: any("comes after it" in line for line in lines), 30), lines
            agents[0].away = False
            text = ended(p, lines, 4)
            assert "the agent on n0 answers again, and reports nothing left" in text and "replaced" not in text, text


def test_nobody_comes_after_it(world):
    """The second Ctrl-C ends the waiting; what is left is said, and that it is not known."""
    with scratch("agents") as folder, Agent(folder, "--node-name", NODE) as agent:
        with injection(world, "--agent", agent.socket) as (p, lines):
            agent.kill()
            assert wait_until(lambda: any("comes after it" in line for line in lines), 20), lines
            p.send_signal(signal.SIGINT)
            wait_until(lambda: p.poll() is not None, 0.2)
            p.send_signal(signal.SIGINT)
            text = ended(p, lines, 5)
            assert f"proc-freeze on {world.server.cluster}/pjag is not known to be reverted (experiment inject-" in text, text
        agent.start()
        assert not frozen(world.server) and not agent.entries()


def test_hung_agent_and_two_interrupts(world):
    with scratch("agents") as folder, Agent(folder, "--node-name", NODE) as agent:
        with injection(world, "--agent", agent.socket) as (p, lines):
            os.kill(agent.pid, signal.SIGSTOP)
            try:
                p.send_signal(signal.SIGINT)
                wait_until(lambda: p.poll() is not None, 0.3)
                assert p.poll() is None, lines      # it waits for the agent's answer
                p.send_signal(signal.SIGINT)
                assert wait_until(lambda: p.poll() is not None, 8), "it goes on waiting"
                text = ended(p, lines, 5)
                assert "is not known to be reverted" in text and f"agent {NODE}" in text, text
            finally:
                os.kill(agent.pid, signal.SIGCONT)
        assert wait_until(lambda: not frozen(world.server), 20), "its lease does not end it"


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "pgjolt": os.path.exists(PGJOLT)})
