"""The Kubernetes that tests/kube runs on: PGJOLT_KUBELAB, a script that brings up a real one of several nodes on this machine,
or any cluster by KUBECONFIG (kind for instance; then PGJOLT_IMAGE names an image that its nodes have, and what stops nodes,
kubelets or the API server is skipped)."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))      # for tests/harness

TOP = os.path.realpath(os.environ.get("PGJOLT_SOURCE") or os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(os.environ.get("PGJOLT_BUILD") or os.path.join(TOP, "build", "release"))


def has(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def version():
    text = open(os.path.join(TOP, "CMakeLists.txt"), encoding="utf-8").read()
    return re.search(r"project\(pgjolt VERSION ([0-9.]+)", text).group(1)


def kubelab_script():
    path = os.environ.get("PGJOLT_KUBELAB")
    return os.path.realpath(path) if path and os.access(path, os.X_OK) else None


def kubelab_folder():
    return os.environ.get("KUBELAB_DIR") or os.path.join(TOP, "build", "kubelab")


def kubectl_program():
    """None: there is none."""
    if kubelab_script():
        path = os.path.join(kubelab_folder(), "bin", "kubectl")
        if not os.access(path, os.X_OK) or not os.path.exists(os.path.join(kubelab_folder(), "img", "pg15.tar")):
            kubelab("setup", timeout=600)
        return path
    return shutil.which("kubectl")


def reason_to_skip():
    """None: tests/kube can run."""
    if kubelab_script() or (os.environ.get("KUBECONFIG") and has("kubectl")):
        return None
    return "neither PGJOLT_KUBELAB names a script nor KUBECONFIG a cluster"


def kubelab_names():
    return {"KUBELAB_DIR": kubelab_folder(), "KUBELAB": os.environ.get("KUBELAB", "pgjolt-kube")}


def kubelab(*words, timeout=120, check=True, **kwargs):
    env = {**os.environ, **kubelab_names()}
    r = subprocess.run([kubelab_script(), *words], text=True, timeout=timeout, env=env, check=False,
                       capture_output=True, **kwargs)
    if check and r.returncode != 0:
        raise AssertionError(f"kubelab {' '.join(words)}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
    return r


def shown(words):
    """For an error: what is long may be a key, or a token."""
    return " ".join(word if len(word) < 200 else f"<{len(word)} bytes>" for word in words)


def wait_for(what, condition, limit=60, every=0.3):
    """The first true answer of condition()."""
    end = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(every)


def mind_the_limit():
    """PGJOLT_KUBE_UNTIL (seconds since 1970): by then it ends as failed, and takes down what it brought up."""
    until = os.environ.get("PGJOLT_KUBE_UNTIL")
    if not until:
        return

    def stop(_signal, _frame):
        raise SystemExit("FAILED: the lane's time is over")
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(float(until) - time.time(), 0.001))


class Cluster:
    """A cluster with pgjolt from its manifests, and a Patroni cluster `orders` of three in namespace shop."""

    def __init__(self, overlay=os.environ.get("PGJOLT_OVERLAY", "standard")):
        self.folder = os.path.join(TOP, "build", "kube")
        self.image = os.environ.get("PGJOLT_IMAGE") or "localhost/pgjolt:test"
        self.program = os.path.join(BUILD, "coordinator", "pgjolt")
        self.own = kubelab_script() is not None
        self.agent = self       # for suite: whose tail() to show
        self.nodes = []
        self.reused = False
        self.background = []
        self.log_from = 0
        self.objects = None
        os.makedirs(self.folder, exist_ok=True)
        try:
            mind_the_limit()
            began = time.monotonic()
            if self.own:
                self.bring_up()
            self.say("cluster and image", began)
            began = time.monotonic()
            self.install(overlay)
            self.kubectl("apply", "-f", os.path.join(TOP, "tests", "kube", "data", "patroni.yaml"))
            self.wait_agents()
            wait_for("the Patroni cluster", self.patroni_is_whole, 180)
            self.say("agents and PostgreSQL", began)
        except BaseException:
            print(self.tail(), flush=True)
            self.remove()
            raise

    @staticmethod
    def say(what, began):
        print(f"    {what}: {time.monotonic() - began:.1f} s", flush=True)

    def bring_up(self):
        archive = os.path.join(self.folder, "pgjolt-test.tar")
        build = subprocess.Popen([os.path.join(TOP, "tools", "image"), "--from-build", "--tag", self.image,
                                  "--output", archive], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        kubectl_program()
        self.reused = kubelab("kubectl", "get", "nodes", check=False).returncode == 0
        if not self.reused:
            kubelab("down", check=False)
            kubelab("up", "2", timeout=180)
        said = build.communicate(timeout=600)[0]
        assert build.returncode == 0, said
        kubelab("import", archive)

    def kubectl(self, *words, check=True, stdin=None, timeout=120):
        if self.own:
            r = kubelab("kubectl", *words, check=False, input=stdin or "", timeout=timeout)
        else:
            r = subprocess.run(["kubectl", *words], text=True, capture_output=True, input=stdin or "",
                               timeout=timeout, check=False)
        if check and r.returncode != 0:
            raise AssertionError(f"kubectl {shown(words)}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
        return r if not check else r.stdout

    def get(self, *words):
        """One object, or a list's items; None: not there."""
        r = self.kubectl("get", *words, "-o", "json", check=False)
        if r.returncode != 0:
            return None
        found = json.loads(r.stdout)
        return found["items"] if found["kind"].endswith("List") else found

    def on(self, node, *command, check=True, stdin=None, timeout=60):
        r = kubelab("on", node, *command, check=False, input=stdin or "", timeout=timeout)
        assert not check or r.returncode == 0, f"on {node}: {shown(command)}: {r.stdout}{r.stderr}"
        return r.stdout

    def claims(self):
        """The ConfigMaps in which agents hold places of a cluster's share."""
        return [o["metadata"]["name"] for o in self.get("-n", "pgjolt", "configmaps")
                if o["metadata"]["name"].startswith("pgjolt-share-")]

    def certificates(self):
        """Three Secrets from an authority of this run's own."""
        self.authority = Authority(os.path.join(self.folder, "certs"))
        self.kubectl("-n", "pgjolt", "delete", "secret", "--ignore-not-found", "pgjolt-agent-tls", "pgjolt-client-tls",
                     "pgjolt-metrics-tls")
        for name in ("agent", "client", "metrics"):
            cert, key = self.authority.issue(f"pgjolt-{name}")
            self.kubectl("-n", "pgjolt", "create", "secret", "generic", f"pgjolt-{name}-tls", f"--from-file=tls.crt={cert}",
                         f"--from-file=tls.key={key}", f"--from-file=ca.crt={self.authority.ca}")

    def install(self, overlay):
        """As a user would: an overlay of one's own over that of the house, with one's image."""
        folder = os.path.join(self.folder, "overlay")
        os.makedirs(folder, exist_ok=True)
        name, tag = self.image.rsplit(":", 1)
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as f:
            f.write(f"bases: [../../../manifests/overlays/{overlay}]\n"
                    f"images:\n  - {{name: pgjolt, newName: {name}, newTag: {tag}}}\n")
        self.objects = subprocess.run([kubectl_program(), "kustomize", folder], check=True, text=True,
                                      capture_output=True, timeout=60).stdout
        self.kubectl("apply", "-f", os.path.join(TOP, "manifests", "base", "namespace.yaml"))
        self.certificates()
        self.kubectl("apply", "-f", "-", stdin=self.objects)
        if self.reused:     # the image's name is the same, what it holds is not
            self.kubectl("-n", "pgjolt", "delete", "pods", "--all", "--grace-period=1")

    def wait_agents(self, limit=120):
        self.nodes = [o["metadata"]["name"] for o in self.get("nodes")]

        def ready():
            status = (self.get("-n", "pgjolt", "daemonset", "pgjolt-agent") or {}).get("status", {})
            box = (self.get("-n", "pgjolt", "deployment", "pgjolt-toolbox") or {}).get("status", {})
            return status.get("numberReady") == len(self.nodes) == status.get("updatedNumberScheduled") and \
                box.get("readyReplicas") == 1 and \
                [is_ready(o) for o in self.pods("pgjolt", "component=agent")] == [True] * len(self.nodes)
        wait_for("agents and toolbox are ready", ready, limit)

    def pods(self, namespace="shop", label=None):
        words = ["-l", f"app.kubernetes.io/{label}"] if label else []
        return self.get("-n", namespace, "pods", *words) or []

    def pod_of(self, component, node=None):
        """A pod's name."""
        for o in self.pods("pgjolt", f"component={component}"):
            if not o["metadata"].get("deletionTimestamp") and node in (None, o["spec"].get("nodeName")):
                return o["metadata"]["name"]
        return None

    def toolbox(self, *command, check=True, stdin=None, timeout=300):
        """In the toolbox pod, as the user of the probes."""
        if stdin:       # not by kubectl exec's own, of which nothing may arrive where a node is busy
            command = ("sh", "-c", 'printf %s "$0" | "$@"', stdin, *command)
        return self.kubectl("-n", "pgjolt", "exec", "deploy/pgjolt-toolbox", "--", "env", "PGUSER=pgjolt", "PGPASSWORD=pgjolt",
                            "PGDATABASE=app", *command, check=check, timeout=timeout)

    def popen(self, *command, **kwargs):
        """The same, in the background, until it ends by itself or tidy() is called."""
        words = ["-n", "pgjolt", "exec", "deploy/pgjolt-toolbox", "--", "env", "PGUSER=pgjolt", "PGPASSWORD=pgjolt",
                 "PGDATABASE=app", *command]
        start = [kubelab_script(), "kubectl"] if self.own else ["kubectl"]
        process = subprocess.Popen(start + words, stdin=subprocess.DEVNULL, env={**os.environ, **kubelab_names()}, **kwargs)
        self.background.append(process)
        return process

    def start(self, *command):
        with open(os.path.join(self.folder, "background.log"), "a", encoding="utf-8") as log:
            self.log_from = log.tell()      # what this one says begins there
            self.popen(*command, stdout=log, stderr=log)

    def toolbox_start(self, *command):
        """The process, whose standard output is there to be read."""
        return self.popen(*command, stdout=subprocess.PIPE, text=True)

    def outside_command(self, *command, env=None):
        """On a machine of the user's, that reaches the API server and has kubectl: the words to run it by."""
        path = f"{os.path.join(TOP, 'manifests', 'plugin')}:{os.path.dirname(kubectl_program())}:{os.environ['PATH']}"
        names = {**(env or {}), "PATH": path}
        if self.own:
            names["KUBECONFIG"] = kubelab("kubeconfig").stdout.strip()
        words = ["env", *(f"{name}={value}" for name, value in names.items()), *command]
        return [kubelab_script(), "on", "cp", *words] if self.own else words

    def outside(self, *command, env=None, timeout=60):
        return subprocess.run(self.outside_command(*command, env=env), text=True, capture_output=True, timeout=timeout,
                              check=False, stdin=subprocess.DEVNULL, env={**os.environ, **kubelab_names()})

    def outside_start(self, *command):
        """The same in the background: the process, whose standard output has all that it says."""
        process = subprocess.Popen(self.outside_command(*command), text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **kubelab_names()})
        self.background.append(process)
        return process

    def plugin(self, *words, env=None, timeout=60):
        return self.outside("kubectl", "pgjolt", *words, env=env, timeout=timeout)

    def sql(self, pod, statement, check=True, host="/run/pg"):
        """As the superuser, from within that pod."""
        r = self.kubectl("-n", "shop", "exec", pod, "--", "env", "PGPASSWORD=lab", "PGCONNECT_TIMEOUT=3", "psql", "-h", host, "-U",
                         "postgres", "-XAtc", statement, check=False, timeout=20)
        assert not check or r.returncode == 0, r.stderr
        return r.stdout.strip() if r.returncode == 0 else None

    def service_leads_to(self, primary, pods):
        """From the others' nodes: these learn of a new primary one after another."""
        host = self.get("-n", "shop", "service", "orders")["spec"]["clusterIP"]
        address = next(o["status"]["podIP"] for o in pods if o["metadata"]["name"] == primary)
        return all(self.sql(o["metadata"]["name"], "SELECT host(inet_server_addr())", check=False, host=host) == address
                   for o in pods if o["metadata"]["name"] != primary)

    def patroni_is_whole(self):
        """One primary, two that stream from it, all ready, and the Service leads to it."""
        pods = self.pods()
        if len(pods) != 3 or not all(is_ready(o) for o in pods):
            return False
        asked = {o["metadata"]["name"]: self.sql(o["metadata"]["name"], "SELECT pg_is_in_recovery()", check=False)
                 for o in pods}
        primaries = [name for name, is_in_recovery in asked.items() if is_in_recovery == "f"]
        return len(primaries) == 1 and self.sql(
            primaries[0], "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", check=False) == "2" and \
            [o for o in pods if o["metadata"]["labels"].get("role") == "master"][0]["metadata"]["name"] == primaries[0] and \
            self.service_leads_to(primaries[0], pods)

    def primary(self):
        return next(o["metadata"]["name"] for o in self.pods() if self.sql(o["metadata"]["name"],
                    "SELECT pg_is_in_recovery()", check=False) == "f")

    def leftovers(self, nodes=None):
        """What faults left, or do just now, on the nodes; on somebody else's cluster what agents tell."""
        if not self.own:
            told = json.loads(self.toolbox("pgjolt", "status", "--json"))
            return [f"{e['fault']} on {e['instance']}: {e['state']}" for e in told]
        with open(os.path.join(TOP, "tests", "kube", "leftovers.py"), encoding="utf-8") as f:
            script = f.read()
        return [f"{node}: {line}" for node in nodes or self.nodes
                for line in self.on(node, "/usr/bin/python3", "-", stdin=script).splitlines()]

    def wait_clean(self, limit=60, nodes=None):
        last = []

        def clean():
            last[:] = self.leftovers(nodes)
            return not last
        try:
            wait_for("nothing is left", clean, limit)
        except AssertionError as e:
            raise AssertionError(f"{e}: {last}") from None

    def tail(self, length=8000):
        """What is useful when a test failed."""
        text = self.kubectl("get", "pods", "-A", "-o", "wide", check=False).stdout if self.own or self.nodes else ""
        for o in self.pods("pgjolt", "component=agent"):
            text += self.kubectl("-n", "pgjolt", "logs", "--tail=40", o["metadata"]["name"], check=False).stdout
        return text[-length:]

    def tidy(self):
        for process in self.background:
            process.kill()
            process.wait()
        self.background = []
        self.toolbox("pgjolt", "stop", "--all", check=False, timeout=60)

    def remove(self):
        signal.setitimer(signal.ITIMER_REAL, 0)
        for process in self.background:
            process.kill()
            process.wait()
        if os.environ.get("PGJOLT_KUBE_KEEP"):
            return
        if self.own:
            kubelab("down", check=False)
            return
        self.kubectl("delete", "namespace", "shop", "cloud", "elsewhere", "--ignore-not-found", check=False, timeout=300)
        if self.objects:
            self.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=self.objects, check=False, timeout=300)


