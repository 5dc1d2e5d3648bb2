"""Tests of test_cluster.py: the ways in (plugin, Jobs), one run at a time, and new certificates."""
import json
import os
import time

import yaml

import lab
import reports
from lab import wait_for

CLUSTER = "shop/orders"
LEASE = "pgjolt-run-shop.orders"
EXAMPLES = os.path.join(lab.TOP, "manifests", "examples")
QUIET = """
drill: quiet
summary: Hold the cluster's lock
steps:
  - {wait: 5m}
recovery: {limit: 1s}
"""


def test_kill_primary_by_the_plugin(world):
    """A drill by `kubectl pgjolt`, its report fetched."""
    before = world.primary()
    env = {"PGUSER": "pgjolt", "PGPASSWORD": "pgjolt", "PGDATABASE": "app"}
    names = [word for name in env for word in ("--env", name)]
    r = world.plugin(*names, "run", "kill-primary", "--cluster", CLUSTER, env=env, timeout=200)
    assert r.returncode == 0, r.stdout[-5000:] + r.stderr[-2000:]
    run = world.toolbox("ls", "-t", "/runs/pgjolt-runs").split()[0]
    folder = os.path.join(world.folder, "fetched")
    r = world.plugin("fetch", run, folder)
    assert r.returncode == 0 and r.stdout.strip() == f"{folder}/{run}", r.stdout + r.stderr
    with open(os.path.join(folder, run, "report.json"), encoding="utf-8") as f:
        report = json.load(f)
    assert report["write_downtime_ms"] > 0, report["write_downtime_ms"]
    assert os.path.getsize(os.path.join(folder, run, "report.html")) > 10000
    assert world.plugin("run", "no-such-drill").returncode == 2
    assert "pgjolt-agent-" in world.plugin("logs", "--tail=5").stdout
    assert world.plugin("fetch", "../etc").returncode == 2
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)
    reports.check(world, report, "kill-primary", before)


# Jobs, and the lock.

def example(world, path, name, drill):
    """The Job in that file, or of its CronJob's template, with our image; another drill is quicker."""
    with open(os.path.join(EXAMPLES, path), encoding="utf-8") as f:
        o = yaml.safe_load(f)
    job = o if o["kind"] == "Job" else {"apiVersion": "batch/v1", "kind": "Job", "metadata": o["metadata"],
                                        "spec": o["spec"]["jobTemplate"]["spec"]}
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"pgjolt:{lab.version()}" and "partition-primary" in container["command"]
    job["metadata"]["name"] = name
    container["image"] = world.image
    container["command"] = [drill if word == "partition-primary" else word for word in container["command"]]
    return job


def job_pod(world, name):
    return next(iter(world.get("-n", "pgjolt", "pods", "-l", f"job-name={name}") or []), {})


def run_job(world, job, limit):
    """Its exit code and log."""
    name = job["metadata"]["name"]

    def ended():
        states = job_pod(world, name).get("status", {}).get("containerStatuses", [])
        return [s["state"]["terminated"]["exitCode"] for s in states if "terminated" in s["state"]]
    world.kubectl("apply", "-f", "-", stdin=json.dumps(job))
    try:
        code = wait_for(f"the end of Job {name}", ended, limit)[0]
        return code, world.kubectl("-n", "pgjolt", "logs", job_pod(world, name)["metadata"]["name"])
    finally:
        world.kubectl("-n", "pgjolt", "delete", "job", name, "--wait=false", check=False)


def test_cronjob_is_taken_by_the_server(world):
    with open(os.path.join(EXAMPLES, "cronjob.yaml"), encoding="utf-8") as f:
        o = yaml.safe_load(f)
    if "cronjobs" not in world.kubectl("api-resources", "--api-group=batch") or "CronJob" not in world.kubectl(
            "get", "--raw", "/apis/batch/v1"):
        o["apiVersion"] = "batch/v1beta1"      # before 1.21; else the same
    world.kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(o))


