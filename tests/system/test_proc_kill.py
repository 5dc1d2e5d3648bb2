"""proc-kill on a real PostgreSQL: who dies, who lives, and what comes back."""
import os
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from lib_postgres import Server, Session, bin_dir, cgroup_root, children, state, wait_for


class World(suite.Things):
    def __init__(self):
        super().__init__()
        self.server = self.keep(Server("pga", 25445))
        self.plain = self.keep(Server("pgb", 25446, alone=False, cluster="pjplain"))
        self.server.start()
        self.plain.start()
        self.agent = self.keep(Agent.alone())
        self.name = self.agent.instance_of(self.server.postmaster)["name"]


def up(server):
    return wait_for("it answers", lambda: server.query("select 1", check=False) == "1")


def end(world, experiment, hits):
    info = world.agent.revert(experiment)
    info = world.agent.get(experiment)
    assert info["state"] == "clean" and info["verified_clean"], info
    assert info["hits"] == hits if isinstance(hits, int) else hits(info["hits"]), info
    assert world.agent.entries() == []
    return info


def stays(world, kind, seconds=0.4):
    """Are the processes of this kind the same ones all the while?"""
    before = world.server.backends(kind)
    time.sleep(seconds)
    return before and world.server.backends(kind) == before


def sessions(world):
    """Those that have not ended yet, also where their client has."""
    return world.server.backends("postgres postgres")


def test_postmaster(world):
    plain = Session(world.plain)
    assert plain.ask("select 1") == "1"
    victim = world.server.postmaster
    experiment = world.agent.arm("proc-kill", world.name)
    assert state(victim) == "S", "armed: nothing happened"
    start = time.monotonic()
    info = world.agent.fire(experiment)
    wait_for("the postmaster is gone", lambda: state(victim) in (None, "Z"), 5)
    print(f"  gone {(time.monotonic() - start) * 1000:.1f} ms after the call; the shot took "
          f"{info['fire_duration_ns'] / 1000 if 'fire_duration_ns' in info else -1:.0f} us")
    world.server.process.wait(10)
    info = end(world, experiment, 1)
    assert plain.ask("select 1") == "1", "a bystander is not touched"
    plain.close()
    world.server.start()


def test_a_backend_by_title(world):
    session = Session(world.server)
    assert session.ask("select 1") == "1"
    wait_for("earlier sessions have ended", lambda: len(sessions(world)) == 1)
    walwriter = world.server.backends("walwriter")
    experiment = world.agent.inject("proc-kill", world.name, {
        "process": "title", "titles": ["backend"], "signal": "TERM"})
    assert "terminating connection" in (session.ask("select 1", 5) or "")
    info = end(world, experiment, 1)
    assert [p["kind"] for p in info["evidence"]["processes"]] == ["backend"], info
    assert world.server.backends("walwriter") == walwriter, "the others were left alone"
    session.close()
    up(world.server)


def test_checkpointer_makes_it_recover(world):
    postmaster = world.server.postmaster
    before = world.server.backends("checkpointer")
    experiment = world.agent.inject("proc-kill", world.name,
                                    {"process": "title", "titles": ["checkpointer"]})
    after = wait_for("a new checkpointer",
                     lambda: [p for p in world.server.backends("checkpointer") if p not in before])
    assert after and world.server.postmaster == postmaster
    end(world, experiment, 1)
    up(world.server)


def test_again_and_again(world):
    experiment = world.agent.inject("proc-kill", world.name, {
        "process": "title", "titles": ["walwriter"], "signal": "TERM", "every": "100ms"})
    seen = set()

    def three():
        seen.update(world.server.backends("walwriter"))
        return world.agent.get(experiment)["hits"] >= 3
    wait_for("three rounds that hit", three, 30)
    end(world, experiment, lambda n: n >= 3)
    up(world.server)
    wait_for("a walwriter stays: after the end nothing is killed", lambda: stays(world, "walwriter"))


def test_all(world):
    session = Session(world.server)
    assert session.ask("select 1") == "1"
    victims = [world.server.postmaster, *children(world.server.postmaster)]
    experiment = world.agent.inject("proc-kill", world.name, {"process": "all"})
    for pid in victims:
        wait_for(f"process {pid} is gone", lambda p=pid: state(p) in (None, "Z"), 5)
    world.server.process.wait(10)
    end(world, experiment, lambda n: n >= 1)
    session.close()
    world.server.start()


