"""What the overlays, alone and with several components, and the Helm chart render: the same objects, each as its overlay says,
of the form that their kinds have. Needs no cluster, but kubectl (its kustomize; components from 1.21 on), Go with sprig for the
chart, and jsonschema. Where PATH has no such kubectl or no helm, tools/kube-clients brings them; where it cannot, what needs
them is told as skipped, and so is the whole."""
import copy
import json
import os
import re
import subprocess
import sys

import yaml

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab      # noqa: E402
import suite    # noqa: E402
from rendering import (CHART, COMBINED, MANIFESTS, PLAIN, SAME, TOP, World, agent_of, everything, examples, fetched,     # noqa: E402
                       helm_program, kubectl_of_components, kubectls, pod_of, strings)


def assert_same(name, one, other):
    one = {key: o for key, o in one.items() if key[0] != "Namespace"}   # the chart's user makes it
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


def schemas():
    """By apiVersion/kind, from the short form of tests/kube/data/objects.schema.yaml."""
    data = yaml.safe_load(open(os.path.join(TOP, "tests", "kube", "data", "objects.schema.yaml"), encoding="utf-8"))
    found = {}
    for name, kind in data["kinds"].items():
        version, _, word = name.rpartition("/")
        fields = dict(kind.get("fields", {}))
        required = ["apiVersion", "kind", "metadata", *kind.get("required", [])]
        if "spec" in kind:
            spec = kind["spec"]
            fields["spec"] = spec if "$ref" in spec else {"type": "object", "additionalProperties": False, **spec}
            required.append("spec")
        where = "globalMetadata" if kind.get("metadata") == "global" else "metadata"
        found[name] = {"type": "object", "additionalProperties": False, "required": required, "parts": data["parts"], "properties": {
            "apiVersion": {"const": version}, "kind": {"const": word}, "metadata": {"$ref": f"#/parts/{where}"}, **fields}}
    return found


def problem(schema, o):
    """What is wrong with an object, or None."""
    import jsonschema   # pylint: disable=import-outside-toplevel
    error = next(jsonschema.Draft7Validator(schema).iter_errors(o), None)
    return error and f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def test_objects_have_the_form_of_their_kinds(world):
    known = schemas()
    for where, rendered in {**everything(world), **examples()}.items():
        for key, o in rendered.items():
            wrong = problem(known[f"{o['apiVersion']}/{o['kind']}"], o)
            assert not wrong, f"{where}: {key}: {wrong}"


def test_slips_are_seen(world):
    """The schemas would see what they are there for."""
    known, all_of_it = schemas(), everything(world)
    seen = {o["kind"]: (key, o) for rendered in all_of_it.values() for key, o in rendered.items()}

    def spoilt(kind, change):
        o = copy.deepcopy(seen[kind][1])
        change(o)
        return problem(known[f"{o['apiVersion']}/{kind}"], o)
    for kind, change in (
            ("Certificate", lambda o: o["spec"].update(secret=o["spec"].pop("secretName"))),
            ("Certificate", lambda o: o["spec"]["usages"].append("client-auth")),
            ("Certificate", lambda o: o["spec"]["issuerRef"].pop("name")),
            ("Certificate", lambda o: o["spec"].update(duration="90d")),
            ("Issuer", lambda o: o["spec"].update(ca={"secret": "x"})),
            ("PodMonitor", lambda o: o["spec"]["podMetricsEndpoints"][0]["tlsConfig"].pop("keySecret")),
            ("PodMonitor", lambda o: o["spec"]["podMetricsEndpoints"][0].update(interval="15")),
            ("PodMonitor", lambda o: o["spec"].update(endpoints=o["spec"].pop("podMetricsEndpoints"))),
            ("SecurityContextConstraints", lambda o: o.pop("priority")),
            ("SecurityContextConstraints", lambda o: o["allowedCapabilities"].append("CAP_BPF")),
            ("SecurityContextConstraints", lambda o: o.update(allowHostPid=True)),
            ("SecurityContextConstraints", lambda o: o["volumes"].append("secrets")),
            ("DaemonSet", lambda o: o["spec"]["template"]["spec"]["containers"][0].update(livenessprobe={})),
            ("DaemonSet", lambda o: o["spec"]["template"]["spec"]["volumes"][0].update(configMap={})),
            ("ClusterRole", lambda o: o["rules"][0]["verbs"].append("read")),
            ("RoleBinding", lambda o: o["subjects"][0].pop("namespace"))):
        assert spoilt(kind, change), kind
        assert not spoilt(kind, lambda o: None), kind


