"""The Kubernetes that tests/kube runs on: PGJOLT_KUBELAB, a script that brings up a real one of several nodes on this machine,
or any cluster by KUBECONFIG (kind for instance; then PGJOLT_IMAGE names an image that its nodes have, and what stops nodes,
kubelets or the API server is skipped)."""
import os
import re
import shutil
import subprocess
import time

TOP = os.path.realpath(os.environ.get("PGJOLT_SOURCE") or os.path.join(os.path.dirname(__file__), "..", ".."))


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
        if not os.access(path, os.X_OK):
            kubelab("setup", timeout=600)
        return path
    return shutil.which("kubectl")


def reason_to_skip():
    """None: tests/kube can run."""
    if kubelab_script() or (os.environ.get("KUBECONFIG") and has("kubectl")):
        return None
    return "neither PGJOLT_KUBELAB names a script nor KUBECONFIG a cluster"


def kubelab(*words, timeout=120, check=True, **kwargs):
    env = {**os.environ, "KUBELAB_DIR": kubelab_folder(), "KUBELAB": os.environ.get("KUBELAB", "pgjolt-kube")}
    r = subprocess.run([kubelab_script(), *words], text=True, timeout=timeout, env=env, check=False,
                       capture_output=True, **kwargs)
    if check and r.returncode != 0:
        raise AssertionError(f"kubelab {' '.join(words)}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
    return r


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