def test_follows_a_restarted_postmaster(world):
    experiment = world.agent.inject("proc-kill", world.name, {"every": "200ms"})
    world.server.process.wait(10)
    world.server.start_only()
    wait_for("the next one was hit too", lambda: world.agent.get(experiment)["hits"] >= 2, 30)
    world.server.process.wait(10)
    end(world, experiment, lambda n: n >= 2)
    world.server.start()


def test_nothing_matches(world):
    experiment = world.agent.inject("proc-kill", world.name,
                                    {"process": "title", "titles": ["archiver"]})
    end(world, experiment, 0)
    up(world.server)


def test_agent_killed_stops_repeating(world):
    world.agent.inject("proc-kill", world.name, {
        "process": "title", "titles": ["walwriter"], "signal": "TERM", "every": "100ms"})
    world.agent.kill()
    wait_for("a walwriter stays", lambda: stays(world, "walwriter"))
    world.agent.start()
    assert world.agent.entries() == []
    up(world.server)


def test_sessions_of_an_application(world):
    billing = [Session(world.server, "billing") for _ in range(3)]
    other = Session(world.server, "reports")
    assert [s.ask("select 1") for s in [*billing, other]] == ["1"] * 4
    # Named by SET too, and not by what the name was when it began.
    assert other.ask("set application_name = 'billing'; select 2") == "2"
    assert other.ask("set application_name = 'reports'; select 3") == "3"
    experiment = world.agent.inject("proc-kill", world.name, {
        "process": "title", "application": ["bill*"], "signal": "TERM", "count": 1})
    end(world, experiment, 1)
    wait_for("the one that was hit has ended", lambda: len(sessions(world)) == 3)
    experiment = world.agent.inject("proc-kill", world.name, {
        "process": "title", "application": ["billing"], "titles": ["backend"], "signal": "TERM"})
    wait_for("none of them is left", lambda: world.server.query(
        "select count(*) from pg_stat_activity where application_name = 'billing'") == "0")
    end(world, experiment, 2)
    assert other.ask("select 4") == "4", "another application's session is not touched"
    for s in [*billing, other]:
        s.close()


class Remote(Session):
    """A session over TCP from an address of the server's own network namespace."""

    def __init__(self, server, address):
        self.psql = subprocess.Popen(
            ["nsenter", "--target", str(server.postmaster), "--net", f"{bin_dir()}/psql", "-XAtq",
             f"host=127.0.0.1 port={server.port} user=postgres dbname=postgres"],
            env={**os.environ, "PGAPPNAME": address}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_sessions_of_a_client(world):
    local, remote = Session(world.server), Remote(world.server, "127.0.0.1")
    assert local.ask("select 1") == "1" and remote.ask("select 1") == "1"
    where = {"process": "title", "signal": "TERM"}
    end(world, world.agent.inject("proc-kill", world.name, {**where, "client": ["10.9.9.0/24"]}), 0)
    assert remote.ask("select 2") == "2"
    experiment = world.agent.inject("proc-kill", world.name, {**where, "client": ["127.0.0.0/8"]})
    assert "terminating connection" in (remote.ask("select 3", 5) or "")
    end(world, experiment, 1)
    assert local.ask("select 4") == "4", "a session over a unix socket has no such client"
    local.close()
    remote.close()


def test_manager_alone(world):
    try:
        world.agent.arm("proc-kill", world.name, {"process": "manager"})
    except AgentError as e:
        assert e.status == 404 and "Patroni" in str(e), str(e)
    else:
        raise AssertionError("no manager, and not refused")
    session = Session(world.server)
    assert session.ask("select 1") == "1"
    manager, pid, _ = world.server.start_manager()
    try:
        experiment = world.agent.inject("proc-kill", world.name, {"process": "manager"})
        wait_for("the manager is gone", lambda: state(pid) in (None, "Z"), 5)
        assert session.ask("select 2") == "2", "PostgreSQL is not touched"
        info = end(world, experiment, 1)
        assert [p["kind"] for p in info["evidence"]["processes"]] == ["Patroni"], info
    finally:
        manager.kill()
        manager.wait()
    session.close()


def test_refused(world):
    for params, words in (({"signal": "STOP"}, "proc-freeze"),
                          ({"signal": "NONSENSE"}, "signal"),
                          ({"process": "title"}, "titles"),
                          ({"process": "everything"}, "postmaster")):
        try:
            world.agent.arm("proc-kill", world.name, params)
        except AgentError as e:
            assert e.status == 400 and words in str(e), str(e)
        else:
            raise AssertionError(f"not refused: {params}")
    assert world.agent.entries() == []


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
