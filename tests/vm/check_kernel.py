#!/usr/bin/python3
"""Runs in a kernel of the row (see test_kernel.py): every fault by some mechanism that this kernel has, its
effect seen from outside, the agent killed while it is active, nothing left. What it found goes, as
JSON, to the file named first; more arguments choose checks by their names' beginnings.

Only what depends on the kernel is here: cases of the crash matrix, and the tests of a v2 hierarchy's limits.
"""
import json
import os
import platform
import subprocess
import sys
import time
import traceback

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
for room in ("", "crash", "system", "vm"):
    sys.path.insert(0, os.path.join(TESTS, room))
import test_cpu_throttle  # noqa: E402
import test_disk_throttle  # noqa: E402
import test_matrix  # noqa: E402
import test_stress  # noqa: E402
from disk_world import World  # noqa: E402
from harness.agent import BINARY, TIME_SCALE, scratch, wait_until  # noqa: E402
from harness.target import Target  # noqa: E402

POINTS = ["active"]
JOURNALED_POINTS = ["released", "replay-reverted"]     # where somebody must clean up after the agent
WORLD_TESTS = [
    test_cpu_throttle.test_an_earlier_limit_comes_back,
    test_cpu_throttle.test_only_the_instance_is_held_back,
    test_disk_throttle.test_earlier_limits_come_back,
    test_disk_throttle.test_written_bytes,
    test_stress.test_memory_stops_before_the_limit,
    test_stress.test_out_of_memory_kills_one_of_the_instance,
    test_stress.test_fsync_storm_and_read,
]


if TIME_SCALE > 1:      # how soon the kernel lets go is judged where a processor is one
    test_matrix.HELD_MS, test_matrix.JOURNALED_S = 10000, 10


def probe():
    done = subprocess.run([BINARY, "probe", "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          timeout=120, check=True)
    return json.loads(done.stdout)


def needs_file_gate(row):
    """Only that gate can do it: asked for by name, or an open that is to fail."""
    params = row["params"]
    return params.get("mechanism") == "file" or (row["fault"] == "disk-error" and "open" in params["operations"])


def matrix_cases(support):
    """Those that this kernel can run; what it cannot is in the table, with the agent's reason."""
    for name, row in test_matrix.FAULTS.items():
        if name == "tls-cert" and not test_matrix.TLS:
            continue
        found = support[row["fault"]]
        if not found["supported"] or (needs_file_gate(row) and "file gate" not in found["mechanism"]):
            continue
        clsact = found["mechanism"].startswith("clsact")
        if name.startswith(("net-", "dns")) and clsact != name.endswith("-clsact"):
            continue    # forced, it is tested on any kernel by the crash matrix
        journaled = row["leaves"] == "frozen" or clsact
        for point in POINTS + (JOURNALED_POINTS if journaled else []):
            yield name, point


def writes_fail(world):
    """disk-error by the syscall gate: a statement that writes files fails, and no other afterwards."""
    create = "create table vm_error as select generate_series(1, 2000) as x; checkpoint"
    experiment = world.inject("disk-error", operations=["write", "fsync"], mechanism="syscall",
                              paths=["base/*"])
    code, text = world.psql(create, 60)
    hits = world.agent.get(experiment)["hits"]
    world.end(experiment)
    assert code != 0 and hits > 0, (code, hits, text)
    # What PostgreSQL could not fsync it makes known by a restart.
    assert wait_until(lambda: world.psql("drop table if exists vm_error; " + create, 60)[0] == 0, 30), "it stays"
    world.psql("drop table vm_error")


class Results:
    def __init__(self, chosen):
        self.chosen = chosen
        self.checks = []

    def run(self, name, check):
        """check() raises, or gives the words of a failure, or nothing."""
        if self.chosen and not any(name.startswith(c) for c in self.chosen):
            return
        start = time.monotonic()
        try:
            why = check()
        except Exception:   # pylint: disable=broad-except
            why = traceback.format_exc()
        seconds = time.monotonic() - start
        self.checks.append({"check": name, "ok": not why, "seconds": round(seconds, 1)})
        print(f"{'FAILED' if why else 'ok'} {name} ({seconds:.1f} s){f': {why}' if why else ''}", flush=True)


def run_all(results, support, folder, target):
    for name, point in matrix_cases(support):
        def case(name=name, point=point):
            for _ in range(test_matrix.TRIES):
                failure = test_matrix.run_case(name, point, target, folder)
                if not failure or not failure[0]:   # what is only late is tried again
                    break
            return failure and failure[1]
        results.run(f"{name}:{point}", case)
    world = World(folder, target)
    with world.agent:
        for test in [writes_fail, *WORLD_TESTS]:
            results.run(test.__name__.removeprefix("test_"), lambda test=test: test(world))
        if not all(c["ok"] for c in results.checks):
            print(world.agent.tail(), file=sys.stderr)


def main():
    faults = probe()
    results = Results(sys.argv[2:])
    with scratch("kernel") as folder, Target(folder, "kernel", disk=400, tls=test_matrix.TLS) as target:
        run_all(results, {f["fault"]: f for f in faults}, folder, target)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump({"release": platform.release(), "faults": faults, "checks": results.checks}, f, indent=1)
        f.write("\n")
    failed = [c for c in results.checks if not c["ok"]]
    print(f"{platform.release()}: {len(results.checks)} checks, {len(failed)} failed")
    return 1 if failed or not results.checks else 0


if __name__ == "__main__":
    sys.exit(main())
