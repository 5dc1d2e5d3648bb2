"""conn-reset on a real PostgreSQL, seen by the two ends of each connection and by a bystander."""
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile

import suite
from harness.agent import Agent, AgentError
from lib_postgres import Server, Session, bin_dir, cgroup_root, children, inside, title, wait_for

PORT, PLAIN_PORT, STORE_PORT = 25443, 25444, 2379


class OverTcp:
    """What Session wants to know, for a psql inside the server's network namespace."""

    def __init__(self, server):
        self.server = server

    def psql_command(self):
        return ["nsenter", "-t", str(self.server.postmaster), "-n", "--", f"{bin_dir()}/psql",
                "-XAtq", "-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres",
                "postgres"]


class World(suite.Things):
    """One server in namespaces of its own, a second that shares nothing with it, an agent."""

    def __init__(self):
        super().__init__()
        self.server = self.keep(Server("pga", PORT)).start()
        self.other = self.keep(Server("pgb", PLAIN_PORT, cluster="pjother")).start()
        self.agent = self.keep(Agent.alone())
        self.name = self.agent.instance_of(self.server.postmaster)["name"]

    def session(self):
        session = Session(OverTcp(self.server))
        assert session.ask("select 1") == "1"
        return session

    def raw(self, source="127.0.0.1", port=PORT):
        """A connection whose server waits for the first message."""
        def make():
            s = socket.socket()
            s.bind((source, 0))
            s.connect(("127.0.0.1", port))
            return s
        return inside(self.server.postmaster, make)

    def raw_to(self, address, port):
        def make():
            return socket.create_connection((address, port))
        return inside(self.server.postmaster, make)

    def reset_once(self, params, hits):
        """Hits: how many the agent must tell of."""
        experiment = self.agent.inject("conn-reset", self.name, params)
        info = self.agent.get(experiment)
        assert info["state"] == "active" and info["lifetime"] == "held", info
        assert info["hits"] == hits, info
        self.agent.revert(experiment)
        info = self.agent.get(experiment)
        assert info["state"] == "clean" and info["verified_clean"], info
        assert self.agent.entries() == []
        return info["evidence"]


def is_reset(s, limit=1.0):
    s.settimeout(limit)
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True
    except socket.timeout:
        return False


def is_broken(session):
    session.send("select 7")
    answer = session.receive(10)
    return answer != "7"


def test_a_clients_session(world):
    session = world.session()
    elsewhere = Session(OverTcp(world.other))
    local = Session(world.server)
    assert elsewhere.ask("select 1") == "1" and local.ask("select 1") == "1"
    evidence = world.reset_once({"role": "client"}, 1)
    assert evidence["reset"]["client"] == 1, evidence
    assert evidence["connections"][0]["local"] == f"127.0.0.1:{PORT}", evidence
    assert is_broken(session), "the session goes on"
    wait_for("its backend has ended",
             lambda: world.server.query("select count(*) from pg_stat_activity where "
                                        "client_addr is not null") == "0")
    assert not is_broken(elsewhere), "another instance's session was hit"
    assert not is_broken(local), "a session over the unix socket was hit"
    again = world.session()
    assert not is_broken(again), "a new session does not work"
    for s in (session, elsewhere, local, again):
        s.close()


