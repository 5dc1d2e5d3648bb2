#!/usr/bin/python3
"""One kernel of the row, in a virtual machine: check_kernel.py runs there, over this machine's files, with a
data directory that is made here. First argument: a kernel of tools/vm; more: see check_kernel.py."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from harness.agent import BUILD  # noqa: E402
from harness.target import make_data  # noqa: E402

TOOL = os.path.join(HERE, "..", "..", "tools", "vm")
LIMIT_S = 840     # the lane takes a third of it on a machine that is idle


def main():
    kernel, *chosen = sys.argv[1:]
    if os.geteuid() != 0:
        print("needs root")
        return 77
    out = os.path.join(os.path.realpath(BUILD), "vm", kernel)
    result = os.path.join(out, "result.json")
    os.makedirs(out, exist_ok=True)
    if os.path.exists(result):
        os.unlink(result)
    with tempfile.TemporaryDirectory(prefix="pgjolt-vm-data-") as folder:
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "data"))
        make_data(os.path.join(folder, "data"))
        script = 'export PGJOLT_PREPARED_DATA=$PGJOLT_VM_DISK/data; exec "$@"'
        return subprocess.run(
            [TOOL, "run", "--timeout", str(LIMIT_S), "--out", out, "--disk", "400M", "--disk-content", folder,
             kernel, "--", "env", f"PGJOLT_BUILD={os.path.realpath(BUILD)}", "sh", "-c", script, "sh",
             "/usr/bin/python3", os.path.join(HERE, "check_kernel.py"), result, *chosen],
            stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