def secrets_of(rendered):
    """Names of all Secrets that pods, PodMonitors and Issuers want."""
    def walk(value, key=None):
        if isinstance(value, dict):
            if key in ("secret", "keySecret", "ca", "secretKeyRef") and (value.get("secretName") or value.get("name")):
                yield value.get("secretName") or value["name"]
            for k, v in value.items():
                yield from walk(v, k)
        elif isinstance(value, list):
            for v in value:
                yield from walk(v)
    return set(walk([o.get("spec") for o in rendered.values()]))


def test_what_objects_name_is_there(world):
    for where, rendered in everything(world).items():
        names = {(kind, name) for kind, _, name in rendered}
        made = {o["spec"]["secretName"] for (kind, _, _), o in rendered.items() if kind == "Certificate"}
        for key, o in rendered.items():
            if "roleRef" in o:
                assert (o["roleRef"]["kind"], o["roleRef"]["name"]) in names, (where, key)
                for subject in o["subjects"]:
                    assert ("ServiceAccount", subject["namespace"], subject["name"]) in rendered, (where, key)
            if key[0] == "Certificate":
                assert ("Issuer", o["spec"]["issuerRef"]["name"]) in names, (where, key)
            if key[0] in ("PodMonitor", "NetworkPolicy"):
                selector = (o["spec"].get("selector") or o["spec"]["podSelector"])["matchLabels"]
                pods = [p for p in map(pod_of, rendered.values()) if p and selector.items() <= p[1].items()]
                ports = {port["name"] for spec, _ in pods for port in spec["containers"][0].get("ports", [])}
                asked = {e["port"] for e in o["spec"].get("podMetricsEndpoints", [])} | {
                    p["port"] for rule in o["spec"].get("ingress", []) for p in rule["ports"]}
                assert pods and asked <= ports, (where, key)
            if pod_of(o):
                check_pod(o, where, key, names)
        if made:
            assert secrets_of(rendered) <= made, (where, secrets_of(rendered) - made)


def check_pod(o, where, key, names):
    spec, labels = pod_of(o)
    assert ("ServiceAccount", spec["serviceAccountName"]) in names, (where, key)
    assert "priorityClassName" not in spec or ("PriorityClass", spec["priorityClassName"]) in names, (where, key)
    assert o["spec"]["selector"]["matchLabels"].items() <= labels.items(), (where, key)
    for container in spec["containers"]:
        mounted = [m["name"] for m in container["volumeMounts"]]
        assert sorted(mounted) == sorted(v["name"] for v in spec["volumes"]), (where, key)


def moved(rendered, namespace):
    """The same objects in another namespace: what names it is in two places alone."""
    found = {}
    for (kind, space, name), o in copy.deepcopy(rendered).items():
        if "namespace" in o["metadata"]:
            o["metadata"]["namespace"] = namespace
        for subject in o.get("subjects", []):
            subject["namespace"] = namespace
        found[kind, space and namespace, name] = o
    return found


def test_chart_in_another_namespace(world):
    """All that names the namespace names the release's; nothing else tells a pod of one, so agents and toolbox go by their own."""
    for values in [*SAME.values(), *(values for _, _, values in COMBINED)]:
        elsewhere = world.helm(values, "drills")
        assert_same(f"chart, {values}, elsewhere", moved(world.helm(values), "drills"), elsewhere)
        for key, o in elsewhere.items():
            for text in strings(pod_of(o) and [[c.get("command"), c.get("args"), c.get("env")] for c in pod_of(o)[0]["containers"]]):
                assert not re.search(r"namespace=|configmap=|\.svc\b|^pgjolt/", text), (values, key, text)


