"""Tests of test_cluster.py: who may do what. Each refusal is told to the caller, and is a line of its own in an agent's log."""
import base64
import json
import os
import re

import lab
from lab import wait_for

SMALL = ("proc-freeze", "--processes", "titles", "--titles", "checkpointer", "--for", "2s")
TOOLBOX = r"system:serviceaccount:pgjolt:pgjolt-toolbox \(certificate pgjolt-client\)"
PG_IMAGE = "localhost/pg15:lab"


def a_replica(world):
    return next(f"shop/{o['metadata']['name']}" for o in world.pods() if o["metadata"]["labels"]["role"] != "master")


def inject(world, *words, target=None):
    """One small fault on a replica, or whatever is said: its exit code and words."""
    return world.toolbox("pgjolt", "inject", SMALL[0], "--target", target or a_replica(world), *SMALL[1:], *words,
                         check=False, timeout=60)


def refused(world, r, words):
    assert r.returncode != 0, r.stdout
    assert words in r.stdout + r.stderr, r.stdout + r.stderr
    world.wait_clean(10)


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
    cluster = {"server": f"https://{world.get('service', 'kubernetes')['spec']['clusterIP']}",
               "certificate-authority-data": data["ca.crt"]}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "it",
              "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
              "clusters": [{"name": "it", "cluster": cluster}],
              "users": [{"name": "it", "user": {"token": base64.b64decode(data["token"]).decode()}}]}
    world.toolbox("sh", "-c", f"umask 077; cat >/tmp/{name}.json", stdin=json.dumps(config))
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
             "spec": {"audiences": ["pgjolt.io"], "expirationSeconds": 3600}}
    answer = world.kubectl("create", "--raw", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", "-f", "-",
                           stdin=json.dumps(asked))
    world.toolbox("sh", "-c", f"umask 077; cat >/tmp/{name}.token", stdin=json.loads(answer)["status"]["token"])
    return "--kubeconfig", f"/tmp/{name}.json", "--token-file", f"/tmp/{name}.token"


def forget(world, namespace, name):
    world.kubectl("delete", "clusterrolebinding", f"test-{name}", check=False)
    world.kubectl("-n", "pgjolt", "delete", "rolebinding", f"{namespace}-{name}", check=False)
    world.kubectl("-n", namespace, "delete", "secret,serviceaccount", name, check=False)


def refused_for_rights(world, caller, user):
    """May not arm there: told, audited with who, what and where, and with what the API server was asked."""
    log, target = lab.AgentsLog(world), a_replica(world)
    why = rf"{user} may not create faults\.pgjolt\.io in namespace shop: .+"
    refused(world, inject(world, *caller, target=target), "may not create faults.pgjolt.io in namespace shop")
    log.wait_audit(rf"{user} \(certificate pgjolt-client\): arm \S+, proc-freeze on {target}: 403, {why}",
                   rf"{user}: may not create faults\.pgjolt\.io in namespace shop: .+")


def test_caller_without_the_right_is_refused(world):
    caller = account(world, "pgjolt", "stranger")
    try:
        refused_for_rights(world, caller, "system:serviceaccount:pgjolt:stranger")
    finally:
        forget(world, "pgjolt", "stranger")


def test_token_for_another_audience_is_refused(world):
    log = lab.AgentsLog(world)
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    refused(world, inject(world, "--token-file", token), 'audience "pgjolt.io"')
    log.wait_audit(r'certificate pgjolt-client: \S+ /v1/\S+: 401, the token is refused: a token for the audience "pgjolt\.io".*')


def test_right_in_another_namespace_does_not_serve(world):
    user = "system:serviceaccount:elsewhere:neighbour"
    world.kubectl("create", "namespace", "elsewhere")
    try:
        caller = account(world, "elsewhere", "neighbour")
        world.kubectl("-n", "elsewhere", "create", "rolebinding", "may", "--clusterrole=pgjolt-operator",
                      "--serviceaccount=elsewhere:neighbour")
        refused_for_rights(world, caller, user)
        world.kubectl("-n", "shop", "create", "rolebinding", "neighbour", "--clusterrole=pgjolt-operator",
                      "--serviceaccount=elsewhere:neighbour")
        log, target = lab.AgentsLog(world), a_replica(world)
        # The refusal is kept for 5 s.
        wait_for("the right serves", lambda: inject(world, *caller, target=target).returncode == 0, 30)
        log.wait_audit(rf"{user} \(certificate pgjolt-client\): arm \S+, proc-freeze on {target}: 201, armed.*")
        world.wait_clean()
    finally:
        forget(world, "elsewhere", "neighbour")
        world.kubectl("-n", "shop", "delete", "rolebinding", "neighbour", "--ignore-not-found")
        world.kubectl("delete", "namespace", "elsewhere", "--wait=false")


