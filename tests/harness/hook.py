"""By what network faults come onto an interface here: tcx links, or, on a kernel before 6.6 or with
PGJOLT_WITHOUT_TCX in the environment, filters of a clsact qdisc, which a killed agent leaves behind."""
import json
import os
import subprocess

from harness.agent import cpu_is_emulated

VARIABLE = "PGJOLT_WITHOUT_TCX"
DRIVER = os.path.join(os.environ.get("PGJOLT_BUILD", "build/release"), "tests/system/fault-driver")


def kernel_has_tcx():
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()))) >= (6, 6)


def name():
    """The word that a mechanism begins with."""
    return "tcx" if kernel_has_tcx() and VARIABLE not in os.environ else "clsact"


def slack_ms():
    """What an emulated CPU adds to a round trip, or to the start of a small program."""
    return 30 if cpu_is_emulated() else 0


def tc(netns, *words):
    return subprocess.run(["tc", "-n", netns, *words], capture_output=True, text=True, timeout=10,
                          check=False).stdout


def left(netns, interface):
    """What of ours is on it, or would be there without a fault: lines of tc(8)."""
    lines = []
    for where in ("ingress", "egress"):
        lines += [line for line in tc(netns, "filter", "show", "dev", interface, where).splitlines()
                  if "pgjolt" in line]
    return lines + [line for line in tc(netns, "qdisc", "show", "dev", interface).splitlines()
                    if "clsact" in line]


def undo(fault, record, pid=None):
    """What the next start of an agent does with the journal's record of one that was killed."""
    if not record or "clsact" not in record:
        return
    text = json.dumps(record)
    done = subprocess.run([DRIVER, fault, str(pid or os.getpid()), json.dumps(PARAMS[fault])],
                          input=f"revert {text}\nverify {text}\n", capture_output=True, text=True,
                          timeout=30, check=True)
    for line in done.stdout.splitlines():
        assert json.loads(line)["ok"], line


# Any that are right: the driver reads them before anything else.
PARAMS = {"net-partition": {"peers": ["all"]}, "net-shape": {"delay": "1ms"},
          "dns": {"mode": "timeout"}}