def test_overlay_in_another_namespace(world):
    """As kustomize moves it, by `namespace:` in an overlay of one's own."""
    for overlay, components, values in COMBINED:
        rendered = world.combined(overlay, components, namespace="drills")
        assert ("Namespace", None, "drills") in rendered
        # kustomize does not know that this kind has none; the API server drops it.
        scc = rendered.pop(("SecurityContextConstraints", "drills", "pgjolt-agent"), None)
        if scc:
            del scc["metadata"]["namespace"]
            rendered["SecurityContextConstraints", None, "pgjolt-agent"] = scc
        assert_same(f"{overlay} with {components} in drills", rendered, world.helm(values, "drills"))


def test_helm_renders_the_same(world):
    """Helm itself, which also holds the values against the chart's schema."""
    helm = helm_program()
    for values in [*SAME.values(), *(values for _, _, values in COMBINED)]:
        for namespace in ("pgjolt", "drills"):
            assert world.helm(values, namespace, by=helm) == world.helm(values, namespace), values
    for wrong in ({"tun": "yes"}, {"authorise": "kubernetes"}):
        try:
            world.helm(wrong, by=helm)
        except subprocess.CalledProcessError as e:
            assert next(iter(wrong)) in e.stderr, e.stderr
            continue
        raise AssertionError(f"{wrong} is taken")


def test_every_kubectl_reads_the_plain_overlays(world):
    for overlay in PLAIN:
        read = [world.kustomize(overlay, kubectl) for kubectl in kubectls()]
        assert read[0] == read[-1], overlay


def table_of(heading):
    """What the rows of that table of docs/security.md tell of: the names in their first column."""
    lines = open(os.path.join(TOP, "docs", "security.md"), encoding="utf-8").read().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = lines[start + 2:]
    rows = rows[:next(i for i, line in enumerate(rows) if not line.startswith("|"))]
    return sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1]))


def test_agent_asks_for_no_more_than_it_says(world):
    spec, agent = agent_of(world.kustomize("standard"))
    security = agent["securityContext"]
    assert security["privileged"] is False and security["readOnlyRootFilesystem"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"]["drop"] == ["ALL"]
    assert spec["hostPID"] is True and not spec.get("hostNetwork") and not spec.get("hostIPC")
    assert table_of("capability") == sorted(security["capabilities"]["add"]), "docs/security.md tells of others"
    assert table_of("mount") == sorted(m["mountPath"] for m in agent["volumeMounts"]), "docs/security.md tells of others"
    assert spec["terminationGracePeriodSeconds"] >= 30 and spec["tolerations"] == [{"operator": "Exists"}]


def test_openshift_lets_them_in(world):
    """By the SCC of ours the agent, by restricted-v2 of OpenShift's own the toolbox and the examples: neither asks for more."""
    for tun in ("device", "privileged", "none"):
        rendered = world.helm({"openshift": True, "tun": tun})
        scc = rendered["SecurityContextConstraints", None, "pgjolt-agent"]
        spec, agent = agent_of(rendered)
        security = agent["securityContext"]
        assert scc["allowHostPID"] is spec["hostPID"] is True and scc["allowHostDirVolumePlugin"]
        assert scc["allowPrivilegedContainer"] is security["privileged"] is (tun == "privileged")
        asked = security.get("capabilities", {}).get("add", scc["allowedCapabilities"])
        assert scc["allowedCapabilities"] == asked and "*" not in asked
        # What is no longer there by default is projected: the service account's token.
        assert set(scc["volumes"]) == {kind for v in spec["volumes"] for kind in v if kind != "name"} | {"projected"}
        assert scc["seccompProfiles"] == ["runtime/default"] and scc["readOnlyRootFilesystem"] is security["readOnlyRootFilesystem"]
        assert security["seLinuxOptions"] == {"type": "spc_t"} and scc["seLinuxContext"] == {"type": "RunAsAny"}
        role = rendered["Role", "pgjolt", "pgjolt-agent-scc"]["rules"]
        assert role[0]["resourceNames"] == ["pgjolt-agent"] and role[0]["verbs"] == ["use"] and len(role) == 1
        assert [s["name"] for s in rendered["RoleBinding", "pgjolt", "pgjolt-agent-scc"]["subjects"]] == ["pgjolt-agent"]
        check_restricted("toolbox", rendered["Deployment", "pgjolt", "pgjolt-toolbox"])
    for name, found in examples().items():
        for o in found.values():
            if pod_of(o):
                check_restricted(name, o)


def check_restricted(name, o):
    """As restricted-v2 and the level `restricted` of Pod Security ask: no user or group of one's own choosing."""
    spec, _ = pod_of(o)
    pod = spec["securityContext"]
    assert pod == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, (name, pod)
    assert not spec.get("hostPID") and not spec.get("hostNetwork"), name
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}, name
    assert {kind for v in spec["volumes"] for kind in v} <= {"name", "emptyDir", "secret", "projected"}, name