def test_one_run_at_a_time(world):
    """Between pods, by the Lease: refused while another lives, taken over from one that was killed."""
    world.kubectl("-n", "pgjolt", "create", "secret", "generic", "pgjolt-database", "--from-literal=password=pgjolt")
    world.toolbox("sh", "-c", "cat >/tmp/quiet.yaml; rm -rf /runs/quiet", stdin=QUIET)
    world.start("pgjolt", "run", "/tmp/quiet.yaml", "--cluster", CLUSTER, "--out", "/runs/quiet")
    lease = wait_for("the Lease", lambda: world.get("-n", "pgjolt", "lease", LEASE), 30)
    holder = lease["spec"]["holderIdentity"]
    assert holder.startswith(world.pod_of("toolbox")), holder

    code, said = run_job(world, example(world, "cronjob.yaml", "second", "kill-primary"), 60)
    assert code == 3 and f"another run drills cluster {CLUSTER} ({holder}" in said, f"{code}: {said}"

    world.toolbox("sh", "-c", "kill -KILL $(busybox pidof pgjolt)")
    code, said = run_job(world, example(world, "job.yaml", "third", "kill-primary"), 180)
    assert code == 0 and f"locked by another run ({holder})" in said, f"{code}: {said}"
    assert world.get("-n", "pgjolt", "lease", LEASE) is None
    world.wait_clean()
    wait_for("the cluster is whole again", world.patroni_is_whole, 90)


# Certificates.

def age(world):
    """What tells whether a pod was started anew."""
    return sorted((o["metadata"]["uid"], o["status"]["containerStatuses"][0]["restartCount"]) for o in world.pods("pgjolt"))


def poke(world, count):
    """Kubelets look at a pod that changed at once, at its Secrets too; else once a minute."""
    world.kubectl("-n", "pgjolt", "annotate", "--overwrite", "pods", "--all", f"test/poke={count}")


def renew(world):
    """By `pgjolt certs`, while agents and toolbox go on speaking to each other."""
    process = world.outside_start(world.program, "certs", "--renew", "--apply", "--wait", "20s")
    count = 0
    while process.poll() is None:
        poke(world, count)
        world.toolbox("pgjolt", "nodes")
        count += 1
    said = process.communicate()[0]
    assert process.returncode == 0 and count >= 3, f"{count}: {said}"


def test_certificates_are_renewed_without_a_restart(world):
    before = age(world)
    r = world.outside(world.program, "certs", "--apply")
    assert r.returncode == 3 and "is there already" in r.stderr, r.stdout + r.stderr
    world.toolbox("sh", "-c", "umask 077; mkdir /tmp/old; cp /etc/pgjolt/tls/* /tmp/old/")
    pod = next(o["metadata"]["name"] for o in world.pods() if o["metadata"]["labels"]["role"] != "master")
    world.start("pgjolt", "inject", "proc-freeze", "--target", f"shop/{pod}", "--processes", "titles", "--titles",
                "checkpointer", "--for", "3m")
    wait_for("the fault is there", lambda: "proc-freeze" in world.toolbox("pgjolt", "status", "--json"), 30)
    coordinator = world.background[-1]
    renew(world)
    assert "proc-freeze" in world.toolbox("pgjolt", "status", "--json") and coordinator.poll() is None, \
        "the fault did not outlive the change"

    def is_refused():
        poke(world, time.monotonic_ns())
        r = world.toolbox("pgjolt", "status", "--tls-ca", "/etc/pgjolt/tls/ca.crt", "--tls-cert", "/tmp/old/tls.crt",
                          "--tls-key", "/tmp/old/tls.key", check=False)
        return r.returncode == 3 and "certificate is refused" in r.stderr
    wait_for("the old certificate is refused", is_refused, 60)
    world.toolbox("pgjolt", "stop", "--all")
    world.wait_clean()
    assert age(world) == before
