#!/usr/bin/python3
"""tools/vm itself: what a command gives and gets, and that a machine that breaks, hangs or loses its starter is
told of and leaves nothing."""
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from harness.agent import process_state, wait_until  # noqa: E402

TOOL = os.path.join(HERE, "..", "..", "tools", "vm")
KERNEL = "6.1"


def children(pid):
    """Of all depths."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                if int(f.read().rsplit(b")", 1)[1].split()[1]) == pid:
                    found += [int(name), *children(int(name))]
        except (OSError, ValueError, NotADirectoryError):
            pass
    return found


def start(*words, **more):
    return subprocess.Popen([TOOL, "run", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


def run(*words):
    process = start(*words)
    out, complaints = process.communicate(timeout=1400)
    return process.returncode, out, complaints


def test_command():
    with tempfile.TemporaryDirectory(prefix="pgjolt-vm-test-") as folder:
        os.mkdir(f"{folder}/content")
        with open(f"{folder}/content/here", "w", encoding="ascii") as f:
            f.write("on the disk\n")
        script = (f"uname -r; cat $PGJOLT_VM_DISK/here; echo told >&2; echo made >{folder}/out/file; "
                  f"touch {folder}/lost; stat -fc %T /sys/fs/cgroup; echo \"$0\"; exit 7")
        code, out, complaints = run("--timeout", "200", "--out", f"{folder}/out", "--disk", "32M", "--disk-content",
                                    f"{folder}/content", KERNEL, "--", "sh", "-c", script, "--two words")
        lines = out.splitlines()
        assert code == 7 and complaints.endswith("told\n"), (code, out, complaints)
        assert lines[0].startswith(KERNEL + ".") and lines[1:] == ["on the disk", "cgroup2fs", "--two words"], lines
        with open(f"{folder}/out/file", encoding="ascii") as f:
            assert f.read() == "made\n"
        assert not os.path.exists(f"{folder}/lost"), "the guest wrote to the host"


def test_panic():
    code, _, complaints = run("--timeout", "200", KERNEL, "--", "sh", "-c",
                              "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
    assert code == 125, (code, complaints)
    assert "Kernel panic - not syncing: sysrq triggered crash" in complaints, complaints


def test_time_is_over():
    code, _, complaints = run("--timeout", "10", KERNEL, "--", "sleep", "1000")
    assert code == 124 and "not done within 10 s" in complaints, (code, complaints)


def test_starter_ends():
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start("--timeout", "200", KERNEL, "--", "sleep", "1000")
        found = wait_until(lambda: len(c := children(process.pid)) >= 2 and c, 1300)
        assert found, "no machine was started"
        process.send_signal(number)
        process.wait(20)
        assert wait_until(lambda: all(process_state(p) in (None, "Z", "X") for p in found), 10), found
        process.communicate()


def test_usage():
    for words, says in ((("5.4", "--", "true"), "no such kernel"), (("--memory", "64M", KERNEL, "--", "true"), "256M"),
                        ((KERNEL,), "COMMAND"), (("--disk-content", "/tmp", KERNEL, "--", "true"), "needs --disk")):
        code, _, complaints = run(*words)
        assert code == 2 and says in complaints, (words, code, complaints)


def main():
    if os.geteuid() != 0:
        print("needs root")
        return 77
    for test in (test_usage, test_command, test_panic, test_time_is_over, test_starter_ends):
        test()
        print(f"ok {test.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
