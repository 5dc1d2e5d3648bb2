#!/usr/bin/python3
"""The share of a cluster that may be under fault at once, kept by two agents of two nodes with an API server of our own; each
sees an instance of the same cluster, and a third is the API server's word alone."""
import json
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from agent_http import Agent  # noqa: E402
from kube_api import KubeApi  # noqa: E402
from kube_world import Caller, Pod, agent_options, make_certificates  # noqa: E402
from ports import free_port  # noqa: E402
from openapi import Document  # noqa: E402

document = Document()
ME = "system:serviceaccount:pgjolt:toolbox"
NAMESPACE = f"pjsh{os.getpid()}"
MAP = f"pgjolt-share-{NAMESPACE}.orders"
NODES = ("one", "two")
folder = api = None
pods = []


def setUpModule():
    global folder, api
    folder = tempfile.mkdtemp(prefix="pj-share-")
    os.chmod(folder, 0o755)
    try:
        make_certificates(folder)
        api = KubeApi(f"{folder}/pair.pem", f"{folder}/pair.key")
        for i in range(2):
            pods.append(Pod(NAMESPACE, f"main-{i}", 25483 + i, i).start())
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    for pod in pods:
        pod.remove()
    if api:
        api.stop()
    shutil.rmtree(folder)


def put_pod(name, uid, node, labels=None, status=None):
    api.put("pods", name, NAMESPACE, labels={"cluster-name": "orders", **(labels or {})}, spec={"nodeName": node},
            metadata={"uid": uid}, status=status or {"phase": "Running"})


def reset(annotations=None):
    api.users["my-token"] = ME
    api.rights.update({(ME, "create", NAMESPACE), (ME, "get", "pgjolt")})
    api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"}, annotations=annotations)
    for i, pod in enumerate(pods):
        put_pod(f"main-{i}", pod.uid, NODES[i])
    put_pod("main-2", "third", "three")
    # Neither a pooler nor what has ended is an instance.
    put_pod("pooler", "pooler", "three", labels={"connection-pooler": "orders"})
    put_pod("old", "old", "three", status={"phase": "Failed"})
    api.before_change = None
    api.calls.clear()
    if claims_map():
        api.delete("configmaps", MAP, "pgjolt")


def claims_map():
    return api.objects["configmaps"].get(("pgjolt", MAP))


def claims():
    known = claims_map()
    return json.loads(known["data"]["claims"]) if known else {}


def put_claims(text, **more):
    api.put("configmaps", MAP, "pgjolt", labels={"app.kubernetes.io/component": "share"}, data={"claims": text}, **more)


def claim(node, after_s):
    return {"node": node, "until": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + after_s))}


def cpu_s(pid):
    """What it has used by now."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_s():
    """What those have used that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Node:
    """An agent, and a caller of it."""

    def __init__(self, test, i, *options):
        self.name, self.instance = NODES[i], f"{NAMESPACE}/main-{i}"
        self.where, port = tempfile.mkdtemp(prefix="pj-share-agent-"), free_port()
        test.addCleanup(shutil.rmtree, self.where)
        self.agent = Agent(self.where, *agent_options(api, folder, port, self.name), "--authorize", "kubernetes", *options,
                           document=document)
        test.addCleanup(self.agent.kill)
        self.caller = Caller(folder, port, "my-token", document)
        test.addCleanup(self.caller.connection.close)
        self.start()

    def start(self):
        self.caller.connection.close()
        self.agent.start()
        self.agent.wait_for(lambda: self.agent.call("GET", "/v1/node").json["accepting"])
        self.agent.wait_for(lambda: [i for i in self.agent.call("GET", "/v1/instances").json["instances"]
                                     if i["name"] == self.instance and i["labels"]])

    def body(self, experiment, **more):
        return {"experiment": experiment, "run": "run-1", "fault": "proc-freeze", "instance": self.instance,
                "params": {"processes": "titles", "titles": ["walwriter"]},
                "duration_ms": 30000, "lease_ms": 30000, **more}

    def arm(self, experiment, **more):
        return self.caller("POST", "/v1/experiments", self.body(experiment, **more))

    def revert(self, experiment):
        return self.caller("POST", f"/v1/experiments/{experiment}/revert")


