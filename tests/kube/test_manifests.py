"""What the overlays, alone and with several components, and the Helm chart render: the same objects, each as its overlay says.
Needs no cluster, but kubectl (its kustomize; components from 1.21 on), Go with sprig for the chart, and jsonschema."""
import copy
import functools
import glob
import json
import os
import shutil
import subprocess
import sys

import yaml

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab      # noqa: E402
import suite    # noqa: E402

TOP = lab.TOP
MANIFESTS = os.path.join(TOP, "manifests")
CHART = os.path.join(MANIFESTS, "helm", "pgjolt")
SAME = {    # overlay: the chart's values for it
    "standard": {},
    "minimal": {"authorize": "certificate"},
    "cert-manager": {"certificates": "cert-manager"},
    "openshift": {"openshift": True},
    "podmonitor": {"podMonitor": True},
    "tun-privileged": {"tun": "privileged"},
    "no-tun": {"tun": "none"},
}
PLAIN = ("standard", "minimal")     # without components: any kubectl reads them
COMBINED = [    # overlay, components, the chart's values for them
    ("standard", ["openshift", "cert-manager", "podmonitor"],
     {"openshift": True, "certificates": "cert-manager", "podMonitor": True}),
    ("standard", ["cert-manager", "no-tun"], {"certificates": "cert-manager", "tun": "none"}),
    ("standard", ["openshift", "tun-privileged"], {"openshift": True, "tun": "privileged"}),
    ("standard", ["podmonitor", "tun-privileged", "cert-manager"],
     {"podMonitor": True, "tun": "privileged", "certificates": "cert-manager"}),
    ("minimal", ["cert-manager", "openshift", "no-tun"],
     {"authorize": "certificate", "certificates": "cert-manager", "openshift": True, "tun": "none"}),
    ("minimal", ["podmonitor"], {"authorize": "certificate", "podMonitor": True}),
]


