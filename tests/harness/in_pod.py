"""A program as in a pod with a service account: its files are where a kubelet puts them, in a mount namespace of its own, and
the environment leads to an API server of the test's (kube_api).

    subprocess.run([*in_pod(folder, api, ca, "drills"), PGJOLT, "nodes"])
"""
import os
import shutil

# Nothing of this stays: the tmpfs goes with the mount namespace. The program has the process's own number.
ENTER = """
set -e
mount -t tmpfs -o mode=0755 none "$1"
mkdir -p "$1/secrets/kubernetes.io/serviceaccount"
cp "$2"/* "$1/secrets/kubernetes.io/serviceaccount/"
shift 2
exec "$@"
"""


def in_pod(folder, api, ca, namespace):
    """Words before a command's own."""
    account = os.path.join(folder, f"account-{namespace}")
    os.makedirs(account, exist_ok=True)
    shutil.copy(ca, os.path.join(account, "ca.crt"))
    for name, text in (("token", api.token), ("namespace", namespace)):
        with open(os.path.join(account, name), "w", encoding="ascii") as f:
            f.write(text)
    return ["env", "-u", "KUBECONFIG", "-u", "PGJOLT_AGENTS_NAMESPACE", "KUBERNETES_SERVICE_HOST=127.0.0.1",
            f"KUBERNETES_SERVICE_PORT={api.port}", "unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh",
            os.path.realpath("/var/run"), account]