class Share(unittest.TestCase):
    options = ("--max-share", "50%")
    annotations = None

    def setUp(self):
        reset(self.annotations)
        self.one, self.two = (Node(self, i, *self.options) for i in range(2))

    def tearDown(self):
        api.before_change = None
        for node in (self.one, self.two):
            self.assertEqual(node.agent.stop(), 0)
            self.assertNotIn("my-token", node.agent.read_log())
        self.assertEqual(claims(), {})      # an agent that ends in peace leaves none

    def given_back(self):
        self.one.agent.wait_for(lambda: not claims_map())

    def refused(self, answer, status, *words):
        self.assertEqual(answer.status, status, answer.body)
        for word in words:
            self.assertIn(word, answer.message)

    def wait_status(self, node, status):
        node.agent.wait_for(lambda: node.arm(f"try-{os.urandom(4).hex()}").status == status)

    def test_one_of_three(self):
        self.assertEqual(self.one.arm("a").status, 201)
        # Two faults on one instance are one; by the node's own socket too.
        other = self.one.body("b", params={"processes": "titles", "titles": ["checkpointer"]})
        self.assertEqual(self.one.agent.call("POST", "/v1/experiments", other).status, 201)
        self.assertEqual({k: v["node"] for k, v in claims().items()}, {self.one.instance: "one"})
        words = (f"proc-freeze on {self.two.instance}", f"1 of 3 instances of cluster {NAMESPACE}/orders is under fault",
                 f"{self.one.instance} on node one until 20", "at most 1 may be (50%, by this agent's --max-share)")
        self.refused(self.two.arm("a"), 409, *words)
        self.refused(self.two.agent.call("POST", "/v1/experiments", self.two.body("a")), 409, *words)
        log = self.two.agent.read_log()
        self.assertIn(f"audit: {ME} (certificate pgjolt-client): arm a, proc-freeze on {self.two.instance}: 409, {words[0]}: {words[1]}",
                      log)
        self.assertIn(f"arm a, proc-freeze on {self.one.instance}: 201, armed; may create faults.pgjolt.io in namespace {NAMESPACE}",
                      self.one.agent.read_log())
        self.assertIn("; 1 of 3 instances", self.one.agent.read_log())
        self.assertEqual(self.one.revert("a").json["state"], "clean")
        self.refused(self.two.arm("b"), 409, "1 of 3")
        self.assertEqual(self.one.revert("b").json["state"], "clean")
        self.given_back()
        self.assertEqual(self.two.arm("c").status, 201)
        self.assertEqual(self.two.caller("POST", "/v1/experiments/c/fire").status, 200)
        self.refused(self.one.arm("c"), 409, self.two.instance)
        # What is refused for something else leaves no claim.
        self.assertEqual(self.two.revert("c").json["state"], "clean")
        self.given_back()
        self.refused(self.one.arm("d", duration_ms=10 ** 9), 403, "duration")
        self.refused(self.one.arm("e", params={"rounds": 7}), 400)
        self.given_back()

    def test_both_want_the_last_place(self):
        barrier, changes = threading.Barrier(2), []

        def before(method, *_):
            changes.append(method)
            if len(changes) <= 2:
                barrier.wait(15)
        api.before_change = before
        answers = {}
        threads = [threading.Thread(target=lambda n=node: answers.update({n.name: n.arm("race")})) for node in (self.one, self.two)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        self.assertEqual(sorted(a.status for a in answers.values()), [201, 409], [a.body for a in answers.values()])
        self.assertEqual(changes[:2], ["POST", "POST"])
        self.assertEqual(len(claims()), 1)

    def test_a_dead_agent(self):
        self.assertEqual(self.one.arm("a").status, 201)
        self.one.agent.kill()
        self.refused(self.two.arm("a"), 409, self.one.instance)
        # Its node is gone for good: the claim ends.
        put_claims(json.dumps({self.one.instance: claim("one", -120), "other/x": claim("far", -3600)}))
        self.assertEqual(self.two.arm("b").status, 201)
        self.assertEqual(list(claims()), [self.two.instance])
        self.assertEqual(self.two.revert("b").json["state"], "clean")
        self.given_back()
        # The next agent of its node gives back what it claimed.
        put_claims(json.dumps({self.one.instance: claim("one", 3600)}))
        self.refused(self.two.arm("c"), 409, self.one.instance)
        self.one.start()
        self.given_back()
        self.assertEqual(self.two.arm("d").status, 201)

    def test_a_dead_agent_among_maps_of_others(self):
        """Whoever may create ConfigMaps can make more of them than one answer holds."""
        names = [f"{prefix}{i}" for i in range(10) for prefix in ("aaa-", "pgjolt-share-aaa.")]
        self.one.agent.kill()
        try:
            for i, name in enumerate(names):    # of those at the end each character is six in JSON
                api.put("configmaps", name, "pgjolt", labels={"app.kubernetes.io/component": "share"},
                        data={"claims": ("x" if i < 12 else "\x01") * (1 << 20)})
            put_claims(json.dumps({self.one.instance: claim("one", 3600)}))
            self.one.start()
            self.given_back()
            self.assertNotIn("it is tried again", self.one.agent.read_log())
        finally:
            for name in names:
                api.delete("configmaps", name, "pgjolt")

    def test_without_the_api_server(self):
        self.assertEqual(self.one.arm("a").status, 201)
        self.assertEqual(self.one.caller("POST", "/v1/experiments/a/fire").status, 200)
        api.stop()
        try:
            self.refused(self.one.arm("b"), 503, "is not known")
            self.assertEqual(self.one.revert("a").json["state"], "clean")
            self.refused(self.one.agent.call("POST", "/v1/experiments", self.one.body("c")), 503, "is not known")
            self.one.agent.wait_for(lambda: "it is tried again" in self.one.agent.read_log())
        finally:
            api.start()
        self.given_back()
        self.wait_status(self.two, 201)
        self.assertEqual(self.two.caller("POST", "/v1/revert").json["left"], 0)

    def test_conflicts_are_retried_so_often(self):
        put_claims("{}")
        changes = []

        def before(method, space, name):
            changes.append(method)
            if len(changes) <= limit:
                api.put("configmaps", name, space, data={"claims": json.dumps({"other/x": claim("far", 60)})})
        limit = 3
        api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"})
        put_pod("main-3", "fourth", "three")    # two of four
        api.before_change = before
        self.assertEqual(self.one.arm("a").status, 201)
        self.assertEqual(changes, ["PUT"] * 4)
        limit = 1000
        self.refused(self.two.arm("a"), 409, "2 of 4")
        self.assertEqual(self.one.revert("a").status, 200)
        api.before_change = None
        self.one.agent.wait_for(lambda: list(claims()) == ["other/x"])
        changes.clear()
        api.before_change = before
        self.refused(self.two.arm("b"), 503, "other agents change it all the time")
        api.before_change = None
        self.assertLessEqual(len(changes), 20)
        api.delete("pods", "main-3", NAMESPACE)
        api.delete("configmaps", MAP, "pgjolt")

    def test_a_map_that_no_agent_made(self):
        """Whoever may create ConfigMaps can be there first: nothing is armed, and what stands there stays."""
        owner = {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "pgjolt-stop", "uid": "u"}]}
        for text, more, word in (("{", {}, "JSON"), ("[]", {}, "no object"), ('{"a": 5}', {}, "no node"),
                                 ('{"a": {"node": "x", "until": "soon"}}', {}, "no end"),
                                 ("{}", {"metadata": owner}, "ownerReferences"),
                                 ("{}", {"metadata": {"finalizers": ["x/y"]}}, "finalizers"), ("{}", {"immutable": True}, "immutable")):
            put_claims(text, **more)
            before = claims_map()
            self.refused(self.one.arm(f"bad-{os.urandom(4).hex()}"), 503, MAP, word, "by hand")
            self.assertEqual(claims_map(), before)
        api.delete("configmaps", MAP, "pgjolt")
        self.assertEqual(self.one.arm("good").status, 201)

    def test_claims_that_somebody_else_wrote(self):
        """They can but take places: in vain, or for as long as they say."""
        put_claims(json.dumps({self.one.instance: claim("far", 10 ** 9), "other/x": claim("two", 10 ** 9)}), metadata={
            "annotations": {"a": "b"}})
        self.refused(self.one.arm("a"), 409, "1 of 3")
        put_claims(json.dumps({self.one.instance: claim("far", 10 ** 9)}))
        self.assertEqual(self.one.arm("b").status, 201)
        self.assertEqual(claims()[self.one.instance]["node"], "one")
        self.refused(self.two.arm("b"), 409, "1 of 3")

    def test_what_waits_for_the_api_server_holds_nothing_up(self):
        go, answers = threading.Event(), []
        self.assertEqual(self.one.arm("a").status, 201)
        api.before_change = lambda *_: go.wait(30)
        try:
            # Reverting does not wait for the claim to be given back.
            self.assertEqual(self.one.revert("a").json["state"], "clean")
            self.one.agent.wait_for(lambda: [c for c in api.calls if c[0] == "DELETE"])
            waiting = threading.Thread(target=lambda: answers.append(self.one.arm("slow")))
            waiting.start()
            self.one.agent.wait_for(lambda: self.one.agent.call("GET", "/v1/node").status == 200)
            before_s = children_s() + cpu_s(self.one.agent.process.pid)
            self.assertEqual(self.one.agent.stop(), 0)
            # It sleeps while it waits for an answer.
            self.assertLess(children_s() - before_s, 1)
            waiting.join(30)
            # Refused as one that waited for its claim, or, on a busy machine, as one that came when the agent was stopping.
            self.assertEqual(len(answers), 1)
            self.assertIn(answers[0].status, (409, 503), answers[0].body)
            self.assertFalse(go.is_set())
        finally:
            go.set()
        # What came of it is lost: the next agent of the node finds what is claimed.
        self.one.start()
        self.given_back()


