#!/usr/bin/python3
"""--authorize kubernetes, the opt-in label, the kill switch and pods' labels, with an API server of our own and a
PostgreSQL whose control group and log folder are a pod's."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from agent import TIME_SCALE  # noqa: E402
from agent_http import BUILD, Agent  # noqa: E402
from in_pod import in_pod  # noqa: E402
from kube_api import KubeApi  # noqa: E402
from kube_world import Caller, Pod, agent_options, make_certificates, tls_options  # noqa: E402
from ports import free_port  # noqa: E402
from openapi import Document  # noqa: E402

document = Document()
ME, OTHER = "system:serviceaccount:pgjolt:toolbox", "system:serviceaccount:db:other"
NAMESPACE, POD = f"pjdb{os.getpid()}", "main-0"
NODE = "testnode"
folder = api = pod = agent = None


def file(name):
    return os.path.join(folder, name)


def setUpModule():
    global folder, api, pod
    folder = tempfile.mkdtemp(prefix="pj-authorize-")
    os.chmod(folder, 0o755)
    try:
        make_certificates(folder)
        api = KubeApi(file("pair.pem"), file("pair.key"))
        pod = Pod(NAMESPACE, POD, 25481).start()
        reset()
    except BaseException:
        tearDownModule()
        raise


def tearDownModule():
    if pod:
        pod.remove()
    if api:
        api.stop()
    shutil.rmtree(folder)


def reset():
    api.users.update({"my-token": ME, "others-token": OTHER})
    api.rights.clear()
    api.rights.update({(ME, "create", NAMESPACE), (ME, "get", "pgjolt"), (OTHER, "get", "pgjolt"), (OTHER, "create", "elsewhere")})
    api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"})
    api.put("namespaces", "plain")
    api.put("pods", POD, NAMESPACE, labels={"cluster-name": "orders", "role": "master"}, spec={"nodeName": NODE},
            metadata={"uid": pod.uid, "ownerReferences": [{"kind": "StatefulSet", "name": "main", "controller": True}]},
            status={"containerStatuses": [{"name": "postgres", "containerID": f"containerd://{pod.id}"}]})


def arm_body(experiment, **more):
    return {"experiment": experiment, "run": "run-1", "fault": "proc-freeze", "instance": f"{NAMESPACE}/{POD}",
            "params": {"processes": "titles", "titles": ["walwriter"]}, "duration_ms": 30000, "lease_ms": 30000, **more}


# A fault that any number of experiments may be armed with.
SPARE = {"fault": "proc-kill", "params": {}}


class WithAgent(unittest.TestCase):
    kind = Agent
    options = ("--authorize", "kubernetes")
    more = ()

    def connection(self):
        return agent_options(api, folder, self.port, NODE)

    def setUp(self):
        reset()
        self.where, self.port = tempfile.mkdtemp(prefix="pj-authorize-agent-"), free_port()
        self.addCleanup(shutil.rmtree, self.where)
        self.agent = self.kind(self.where, *self.connection(), *self.options, *self.more, document=document).start()
        self.addCleanup(self.agent.kill)
        self.me, self.other = self.caller("my-token"), self.caller("others-token")
        self.agent.wait_for(lambda: self.node()["accepting"])
        self.agent.wait_for(lambda: self.instance()["labels"])

    def tearDown(self):
        self.assertEqual(self.agent.stop(), 0)
        log = self.agent.read_log()
        for secret in ("my-token", "others-token", "token-of-the-agent"):
            self.assertNotIn(secret, log)

    def caller(self, token):
        caller = Caller(folder, self.port, token, document)
        self.addCleanup(caller.connection.close)
        return caller

    def node(self):
        return self.agent.call("GET", "/v1/node").json

    def instance(self):
        return [i for i in self.agent.call("GET", "/v1/instances").json["instances"] if i["pod_uid"] == pod.uid][0]

    def state(self, experiment):
        return self.agent.call("GET", f"/v1/experiments/{experiment}").json["state"]

    def arm(self, experiment, who=None, **more):
        return (who or self.me)("POST", "/v1/experiments", arm_body(experiment, **more))

    def refused(self, answer, status, *words):
        self.assertEqual(answer.status, status, answer.body)
        for word in words:
            self.assertIn(word, answer.message)
        return answer


class Deciding(WithAgent):
    def test_pods_labels_owner_and_container(self):
        i = self.instance()
        self.assertEqual((i["name"], i["cluster"], i["cluster_name"]), (f"{NAMESPACE}/{POD}", f"{NAMESPACE}/orders", "scope"))
        self.assertEqual((i["container"], i["owner"]), ("postgres", "StatefulSet/main"))
        self.assertEqual(sorted(i["labels"]), ["cluster-name=orders", "role=master"])

    def test_who_may_and_the_audit(self):
        self.assertEqual(self.arm("one").status, 201)
        self.assertEqual(self.me("POST", "/v1/experiments/one/fire").json["state"], "active")
        self.assertEqual(self.me("POST", "/v1/experiments/one/renew", {"lease_ms": 20000}).status, 200)
        self.assertEqual((api.asked("tokenreviews"), api.asked("subjectaccessreviews")), (1, 1))
        self.assertEqual(self.me("GET", "/v1/experiments/one").status, 200)
        self.assertEqual(self.other("GET", "/v1/experiments").status, 200)
        self.refused(self.other("POST", "/v1/experiments/one/renew", {"lease_ms": 1000}), 403, OTHER, "may not create", NAMESPACE)
        self.refused(self.arm("two", self.other), 403, OTHER, "may not create", NAMESPACE)
        self.assertEqual(self.other("POST", "/v1/experiments/one/revert").json["state"], "clean")
        log = self.agent.read_log()
        self.assertIn(f"audit: {ME} (certificate pgjolt-client): arm one, proc-freeze on {NAMESPACE}/{POD}: 201, armed; may create "
                      f"faults.pgjolt.io in namespace {NAMESPACE} (RBAC: allowed by RoleBinding \"drills\")", log)
        self.assertIn(f"audit: {ME} (certificate pgjolt-client): fire one, proc-freeze on {NAMESPACE}/{POD}: 200, active; may create "
                      f"faults.pgjolt.io in namespace {NAMESPACE} (RBAC: allowed by RoleBinding \"drills\", cached)", log)
        self.assertIn(f"audit: {OTHER} (certificate pgjolt-client): arm two, proc-freeze on {NAMESPACE}/{POD}: 403, {OTHER} may not "
                      "create", log)
        self.assertIn(f"audit: {OTHER}: may not create faults.pgjolt.io in namespace {NAMESPACE}: no rule", log)

    def test_strangers(self):
        self.refused(self.caller(None)("GET", "/v1/node"), 401, "token")
        self.refused(self.caller("nobodys")("GET", "/v1/node"), 401, "token has expired")
        self.refused(self.caller("nobodys")("POST", "/v1/revert"), 401, "token has expired")
        self.refused(self.caller('x" {}')("GET", "/v1/node"), 401, "token")
        self.assertEqual(self.caller(None)("GET", "/healthz").status, 200)
        self.assertEqual(self.caller(None)("GET", "/metrics").status, 200)
        api.rights.discard((OTHER, "get", "pgjolt"))
        self.refused(self.other("GET", "/v1/instances"), 403, "may not get faults.pgjolt.io in namespace pgjolt")
        self.refused(self.other("POST", "/v1/revert"), 403, "may not get")

    def test_targets(self):
        for name in ("plain", "UP/x", "/x", "", f"{NAMESPACE}"):
            self.refused(self.arm("bad", instance=name), 403, "no namespace")
        api.rights.add((ME, "create", "lab"))
        self.refused(self.arm("bad-1", instance="lab/pg1"), 404, "no instance")
        api.put("namespaces", NAMESPACE)
        self.agent.wait_for(lambda: self.arm(f"label-{os.urandom(4).hex()}", **SPARE).status == 403)
        self.refused(self.arm("label-2"), 403, f"kubectl label namespace {NAMESPACE} pgjolt.io/enabled=true")
        # By the node's own socket too: it is the target that must have opted in.
        self.refused(self.agent.call("POST", "/v1/experiments", arm_body("label-3")), 403, "opted in")
        api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"},
                annotations={"pgjolt.io/faults": "net-*, proc-kill", "pgjolt.io/max-duration": "10s"})
        self.agent.wait_for(lambda: "not among" in self.arm(f"bound-{os.urandom(4).hex()}").message)
        self.refused(self.arm("bound-1"), 403, "proc-freeze is not among", "net-*, proc-kill")
        self.refused(self.arm("bound-2", **SPARE), 403, "above namespace", "10s")

    def test_replay(self):
        self.assertEqual(self.arm("again").status, 201)
        self.assertEqual(self.arm("again").status, 201)     # the answer was lost: asked again while it is there
        self.assertEqual(self.me("POST", "/v1/experiments/again/revert").json["state"], "clean")
        self.refused(self.arm("again"), 409, "an id serves once")
        for verb, body in (("fire", None), ("renew", {"lease_ms": 1000})):
            self.refused(self.me("POST", f"/v1/experiments/again/{verb}", body), 410)
        self.assertEqual(self.state("again"), "clean")
        self.assertIn(f"arm again, proc-freeze on {NAMESPACE}/{POD}: 409, experiment again has ended", self.agent.read_log())

    def test_requests_that_wait_hold_nothing_up(self):
        api.answer_after.clear()
        try:
            waiting = []
            for i in range(3):
                mine = self.caller("my-token")
                mine.connection.request("POST", "/v1/experiments", json.dumps(arm_body(f"wait-{i}", **SPARE)),
                                        {"Content-Type": "application/json", "Authorization": "Bearer my-token"})
                waiting.append(mine)
            gone = self.caller("others-token")
            gone.connection.request("GET", "/v1/node", headers={"Authorization": "Bearer others-token"})
            gone.connection.close()
            self.agent.wait_for(lambda: api.asked("tokenreviews") >= 2)
            self.assertEqual(self.agent.call("GET", "/v1/node").status, 200)
        finally:
            api.answer_after.set()
        self.assertEqual([w.connection.getresponse().status for w in waiting], [201, 201, 201])
        # One for the three; whoever has gone may be known to have by then.
        self.assertIn(len([c for c in api.calls if c[1].endswith("subjectaccessreviews")]), (1, 2))
        self.assertEqual(self.me("POST", "/v1/revert").json["left"], 0)

    def test_stopping_while_one_waits(self):
        api.answer_after.clear()
        try:
            self.me.connection.request("GET", "/v1/node", headers={"Authorization": "Bearer my-token"})
            self.agent.wait_for(lambda: api.asked("tokenreviews") == 1)
            self.assertEqual(self.agent.stop(), 0)
            self.assertEqual(self.me.connection.getresponse().status, 503)
        finally:
            api.answer_after.set()

    def setUp(self):
        api.calls.clear()
        super().setUp()


class Away(WithAgent):
    more = ("--authorize-cache", "2s")

    def test_without_the_api_server(self):
        self.assertEqual(self.arm("held").status, 201)
        self.assertEqual(self.me("GET", "/v1/node").status, 200)
        api.stop()
        try:
            # Cached: still served.
            self.assertIn(self.arm("cached", **SPARE).status, (201, 503))
            self.agent.wait_for(lambda: self.arm(f"new-{os.urandom(4).hex()}", **SPARE).status == 503)
            self.refused(self.arm("new"), 503, "is not known", "cannot be asked")
            # What is there goes on, and ends when asked to; so does finding.
            self.assertEqual(self.me("POST", "/v1/experiments/held/renew", {"lease_ms": 30000}).status, 200)
            self.assertEqual(self.me("POST", "/v1/experiments/held/fire").json["state"], "active")
            self.assertEqual(self.me("GET", "/v1/instances").status, 200)
            self.assertEqual(self.instance()["labels"], ["cluster-name=orders", "role=master"])
            self.refused(self.other("GET", "/v1/node"), 503)
            self.assertEqual(self.other("POST", "/v1/experiments/held/revert").json["state"], "clean")
            self.assertIn("200, clean; by certificate alone: the API server cannot be asked", self.agent.read_log())
            self.agent.wait_for(lambda: "what was known last stays" in self.agent.read_log())
        finally:
            api.start()
        self.agent.wait_for(lambda: self.arm(f"back-{os.urandom(4).hex()}", **SPARE).status == 201)
        self.assertEqual(self.me("POST", "/v1/revert").json["left"], 0)

    def test_a_right_that_was_taken_away(self):
        self.assertEqual(self.arm("first").status, 201)
        api.rights.discard((ME, "create", NAMESPACE))
        self.agent.wait_for(lambda: self.me("POST", "/v1/experiments/first/renew", {"lease_ms": 1000}).status == 403)
        self.refused(self.arm("second"), 403, "may not create")

    def test_a_start_without_the_api_server(self):
        self.assertEqual(self.agent.stop(), 0)
        api.stop()
        try:
            self.agent.start()
            self.assertEqual(self.instance()["name"], f"{NAMESPACE}/{POD}")
            self.assertEqual((self.instance()["container"], self.instance()["cluster"]), ("database", f"{NAMESPACE}/scope"))
            self.assertIn("has not been read", self.node()["reason"])
            self.refused(self.agent.call("POST", "/v1/experiments", arm_body("dark")), 409, "has not been read")
        finally:
            api.start()
        self.agent.wait_for(lambda: self.node()["accepting"])


class Audience(WithAgent):
    more = ("--token-audience", "pgjolt.io", "--authorize-cache", "2s")

    def setUp(self):
        api.audiences.update({"my-token": ["pgjolt.io"], "others-token": ["pgjolt.io", "elsewhere"]})
        self.addCleanup(api.audiences.clear)
        api.users["api-token"] = ME
        super().setUp()

    def pgjolt(self, token_file, **environment):
        return subprocess.run(
            [os.path.join(BUILD, "coordinator", "pgjolt"), "nodes", "--agent", f"https://127.0.0.1:{self.port}", "--tls-ca",
             file("ca.pem"), "--tls-cert", file("pair.pem"), "--tls-key", file("pair.key"), "--json",
             *(["--token-file", token_file] if token_file else [])], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "HOME": self.where, **environment})

    def test_tokens_are_for_us(self):
        self.assertEqual(self.arm("one").status, 201)
        self.assertEqual(self.other("GET", "/v1/node").status, 200)
        # The very same user, by the token that he has for the API server.
        wrong = self.caller("api-token")
        self.refused(wrong("GET", "/v1/node"), 401, "a token for the audience \"pgjolt.io\" is needed", "invalid for the target")
        self.refused(self.arm("two", wrong), 401, "audience")
        self.refused(wrong("POST", "/v1/revert"), 401, "audience")
        self.assertIn("a token: is nobody's, may not create faults.pgjolt.io", self.agent.read_log())
        self.assertIn("401, the token is refused: a token for the audience", self.agent.read_log())
        self.assertNotIn("api-token", self.agent.read_log())
        # A server that knows nothing of audiences takes any token; the agent does not.
        api.knows_audiences = False
        self.addCleanup(setattr, api, "knows_audiences", True)
        self.agent.wait_for(lambda: self.arm(f"t-{os.urandom(4).hex()}", **SPARE).status == 401)
        self.refused(self.arm("three"), 401, "does not say whom this one is for")

    def test_pgjolt_reads_the_file_that_it_is_given(self):
        path = os.path.join(self.where, "token")
        for token, code in (("my-token", 0), ("api-token", None), ("others-token", 0)):
            with open(path, "w", encoding="ascii") as f:
                f.write(token + "\n")
            for r in (self.pgjolt(path), self.pgjolt(None, PGJOLT_TOKEN_FILE=path)):
                self.assertNotIn(token, r.stdout + r.stderr)
                if code == 0:
                    self.assertEqual(r.returncode, 0, r.stderr)
                    self.assertEqual(json.loads(r.stdout)[0]["name"], NODE)
                else:
                    self.assertNotEqual(r.returncode, 0)
                    self.assertIn("audience", r.stderr)
        r = self.pgjolt(os.path.join(self.where, "none"))
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("none", r.stderr)
        self.assertIn("a service account's token is needed", self.pgjolt(None).stderr)


class LabelAlone(WithAgent):
    options = ("--require-label", "yes")

    def test_a_share_that_cannot_be_kept(self):
        self.assertEqual(self.arm("one").status, 201)
        api.put("namespaces", NAMESPACE, labels={"pgjolt.io/enabled": "true"}, annotations={"pgjolt.io/max-share": "50%"})
        self.agent.wait_for(lambda: self.arm(f"s-{os.urandom(4).hex()}", **SPARE).status == 403)
        self.refused(self.arm("two", **SPARE), 403, "pgjolt.io/max-share", "--authorize kubernetes alone")
        self.assertEqual(self.me("POST", "/v1/experiments/one/revert").json["state"], "clean")


class NodeShare(WithAgent):
    options = ("--require-label", "yes", "--max-share", "0%")

    def test_members_are_counted_by_the_labels_too(self):
        self.refused(self.arm("one"), 409, f"0 of 1 instances of cluster {NAMESPACE}/orders", "--max-share")


class KillSwitch(WithAgent):
    options = ()

    def test_stop(self):
        self.assertIsNone(self.caller(None)("GET", "/v1/node").json["reason"])
        free = self.caller(None)
        self.assertEqual(self.arm("a", free).status, 201)
        self.assertEqual(free("POST", "/v1/experiments/a/fire").json["state"], "active")
        self.assertEqual(self.arm("b", free, params={"processes": "titles", "titles": ["checkpointer"]}).status, 201)
        api.put("configmaps", "other", "pgjolt", data={"stop": "true"})
        since_ns = time.monotonic_ns()
        api.put("configmaps", "pgjolt-stop", "pgjolt", data={"stop": "true", "reason": "sale today\n"})
        self.agent.wait_for(lambda: (self.state("a"), self.state("b")) == ("clean", "clean"), 20 * TIME_SCALE)
        ended = self.agent.call("GET", "/v1/experiments/a").json
        self.assertEqual(ended["end_reason"], "stopped")
        # Within a second, as docs/security.md promises; both clocks are this machine's.
        self.assertGreater(ended["reverted_ns"], since_ns)
        self.assertLess(ended["reverted_ns"] - since_ns, 10 ** 9 * TIME_SCALE)
        node = self.node()
        self.assertEqual((node["accepting"], node["reason"]), (False, "the kill switch (ConfigMap pgjolt/pgjolt-stop) is on: sale today "))
        self.refused(self.arm("c", free), 409, "sale today")
        answer = free("GET", "/healthz")
        self.assertEqual(answer.status, 200)
        self.assertIn(b"sale today", answer.body)
        api.stop()
        self.agent.wait_for(lambda: "does not tell of the kill switch: what was known last stays" in self.agent.read_log())
        self.assertFalse(self.node()["accepting"])
        api.start()
        api.put("configmaps", "pgjolt-stop", "pgjolt", data={"stop": "false"})
        self.agent.wait_for(lambda: self.node()["accepting"])
        api.put("configmaps", "pgjolt-stop", "pgjolt", data={"stop": "true"})
        self.agent.wait_for(lambda: not self.node()["accepting"])
        api.delete("configmaps", "pgjolt-stop", "pgjolt")
        self.agent.wait_for(lambda: self.node()["accepting"])
        self.assertEqual(self.arm("d", free).status, 201)
        self.assertIn("all faults are reverted, none is taken", self.agent.read_log())


class PodsAgent(Agent):
    """In a pod of that namespace, by its service account."""
    space = "drills"

    def command(self):
        return [*in_pod(self.folder, api, file("ca.pem"), self.space), *super().command()]


class InPod(WithAgent):
    """Installed in another namespace than pgjolt: the kill switch, claims and the right to look are there."""
    kind = PodsAgent
    options = ("--authorize", "kubernetes", "--max-share", "50%")

    def connection(self):
        return tls_options(folder, self.port, NODE)

    def test_all_is_in_its_own_namespace(self):
        api.rights.discard((ME, "get", "pgjolt"))
        self.refused(self.me("GET", "/v1/node"), 403, "may not get", "drills")
        api.rights.add((ME, "get", "drills"))
        self.agent.wait_for(lambda: self.me("GET", "/v1/node").status == 200)
        self.agent.wait_for(lambda: self.arm("one").status == 201)
        self.assertEqual([space for space, name in api.objects["configmaps"] if name.startswith("pgjolt-share-")], ["drills"])
        api.put("configmaps", "pgjolt-stop", "pgjolt", data={"stop": "true"})
        api.put("configmaps", "pgjolt-stop", "drills", data={"stop": "true", "reason": "here"})
        self.agent.wait_for(lambda: not self.node()["accepting"])
        self.assertEqual(self.node()["reason"], "the kill switch (ConfigMap drills/pgjolt-stop) is on: here")
        self.agent.wait_for(lambda: self.state("one") == "clean")
        api.delete("configmaps", "pgjolt-stop", "drills")
        # That of pgjolt is somebody else's.
        self.agent.wait_for(lambda: self.node()["accepting"])
        api.delete("configmaps", "pgjolt-stop", "pgjolt")
        self.agent.wait_for(lambda: not [name for _, name in api.objects["configmaps"] if name.startswith("pgjolt-share-")])


class SaidNamespace(WithAgent):
    """By a kubeconfig, with --namespace."""
    more = ("--namespace", "elsewhere")

    def test_the_kill_switch_follows(self):
        self.assertIn(f"agent of node {NODE} listens on {self.agent.socket} and 127.0.0.1:{self.port}\n", self.agent.read_log())
        api.put("configmaps", "pgjolt-stop", "elsewhere", data={"stop": "true"})
        self.agent.wait_for(lambda: not self.node()["accepting"])
        self.assertIn("ConfigMap elsewhere/pgjolt-stop", self.node()["reason"])
        api.delete("configmaps", "pgjolt-stop", "elsewhere")
        self.agent.wait_for(lambda: self.node()["accepting"])


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("openssl"):
        print("needs root and openssl")
        sys.exit(77)
    unittest.main(verbosity=2)