def test_metrics_have_an_identity_of_their_own(world):
    """Prometheus shows a certificate that opens the metrics alone, and has neither the coordinators' nor a token."""
    for overlay in ({}, {"authorize": "certificate"}):
        rendered = world.helm({**overlay, "podMonitor": True, "certificates": "cert-manager"})
        args = agent_of(rendered)[1]["args"]
        assert [a for a in args if a.startswith("--tls-allow")] == ["--tls-allow=pgjolt-client", "--tls-allow-metrics=pgjolt-metrics"]
        endpoint, = rendered["PodMonitor", "pgjolt", "pgjolt-agent"]["spec"]["podMetricsEndpoints"]
        assert not {"authorization", "bearerTokenSecret", "basicAuth"} & set(endpoint)
        tls = endpoint["tlsConfig"]
        assert {tls["ca"]["secret"]["name"], tls["cert"]["secret"]["name"], tls["keySecret"]["name"]} == {"pgjolt-metrics-tls"}
        certificate = rendered["Certificate", "pgjolt", "pgjolt-metrics"]["spec"]
        assert certificate["secretName"] == "pgjolt-metrics-tls" and certificate["usages"] == ["digital signature", "client auth"]
        assert [certificate["commonName"], *certificate["dnsNames"]] == ["pgjolt-metrics"] * 2
        assert not [k for k in rendered if k[0] == "Secret" or k[0] == "ServiceAccount" and "metrics" in k[2]]


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
    for name, found in examples().items():
        for key, o in found.items():
            assert not pod_of(o) or pod_of(o)[0]["serviceAccountName"] in accounts, (name, key)


def skip(tests):
    """Takes out of them what needs a program that is not to be had, and says why. How many went."""
    gone = {}
    if kubectls() and not kubectl_of_components():
        print(f"SKIPPED the overlays with a component: no kubectl here is 1.21 or newer, and {fetched('kubectl')[1]}")
        gone.update(dict.fromkeys((test_components_combine, test_overlay_in_another_namespace), "the same"))
    if not helm_program():
        gone[test_helm_renders_the_same] = f"no helm here, and {fetched('helm')[1]}"
    for test, why in gone.items():
        print(f"SKIPPED {tests.pop(test.__name__).__name__}: {why}")
    return len(gone)


def main():
    """Ends as skipped where all that could be tried is well and something could not: ctest then shows it."""
    tests = dict(globals())
    skipped = skip(tests)
    try:
        suite.main(tests, World, needs={"Go (tools/deps render)": lab.has("go"), "kubectl": kubectls() or kubectl_of_components()})
    except SystemExit as end:
        sys.exit(77 if skipped and not end.code else end.code)


if __name__ == "__main__":
    main()
