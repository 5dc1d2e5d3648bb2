"""What a test of an agent with an API server of its own (kube_api) has besides: certificates, PostgreSQLs whose control groups
and log folders are pods', callers on TCP with tokens."""
import http.client
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from agent_http import call, client_tls  # noqa: E402
from lib_postgres import PREFIX, Server, cgroup_root  # noqa: E402

LOGS = "/var/log/pods"
EXTENSIONS = """
[ca]
basicConstraints=critical,CA:true
[both]
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:127.0.0.1
"""


def make_certificates(folder):
    """ca.pem, and pair.pem with pair.key that serve and call, named pgjolt-client."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    with open(f"{folder}/x.cnf", "w", encoding="ascii") as f:
        f.write("[req]\ndistinguished_name=dn\n[dn]\n" + EXTENSIONS)
    for name in ("ca", "pair"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=ca", "-days", "3", "-out", "ca.pem", "-config", "x.cnf",
            "-extensions", "ca")
    openssl("req", "-new", "-key", "pair.key", "-subj", "/CN=pgjolt-client", "-out", "pair.csr", "-config", "x.cnf")
    openssl("x509", "-req", "-in", "pair.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out",
            "pair.pem", "-extfile", "x.cnf", "-extensions", "both")


class Pod(Server):
    """PostgreSQL in a control group /.../kubepods/burstable/podUID/ID, with a log folder by its names."""

    def __init__(self, namespace, pod, port, number=0):
        self.uid = "0a1b2c3d-4e5f-6071-82%02x-%012x" % (number, os.getpid())
        self.id = "%056x%08x" % (number, os.getpid())
        self.logs = f"{LOGS}/{namespace}_{pod}_{self.uid}"
        self.made_logs = not os.path.exists(LOGS)
        os.makedirs(f"{self.logs}/database")
        super().__init__(pod, port, cluster="scope")
        os.rmdir(cgroup_root() + self.cgroup)
        self.top = cgroup_root() + f"/{PREFIX}kube{number}"
        self.cgroup = f"/{PREFIX}kube{number}/kubepods/burstable/pod{self.uid}/{self.id}"
        os.makedirs(cgroup_root() + self.cgroup)

    def remove(self):
        super().remove()
        for path, _, _ in os.walk(self.top, topdown=False):
            os.rmdir(path)
        shutil.rmtree(self.logs, ignore_errors=True)
        if self.made_logs and os.path.isdir(LOGS) and not os.listdir(LOGS):
            os.rmdir(LOGS)


class Caller:
    """Calls to the agent on TCP with a token."""

    def __init__(self, folder, port, token, document):
        self.token, self.document = token, document
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=client_tls(
            f"{folder}/ca.pem", f"{folder}/pair.pem", f"{folder}/pair.key"))

    def __call__(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return call(self.connection, self.document, method, path, body, headers=headers)


def tls_options(folder, port, node):
    return ("--node-name", node, "--listen", f"127.0.0.1:{port}", "--tls-cert", f"{folder}/pair.pem", "--tls-key",
            f"{folder}/pair.key", "--tls-ca", f"{folder}/ca.pem")


def agent_options(api, folder, port, node):
    return (*tls_options(folder, port, node), "--kubeconfig", api.kubeconfig(f"{folder}/config", f"{folder}/ca.pem"))