class ByNamespace(Share):
    """The bound is the namespace's, and below the agent's."""
    options = ("--max-share", "90%")
    annotations = {"pgjolt.io/max-share": "34%"}

    def test_one_of_three(self):
        self.assertEqual(self.one.arm("a").status, 201)
        self.refused(self.two.arm("a"), 409, f"34%, by namespace {NAMESPACE}'s annotation pgjolt.io/max-share")
        api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"}, annotations={"pgjolt.io/max-share": "67%"})
        self.wait_status(self.two, 201)
        self.assertEqual(sorted(claims()), [self.one.instance, self.two.instance])
        for annotation, status, word in (("0%", 409, "at most 0"), ("most", 403, "most")):
            api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"}, annotations={"pgjolt.io/max-share": annotation})
            self.wait_status(self.two, status)
            self.refused(self.two.arm("z"), status, word)

    test_both_want_the_last_place = test_a_dead_agent = test_without_the_api_server = None
    test_conflicts_are_retried_so_often = test_a_map_that_no_agent_made = None
    test_claims_that_somebody_else_wrote = test_what_waits_for_the_api_server_holds_nothing_up = None


class Unbounded(unittest.TestCase):
    def test_asks_for_no_claim(self):
        reset()
        nodes = [Node(self, i) for i in range(2)]
        for node in nodes:
            self.assertEqual(node.arm("a").status, 201)
        self.assertIsNone(claims_map())
        for node in nodes:
            self.assertEqual(node.agent.stop(), 0)


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("openssl"):
        print("needs root and openssl")
        sys.exit(77)
    unittest.main(verbosity=2)