def is_ready(pod):
    return not pod["metadata"].get("deletionTimestamp") and any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


class AgentsLog:
    """What agents log from now on, on all nodes or on some."""

    def __init__(self, world, *nodes):
        self.world, self.nodes = world, nodes
        self.before = self.read()

    def read(self):
        return {o["metadata"]["uid"]: self.world.kubectl("-n", "pgjolt", "logs", o["metadata"]["name"], check=False).stdout
                for o in self.world.pods("pgjolt", "component=agent")
                if o["spec"].get("nodeName") in (self.nodes or self.world.nodes)}

    def new(self):
        return "\n".join(text[len(self.before.get(uid, "")):] for uid, text in self.read().items())

    def wait(self, *patterns, limit=15):
        """Whole lines, one for each of the patterns."""
        for pattern in patterns:
            try:
                wait_for(pattern, lambda p=pattern: any(re.fullmatch(p, line) for line in self.new().splitlines()), limit)
            except AssertionError as e:
                raise AssertionError(f"{e}, but\n{self.new()[-4000:]}") from None

    def wait_audit(self, *patterns):
        self.wait(*("info: audit: " + pattern for pattern in patterns))


class Authority:
    """Certificates, by openssl."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.ca, self.key = os.path.join(folder, "ca.crt"), os.path.join(folder, "ca.key")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                     "-out", self.ca, "-subj", "/CN=pgjolt-ca", "-days", "30")

    @staticmethod
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)

    def issue(self, name, days=30):
        """Its certificate's and key's paths; days < 0: it has expired."""
        cert, key, request = (os.path.join(self.folder, f"{name}.{e}") for e in ("crt", "key", "csr"))
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                     request, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days",
                     str(days), "-copy_extensions", "copy", "-out", cert)
        return cert, key