def objects(text):
    """By kind, namespace and name; what is null is not there."""
    def clean(value):
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if v is not None}
        return [clean(v) for v in value] if isinstance(value, list) else value
    found = {}
    for o in yaml.safe_load_all(text):
        if not o:
            continue
        key = (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = clean(o)
    return found


def kubectls():
    return [path for path in (lab.kubectl_program(), shutil.which("kubectl")) if path]


@functools.lru_cache(maxsize=None)
def kubectl_of_components():
    """The first that can; None: there is none."""
    path = os.path.join(MANIFESTS, "overlays", "no-tun")
    return next((kubectl for kubectl in kubectls() if subprocess.run(
        [kubectl, "kustomize", path], capture_output=True, check=False, timeout=60).returncode == 0), None)


class World:
    def __init__(self):
        self.folder = os.path.join(TOP, "build", "kube")
        os.makedirs(self.folder, exist_ok=True)
        self.render = os.path.join(self.folder, "render")
        subprocess.run(["go", "build", "-o", self.render, os.path.join(TOP, "tests", "kube", "helm", "render.go")],
                       check=True, timeout=300, env={
                           "PATH": os.environ["PATH"], "GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
                           "GOCACHE": os.path.join(self.folder, "go"), "HOME": self.folder, "CGO_ENABLED": "0"})
        self.agent = self

    def tail(self, _length):
        """Nothing runs that could tell."""
        return ""

    def kustomize(self, path, kubectl=None):
        """Of an overlay's name, or a folder."""
        path = os.path.join(MANIFESTS, "overlays", path)
        kubectl = kubectl or kubectl_of_components() or kubectls()[0]
        return objects(subprocess.run([kubectl, "kustomize", path], check=True, capture_output=True, text=True,
                                      timeout=60).stdout)

    def combined(self, overlay, components):
        """By an overlay of a user's own."""
        folder = os.path.join(self.folder, "combined")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as f:
            json.dump({"resources": [f"../../../manifests/overlays/{overlay}"],
                       "components": [f"../../../manifests/components/{name}" for name in components]}, f)
        return self.kustomize(folder)

    def helm(self, values):
        over = os.path.join(self.folder, "values.json")
        with open(over, "w", encoding="utf-8") as f:
            json.dump(values, f)
        return objects(subprocess.run([self.render, CHART, "pgjolt", over], check=True, capture_output=True,
                                      text=True, timeout=60).stdout)

    def remove(self):
        pass


def agent_of(rendered):
    spec = rendered["DaemonSet", "pgjolt", "pgjolt-agent"]["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


def assert_same(name, one, other):
    one.pop(("Namespace", None, "pgjolt"))      # the chart's user makes it
    assert sorted(map(str, one)) == sorted(map(str, other)), name
    for key, o in one.items():
        assert o == other[key], f"{name}: {key}\n{json.dumps(o, indent=1)}\n{json.dumps(other[key], indent=1)}"


def test_chart_renders_what_overlays_render(world):
    assert sorted(SAME) == sorted(os.listdir(os.path.join(MANIFESTS, "overlays")))
    for overlay, values in SAME.items():
        if overlay in PLAIN or kubectl_of_components():
            assert_same(overlay, world.kustomize(overlay), world.helm(values))


def test_components_combine(world):
    assert sorted(set(SAME) - set(PLAIN)) == sorted(os.listdir(os.path.join(MANIFESTS, "components")))
    for overlay, components, values in COMBINED:
        assert_same(f"{overlay} with {components}", world.combined(overlay, components), world.helm(values))


def test_every_kubectl_reads_the_plain_overlays(world):
    for overlay in PLAIN:
        read = [world.kustomize(overlay, kubectl) for kubectl in kubectls()]
        assert read[0] == read[-1], overlay


def test_agent_asks_for_no_more_than_it_says(world):
    spec, agent = agent_of(world.kustomize("standard"))
    security = agent["securityContext"]
    assert security["privileged"] is False and security["readOnlyRootFilesystem"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"]["drop"] == ["ALL"]
    assert spec["hostPID"] is True and not spec.get("hostNetwork") and not spec.get("hostIPC")
    told = open(os.path.join(TOP, "docs", "security.md"), encoding="utf-8").read()
    for capability in security["capabilities"]["add"]:
        assert f"`{capability}`" in told, f"docs/security.md does not tell what {capability} is for"
    scc = objects(open(os.path.join(MANIFESTS, "components", "openshift", "scc.yaml"), encoding="utf-8").read())[
        "SecurityContextConstraints", None, "pgjolt-agent"]
    assert scc["allowedCapabilities"] == security["capabilities"]["add"]
    assert spec["terminationGracePeriodSeconds"] >= 30 and spec["tolerations"] == [{"operator": "Exists"}]


def test_minimal_has_no_way_to_the_api_server(world):
    rendered = world.kustomize("minimal")
    spec, agent = agent_of(rendered)
    assert spec["automountServiceAccountToken"] is False
    assert not [a for a in agent["args"] if "authorize" in a]
    assert not [k for k in rendered if k[0].endswith("Binding") and "agent" in k[2]]


def test_no_tun_leaves_the_device_out(world):
    spec, agent = agent_of(world.kustomize("no-tun") if kubectl_of_components() else world.helm({"tun": "none"}))
    assert "tun" not in [v["name"] for v in spec["volumes"]]
    assert "tun" not in [m["name"] for m in agent["volumeMounts"]]


def test_schema(world):
    import jsonschema   # pylint: disable=import-outside-toplevel
    schema = json.load(open(os.path.join(CHART, "values.schema.json"), encoding="utf-8"))
    values = yaml.safe_load(open(os.path.join(CHART, "values.yaml"), encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    for name in values:
        assert name in schema["properties"], name
    for over in SAME.values():
        jsonschema.validate({**values, **over}, schema)
    for wrong in ({"tun": "yes"}, {"authorise": "kubernetes"}, {"podMonitor": "true"}, {"image": {"tag": "1"}},
                  {"agent": {"options": ["max-duration"]}}, {"maxShare": "150%"}, {"maxShare": "50"}, {"tokenAudience": "a b"}):
        try:
            jsonschema.validate({**copy.deepcopy(values), **wrong}, schema)
        except jsonschema.ValidationError:
            continue
        raise AssertionError(f"{wrong} is taken")


def test_chart_takes_values(world):
    rendered = world.helm({"image": {"repository": "images.example/pgjolt", "tag": "7"}, "networkPolicy": False,
                           "imagePullSecrets": [{"name": "pull"}], "agent": {"options": ["--max-duration=5m"]}})
    spec, agent = agent_of(rendered)
    assert agent["image"] == "images.example/pgjolt:7" and agent["args"][-1] == "--max-duration=5m"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert not [k for k in rendered if k[0] == "NetworkPolicy"]


def volume_of(rendered, name):
    """Of the toolbox: where it is mounted, and what it is; None: not there."""
    spec = rendered["Deployment", "pgjolt", "pgjolt-toolbox"]["spec"]["template"]["spec"]
    volume = [v for v in spec["volumes"] if v["name"] == name]
    mounts = [m["mountPath"] for m in spec["containers"][0]["volumeMounts"] if m["name"] == name]
    assert len(volume) == len(mounts), rendered
    return (mounts[0], volume[0]) if volume else None


def test_callers_tokens_are_for_the_agents_alone(world):
    def audience(values):
        rendered = world.helm(values)
        asked = [a.split("=")[1] for a in agent_of(rendered)[1]["args"] if a.startswith("--token-audience=")]
        return asked, volume_of(rendered, "token")
    standard = world.kustomize("standard")
    where, volume = volume_of(standard, "token")
    assert where == "/var/run/secrets/pgjolt.io"
    assert [s["serviceAccountToken"]["audience"] for s in volume["projected"]["sources"]] == ["pgjolt.io"]
    assert "--token-audience=pgjolt.io" in agent_of(standard)[1]["args"]
    assert audience({"tokenAudience": ""}) == ([], None)
    asked, (_, volume) = audience({"tokenAudience": "drills"})
    assert asked == ["drills"] == [s["serviceAccountToken"]["audience"] for s in volume["projected"]["sources"]]


def test_share_of_a_cluster(world):
    assert not [a for a in agent_of(world.helm({}))[1]["args"] if a.startswith("--max-share")]
    assert "--max-share=50%" in agent_of(world.helm({"maxShare": "50%"}))[1]["args"]
    rules = world.kustomize("standard")["Role", "pgjolt", "pgjolt-agent"]["rules"]
    assert not [r for r in rules if r["resources"] == ["leases"]]
    assert [(r.get("resourceNames"), r["verbs"]) for r in rules if r["resources"] == ["configmaps"]] == [
        (["pgjolt-stop"], ["list", "watch"]), (None, ["get", "list", "create", "update", "delete"])]
    # Who drills must not be able to lift the bound: of ConfigMaps but the kill switch it may make new ones alone.
    for (kind, _, name), item in world.kustomize("standard").items():
        for rule in item["rules"] if kind in ("Role", "ClusterRole") and name == "pgjolt-toolbox" else ():
            if "configmaps" in rule["resources"] and rule.get("resourceNames") != ["pgjolt-stop"]:
                assert not set(rule["verbs"]) - {"get", "list", "watch", "create"}, rule


def test_versions_agree(world):
    chart = yaml.safe_load(open(os.path.join(CHART, "Chart.yaml"), encoding="utf-8"))
    assert chart["appVersion"] == lab.version() and chart["version"] == lab.version()
    _, agent = agent_of(world.kustomize("standard"))
    assert agent["image"] == f"pgjolt:{lab.version()}"


def test_examples_are_whole(world):
    accounts = {k[2] for k in world.kustomize("standard") if k[0] == "ServiceAccount"}
    paths = glob.glob(os.path.join(MANIFESTS, "examples", "*.yaml"))
    assert paths
    for path in paths:
        for key, o in objects(open(path, encoding="utf-8").read()).items():
            spec = o.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            pod = spec.get("template", {}).get("spec")
            assert not pod or pod["serviceAccountName"] in accounts, (path, key)


if __name__ == "__main__":
    tests = dict(globals())
    if kubectls() and not kubectl_of_components():
        print("SKIPPED the overlays with a component: no kubectl here is 1.21 or newer")
        print(f"SKIPPED {tests.pop('test_components_combine').__name__}: the same")
    suite.main(tests, World, needs={"Go (tools/deps kube)": lab.has("go"), "kubectl": kubectls()})