def test_namespace_that_did_not_opt_in_is_refused(world):
    world.kubectl("label", "namespace", "shop", "pgjolt.io/enabled-")
    try:
        wait_for("the label's loss is known", lambda: inject(world).returncode != 0, 20)
        log, target = lab.AgentsLog(world), a_replica(world)
        refused(world, inject(world, target=target), "namespace shop has not opted in")
        log.wait_audit(rf"{TOOLBOX}: arm \S+, proc-freeze on {target}: 403, namespace shop has not opted in: .+")
    finally:
        world.kubectl("label", "namespace", "shop", "pgjolt.io/enabled=true")
    wait_for("the label is known", lambda: inject(world).returncode == 0, 20)


# Certificates.

def refused_certificate(world, certificate, words):
    """On any request, as the one that it is."""
    log = lab.AgentsLog(world)
    for path, name in zip(certificate, ("crt", "key")):
        with open(path, encoding="utf-8") as f:
            world.toolbox("sh", "-c", f"umask 077; cat >/tmp/bad.{name}", stdin=f.read())
    refused(world, inject(world, "--tls-ca", "/etc/pgjolt/tls/ca.crt", "--tls-cert", "/tmp/bad.crt", "--tls-key",
                          "/tmp/bad.key"), "the client's certificate is refused")
    log.wait_audit(rf"certificate pgjolt-client: GET /v1/\S+: 403, the client's certificate is refused: .*{words}.*")


def test_expired_certificate_is_refused(world):
    refused_certificate(world, world.authority.issue("pgjolt-client", -1), "expired certificate")


def test_foreign_certificate_is_refused(world):
    """Of an authority with the same name and another key."""
    foreign = lab.Authority(os.path.join(world.folder, "foreign"))
    refused_certificate(world, foreign.issue("pgjolt-client"), "(issuer is unknown|signature in the certificate is invalid)")


# The same request once more.

def agent_on(world, node):
    return next(a for a in world.pods("pgjolt", "component=agent") if a["spec"]["nodeName"] == node)


def identity(world):
    """What a coordinator has: authority, certificate, key, as they are now."""
    data = world.get("-n", "pgjolt", "secret", "pgjolt-client-tls")["data"]
    return {name: base64.b64decode(data[key]).decode() for name, key in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key"))}


def order(files, address, token, calls):
    """The argument of caller.py. files: as identity() has them."""
    return json.dumps({"address": address, "token": token, "files": files, "calls": calls})


def caller_script():
    with open(os.path.join(lab.TOP, "tests", "kube", "caller.py"), encoding="utf-8") as f:
        return f.read()


def arm_words(experiment, target):
    return {"experiment": experiment, "run": "again", "fault": "proc-freeze", "instance": target, "duration_ms": 5000,
            "lease_ms": 5000, "params": {"processes": "titles", "titles": ["checkpointer"]}}


def send_from_pod(world, *words):
    """By a pod that the agents' NetworkPolicy lets in, since it has the toolbox's labels; nobody may ask for the toolbox
    meanwhile."""
    labels = {"app.kubernetes.io/name": "pgjolt", "app.kubernetes.io/component": "toolbox"}
    world.kubectl("apply", "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sender", "namespace": "pgjolt", "labels": labels},
        "spec": {"dnsPolicy": "Default", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "sender", "image": PG_IMAGE, "imagePullPolicy": "IfNotPresent",
                                 "command": ["sleep", "600"]}]}}))
    try:
        wait_for("the sender", lambda: lab.is_ready(world.get("-n", "pgjolt", "pod", "sender")), 60)
        return json.loads(world.kubectl("-n", "pgjolt", "exec", "sender", "--", "python3", "-c", caller_script(), *words))
    finally:
        world.kubectl("-n", "pgjolt", "delete", "pod", "sender", "--now")


def test_request_sent_again_is_refused(world):
    """By somebody who has all: certificate, token, and the very words."""
    target = a_replica(world)
    node = next(o["spec"]["nodeName"] for o in world.pods() if f"shop/{o['metadata']['name']}" == target)
    arm = ["POST", "/v1/experiments", arm_words("again-1", target)]
    token, log = world.toolbox("cat", "/var/run/secrets/pgjolt.io/token"), lab.AgentsLog(world)
    answers = send_from_pod(world, order(identity(world), agent_on(world, node)["status"]["podIP"], token, [
        arm, ["POST", "/v1/experiments/again-1/revert", None], arm, ["POST", "/v1/experiments/again-1/fire", None]]))
    assert [a[0] for a in answers] == [201, 200, 409, 410], answers
    assert "an id serves once" in answers[2][1]["error"]["message"], answers[2]
    log.wait_audit(rf"{TOOLBOX}: arm again-1, proc-freeze on {target}: 201, armed.*",
                   rf"{TOOLBOX}: arm again-1, proc-freeze on {target}: 409, experiment again-1 has ended \(requested\): "
                   r"an id serves once.*",
                   rf"{TOOLBOX}: fire again-1.*: 410, .*")
    assert not re.search(r"again-1: proc-freeze on \S+: active", log.new()), log.new()
    world.wait_clean(20)
