"""Finding instances: containers, plain servers, replicas, impostors, and a crowd of other processes."""
import os
import shutil
import subprocess
import tempfile
import time

import suite
from harness.agent import Agent
from lib_postgres import CLUSTER, PREFIX, Server, bin_dir, cgroup_root, wait_for


class World(suite.Things):
    def __init__(self):
        super().__init__()
        self.agent = self.keep(Agent.alone())

    def drop(self, thing):
        self.things.remove(thing)
        thing.remove()


def test_in_namespaces_of_its_own(world):
    server = world.keep(Server("pga", 25451)).start()
    i = world.agent.instance_of(server.postmaster)
    assert i, world.agent.instances()
    with open(f"/proc/{server.postmaster}/stat", encoding="latin-1") as f:
        ticks = f.read().rsplit(")", 1)[1].split()[19]
    assert i["name"] == f"{CLUSTER}/pga" and i["cluster"] == CLUSTER and i["member"] == "pga", i
    assert i["node"] == "testnode" and i["role"] == "primary", i
    assert str(i["start_ticks"]) == ticks, (i, ticks)
    assert i["pgdata"] == server.data and i["waldir"] == server.data + "/pg_wal", i
    assert i["cgroup"] == server.cgroup, i
    assert i["netns"] == os.stat(f"/proc/{server.postmaster}/ns/net").st_ino, i
    assert i["host_network"] is False and i["port"] == 25451, i
    assert i["socket_dir"] == server.folder and i["version"].startswith("15"), i
    world.drop(server)
    assert not [x for x in world.agent.instances() if x["name"] == f"{CLUSTER}/pga"]


def test_name_servers_of_its_own(world):
    """Its root's resolv.conf, not ours."""
    server = world.keep(Server("pgf", 25456)).start()
    path = f"{server.folder}/resolv.conf"
    with open(path, "w", encoding="ascii") as f:
        f.write("search shop.svc\nnameserver 10.96.0.10\nnameserver fd00:ec2::53\n")
    subprocess.run(["nsenter", "--target", str(server.postmaster), "--mount", "mount", "--bind", path, "/etc/resolv.conf"],
                   check=True)
    i = world.agent.instance_of(server.postmaster)
    assert i["nameservers"] == ["10.96.0.10", "fd00:ec2::53"], i
    world.drop(server)


def test_plain(world):
    server = world.keep(Server("pgb", 25452, alone=False, cluster="odd na/me"))
    server.start()
    i = world.agent.instance_of(server.postmaster)
    assert i["name"] == "odd-na-me/25452", i
    assert i["host_network"] is True and i["addresses"] == ["127.0.0.1"], i
    world.drop(server)


def test_cluster_name_from_the_titles(world):
    # The postmaster's own command line says nothing of it.
    server = world.keep(Server("pgc", 25453, cluster="fromfile"))
    with open(f"{server.data}/postgresql.conf", "a", encoding="ascii") as f:
        f.write("cluster_name = 'fromfile'\n")
    server.name_on_command_line = False
    server.start()
    assert world.agent.instance_of(server.postmaster)["name"] == "fromfile/pgc"
    world.drop(server)


def test_replica_and_wal_elsewhere(world):
    server = world.keep(Server("pgd", 25454))
    wal = f"{server.folder}/wal"
    shutil.move(f"{server.data}/pg_wal", wal)
    os.symlink(wal, f"{server.data}/pg_wal")
    with open(f"{server.data}/standby.signal", "w", encoding="ascii"):
        pass
    server.start()
    i = wait_for("the replica", lambda: world.agent.instance_of(server.postmaster))
    assert i["role"] == "replica", i
    assert i["waldir"] == wal, i
    assert server.query("select pg_promote()") == "t"
    wait_for("it counts as a primary",
             lambda: world.agent.instance_of(server.postmaster)["role"] == "primary")
    world.drop(server)


def test_impostor(world):
    folder = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
    shutil.copy("/bin/sleep", f"{folder}/postgres")
    with open(f"{folder}/PG_VERSION", "w", encoding="ascii") as f:
        f.write("15\n")
    with open(f"{folder}/postmaster.pid", "w", encoding="ascii") as f:
        f.write("1\n/\n1\n5432\n\n\n")
    with subprocess.Popen([b"postgres: \xff\xfe\x01: checkpointer", "100"],
                          executable=f"{folder}/postgres", cwd=folder) as process:
        try:
            assert not world.agent.instance_of(process.pid)
        finally:
            process.kill()
    shutil.rmtree(folder)


def test_a_crowd_that_comes_and_goes(world):
    server = world.keep(Server("pge", 25455)).start()
    crowd = [subprocess.Popen(["sleep", "100"]) for _ in range(400)]
    churn = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"])
    try:
        times = []
        for _ in range(30):
            start = time.monotonic()
            assert world.agent.instance_of(server.postmaster)
            times.append((time.monotonic() - start) * 1000)
        times.sort()
        print(f"  a scan with {len(os.listdir('/proc'))} entries in /proc: median "
              f"{times[15]:.1f} ms, best {times[0]:.1f} ms")
        assert times[0] < 200, times
    finally:
        for process in [churn, *crowd]:
            process.kill()
            process.wait()
    world.drop(server)


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