def test_replication_alone_and_clients_alone(world):
    with tempfile.TemporaryDirectory(prefix="pj-reset-") as folder:
        receiver = subprocess.Popen(
            ["nsenter", "-t", str(world.server.postmaster), "-n", "--", f"{bin_dir()}/pg_receivewal",
             "-h", "127.0.0.1", "-p", str(PORT), "-U", "postgres", "-D", folder, "--no-loop"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for("a walsender", lambda: world.server.backends("walsender"))
            session = world.session()
            world.reset_once({"role": "client"}, 1)
            assert is_broken(session)
            assert receiver.poll() is None, "replication was hit"
            session.close()
            session = world.session()
            evidence = world.reset_once({"role": "replication"}, 1)
            assert evidence["reset"]["replication"] == 1, evidence
            receiver.wait(10)
            assert receiver.returncode != 0
            assert not is_broken(session), "a client was hit"
            session.close()
        finally:
            receiver.kill()
            receiver.wait()


# What it is told to connect to it keeps open; a line for each, and for each connection that ended.
MANAGER = """
import selectors, socket, sys
poll = selectors.DefaultSelector()
for text in sys.argv[1:]:
    host, port = text.split(":")
    s = socket.create_connection((host, int(port)))
    poll.register(s, selectors.EVENT_READ, text)
    print("connected", text, flush=True)
while poll.get_map():
    for key, _ in poll.select():
        try:
            what = "closed" if key.fileobj.recv(1) == b"" else "data"
        except ConnectionError:
            what = "reset"
        poll.unregister(key.fileobj)
        print(what, key.data, flush=True)
sys.stdin.read()
"""


class Manager:
    """Like Patroni or by another name, in the server's namespaces, with connections of its own."""

    def __init__(self, world, *to, name="python3", environment=()):
        self.folder = tempfile.mkdtemp(prefix="pj-reset-")
        script = f"{self.folder}/patroni"
        with open(script, "w", encoding="ascii") as f:
            f.write(MANAGER)
        inside = str(world.server.postmaster)
        self.process = subprocess.Popen(
            ["nsenter", "-t", inside, "-n", "-p", "--", "env", *environment, "bash", "-c",
             'exec -a "$0" "$@"', name, "/usr/bin/python3", script, *to],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for text in to:
            assert self.process.stdout.readline() == f"connected {text}\n"

    def said(self, limit=5.0):
        """A connection's end, or None."""
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        return self.process.stdout.readline().strip() if ready else None

    def end(self):
        for pid in children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self.folder)


def listener(world, address, port):
    def make():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        s.listen(8)
        return s
    return inside(world.server.postmaster, make)


def test_the_managers_store_alone(world):
    """Another program's connection to the same port is no connection of the manager's."""
    store, rest = listener(world, "127.0.0.1", STORE_PORT), listener(world, "127.0.0.1", 8008)
    manager = Manager(world, f"127.0.0.1:{STORE_PORT}", "127.0.0.1:8008")
    bystander, client = world.raw(port=STORE_PORT), world.raw()
    evidence = world.reset_once({"role": "dcs"}, 1)
    assert evidence["reset"]["dcs"] == 1, evidence
    assert evidence["connections"][0]["remote"] == f"127.0.0.1:{STORE_PORT}", evidence
    assert manager.said() == f"reset 127.0.0.1:{STORE_PORT}"
    assert manager.said(0.3) is None, "what is not the store's was hit"
    assert not is_reset(bystander, 0.3), "a client of the same port was hit"
    assert not is_reset(client, 0.3), "a client of PostgreSQL was hit"
    assert world.reset_once({"role": "dcs"}, 0)["matched"] == 0
    manager.end()
    for s in (store, rest, bystander, client):
        s.close()


def test_the_api_server_as_store(world):
    """By the manager's environment, and by what the coordinator says."""
    service, endpoint = listener(world, "127.0.9.1", 443), listener(world, "127.0.9.2", 6443)
    to = ["127.0.9.1:443", "127.0.9.2:6443"]
    manager = Manager(world, *to, environment=["KUBERNETES_SERVICE_HOST=127.0.9.1", "KUBERNETES_SERVICE_PORT=443"])
    bystanders = [world.raw_to("127.0.9.1", 443), world.raw_to("127.0.9.2", 6443)]
    world.reset_once({"role": "dcs"}, 1)
    assert manager.said() == "reset 127.0.9.1:443" and manager.said(0.3) is None
    world.reset_once({"role": "dcs", "peers": ["dcs=127.0.9.2/32:6443"]}, 1)
    assert manager.said() == "reset 127.0.9.2:6443"
    assert not any(is_reset(s, 0.3) for s in bystanders), "another program's connection was hit"
    manager.end()
    for s in (service, endpoint, *bystanders):
        s.close()


def test_no_store_that_could_be_found(world):
    def refused(*words):
        try:
            world.agent.arm("conn-reset", world.name, {"role": "dcs"})
        except AgentError as e:
            assert all(w in str(e) for w in words), e
            assert world.agent.entries() == []
            return
        raise AssertionError("armed")
    refused("no manager of", "Patroni")
    manager = Manager(world, name="repmgrd")
    wait_for("its name", lambda: any(title(p).startswith("repmgrd ") for p in children(manager.process.pid)))
    refused("repmgrd has no configuration store")
    manager.end()


def test_peers_and_ports(world):
    near, far = world.raw("127.0.0.1"), world.raw("127.0.3.3")
    world.reset_once({"role": "client", "peers": ["127.0.3.0/24"]}, 1)
    assert is_reset(far) and not is_reset(near, 0.3)
    world.reset_once({"role": "client", "ports": "1"}, 0)
    world.reset_once({"role": "client", "peers": ["127.0.0.0/8:1-2"]}, 0)
    world.reset_once({"role": "client", "peers": ["fd00::/8"]}, 0)
    assert not is_reset(near, 0.3)
    world.reset_once({"role": "client", "ports": str(PORT)}, 1)
    assert is_reset(near)
    near.close()
    far.close()


def test_a_share(world):
    sockets = [world.raw() for _ in range(10)]
    evidence = world.reset_once({"role": "client", "percent": "25%"}, 3)
    assert evidence["matched"] == 10, evidence
    assert sum(is_reset(s, 0.2) for s in sockets) == 3
    for s in sockets:
        s.close()


def test_again_and_again(world):
    experiment = world.agent.inject("conn-reset", world.name, {"role": "client", "every": "50ms"})
    for _ in range(5):
        s = world.raw()
        assert is_reset(s, 5), "a connection lives on while the fault is active"
        s.close()
    assert world.agent.get(experiment)["hits"] >= 5
    world.agent.revert(experiment)
    s = world.raw()
    assert not is_reset(s, 0.5), "it goes on after its end"
    s.close()


def test_agent_killed(world):
    world.agent.inject("conn-reset", world.name, {"role": "client", "every": "20ms"})
    s = world.raw()
    assert is_reset(s, 5)
    world.agent.kill()
    s.close()
    s = world.raw()
    assert not is_reset(s, 0.5), "it outlives the agent"
    s.close()
    world.agent.start()
    assert world.agent.entries() == []


def test_across_a_restart(world):
    experiment = world.agent.inject("conn-reset", world.name, {"role": "client", "every": "50ms"})
    world.server.stop()
    wait_for("a round without an instance",
             lambda: world.agent.get(experiment)["evidence"].get("last_round"))
    world.server.start()
    s = world.raw()
    assert is_reset(s, 5), "the instance that was started again is not hit"
    s.close()
    world.agent.revert(experiment)
    assert world.agent.get(experiment)["state"] == "clean"


def test_refused(world):
    for params, words in (({"role": "clients"}, "role"), ({"percent": "0%"}, "percent"),
                          ({"every": "1ms"}, "every")):
        try:
            world.agent.arm("conn-reset", world.name, params)
        except AgentError as e:
            assert e.status == 400 and words in str(e), e
            continue
        raise AssertionError(f"not refused: {params}")


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
