"""When an instance's network namespace counts as gone: not while it is mounted where the agent alone does not see it, as
container runtimes keep a pod's between two containers."""
import os
import shutil
import subprocess
import sys
import time

import suite
from harness.agent import BINARY, Agent, scratch, wait_until
from harness.target import Target, run

# The agent without this mount of the node's.
APART = """#!/bin/sh
exec unshare --mount sh -c 'umount "/run/netns/$0" && exec "$@"' {netns} {binary} "$@"
"""
LOOKS_S = 2     # the agent looks each half a second


class Runtime:
    """A process by a container runtime's name, that sees the node's mounts."""

    def __init__(self, folder):
        self.program = os.path.join(folder, "containerd")
        shutil.copy("/bin/sleep", self.program)

    def __enter__(self):
        self.process = subprocess.Popen([self.program, "600"])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class World(suite.Things):
    """Nothing that the tests share."""


def test_a_namespace_that_only_the_node_has_mounted(_):
    with scratch("gone") as folder, Target(folder, "gone") as target:
        wrapper = os.path.join(folder, "agent-apart")
        with open(wrapper, "w", encoding="ascii") as f:
            f.write(APART.format(netns=target.netns, binary=BINARY))
        os.chmod(wrapper, 0o755)
        runtime = Runtime(folder)
        with Agent(folder, binary=wrapper) as agent, runtime:
            for fault, params in (("net-partition", {"peers": ["all"]}), ("net-shape", {"peers": ["all"], "delay": "50ms"})):
                experiment = agent.inject(fault, target.name, params)
                target.end()
                time.sleep(LOOKS_S)
                assert agent.get(experiment)["state"] == "active", agent.get(experiment)
                agent.revert(experiment)
                target.start()      # as a container that is started again in the same pod
            experiment = agent.inject("net-partition", target.name, {"peers": ["all"]})
            target.end()
            run("ip", "netns", "delete", target.netns)
            assert wait_until(lambda: agent.get(experiment)["state"] == "clean", 20), agent.get(experiment)
            assert agent.get(experiment)["end_reason"] == "target-gone" and agent.entries() == []


if __name__ == "__main__":
    if not os.path.isdir("/run/netns"):
        run("ip", "netns", "list")
    sys.exit(suite.main(globals(), World))
