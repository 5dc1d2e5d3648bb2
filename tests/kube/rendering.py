"""What the overlays of manifests/ and the Helm chart render, by the programs that this machine has or can have."""
import functools
import glob
import json
import os
import shutil
import subprocess

import yaml

import lab

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
def fetch():
    return subprocess.run([os.path.join(TOP, "tools", "kube-clients")], capture_output=True, text=True, check=False, timeout=120)


def fetched(name):
    """Path of a program that tools/kube-clients has, or None and why."""
    r = fetch()
    return (os.path.join(r.stdout.strip(), name), None) if r.returncode == 0 else (None, r.stderr.strip())


def reads_components(kubectl):
    path = os.path.join(MANIFESTS, "overlays", "no-tun")
    return subprocess.run([kubectl, "kustomize", path], capture_output=True, check=False, timeout=60).returncode == 0


@functools.lru_cache(maxsize=None)
def kubectl_of_components():
    """The first that can; None: there is none."""
    return next(filter(reads_components, kubectls()), None) or fetched("kubectl")[0]


def helm_program():
    return shutil.which("helm") or fetched("helm")[0]


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

    def combined(self, overlay, components, **more):
        """By an overlay of a user's own."""
        folder = os.path.join(self.folder, "combined")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as f:
            json.dump({"resources": [f"../../../manifests/overlays/{overlay}"],
                       "components": [f"../../../manifests/components/{name}" for name in components], **more}, f)
        return self.kustomize(folder)

    def helm(self, values, namespace="pgjolt", by=None):
        over = os.path.join(self.folder, "values.json")
        with open(over, "w", encoding="utf-8") as f:
            json.dump(values, f)
        words = [by, "template", "pgjolt", CHART, "--namespace", namespace, "--values", over] if by else \
            [self.render, CHART, namespace, over]
        return objects(subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout)

    def remove(self):
        pass


def agent_of(rendered):
    spec = rendered["DaemonSet", "pgjolt", "pgjolt-agent"]["spec"]["template"]["spec"]
    return spec, spec["containers"][0]


def pod_of(o):
    """The pod spec and labels within an object that makes pods; None."""
    spec = o.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    template = spec.get("template") if isinstance(spec, dict) else None
    return (template["spec"], template["metadata"]["labels"]) if template else None


def strings(value):
    if isinstance(value, dict):
        for v in value.values():
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    elif isinstance(value, str):
        yield value


@functools.lru_cache(maxsize=None)
def everything(world):
    """Each set of objects that is rendered, by its name; to look at alone."""
    found = {f"chart, {values}": world.helm(values) for values in [*SAME.values(), *(values for _, _, values in COMBINED)]}
    if kubectl_of_components():
        found.update((overlay, world.kustomize(overlay)) for overlay in SAME)
        found.update((f"{overlay} with {components}", world.combined(overlay, components)) for overlay, components, _ in COMBINED)
    return found


def examples():
    paths = sorted(glob.glob(os.path.join(MANIFESTS, "examples", "*.yaml")))
    assert paths
    return {os.path.basename(path): objects(open(path, encoding="utf-8").read()) for path in paths}
