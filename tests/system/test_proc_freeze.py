"""proc-freeze on a real PostgreSQL, seen from outside: sessions, /proc, a bystander, the agent's death."""
import os
import subprocess
import time

import suite
from harness.agent import Agent, AgentError
from lib_postgres import Server, Session, bin_dir, cgroup_root, children, held, state, wait_for


class World(suite.Things):
    """One server in namespaces and a cgroup of its own, a plain one beside it, an agent."""

    def __init__(self):
        super().__init__()
        self.server = self.keep(Server("pga", 25431))
        self.plain = self.keep(Server("pgb", 25432, alone=False, cluster="pjplain"))
        self.server.start()
        self.plain.start()
        self.agent = self.keep(Agent.alone())
        self.name = self.agent.instance_of(self.server.postmaster)["name"]
        self.plain_name = self.agent.instance_of(self.plain.postmaster)["name"]


def answers(session, limit=10.0):
    return session.ask("select 1", limit) == "1"


def expect_clean(world, experiment):
    info = world.agent.get(experiment)
    assert info["state"] == "clean" and info["verified_clean"], info
    assert world.agent.entries() == [], world.agent.entries()


def expect_runs(world):
    stand = [pid for pid in [world.server.postmaster, *children(world.server.postmaster)] if held(pid)]
    assert stand == [], [(pid, state(pid)) for pid in stand]


def test_postgres_frozen_and_back(world):
    session, other = Session(world.server), Session(world.plain)
    assert answers(session) and answers(other)
    experiment = world.agent.arm("proc-freeze", world.name, {"processes": "postgres"})
    assert answers(session), "armed: it runs on"
    info = world.agent.fire(experiment)
    assert info["state"] == "active" and info["mechanism"] == "ptrace", info
    assert info["lifetime"] == "held", info
    everything = [world.server.postmaster, *children(world.server.postmaster)]
    assert {state(pid) for pid in everything} == {"t"}, [(p, state(p)) for p in everything]
    session.send("select 2")
    assert session.receive(0.5) is None, "a frozen server answered"
    assert answers(other), "a bystander is not touched"
    info = world.agent.get(experiment)
    assert info["hits"] == len(everything), info
    assert info["evidence"]["not_stopped"] == [], info
    kinds = {p["kind"] for p in info["evidence"]["listed"]}
    assert {"postmaster", "checkpointer", "walwriter", "backend"} <= kinds, kinds
    world.agent.revert(experiment)
    assert session.receive(5) == "2", "what was asked meanwhile is answered afterwards"
    expect_runs(world)
    expect_clean(world, experiment)
    session.close()
    other.close()


def test_sessions_born_armed_are_frozen_too(world):
    experiment = world.agent.arm("proc-freeze", world.name, {"processes": "postgres"})
    session = Session(world.server)
    assert answers(session)
    world.agent.fire(experiment)
    session.send("select 3")
    assert session.receive(0.4) is None
    late = Session(world.server)        # the kernel accepts it, nobody serves it
    late.send("select 4")
    assert late.receive(0.4) is None
    world.agent.revert(experiment)
    assert session.receive(5) == "3"
    assert late.receive(5) == "4"
    session.close()
    late.close()
    expect_clean(world, experiment)


def test_by_title_with_new_sessions(world):
    session = Session(world.server)
    assert answers(session)
    experiment = world.agent.inject("proc-freeze", world.name,
                                    {"processes": "titles", "titles": ["backend"]})
    session.send("select 5")
    assert session.receive(0.4) is None
    assert state(world.server.postmaster) != "t"
    late = Session(world.server)
    late.send("select pg_sleep(1.5), 6")
    backends = wait_for("both sessions stand",
                        lambda: [p for p in world.server.backends("postgres postgres")
                                 if state(p) == "t"][1:])
    assert backends
    assert world.agent.get(experiment)["hits"] >= 2
    world.agent.revert(experiment)
    assert session.receive(5) == "5"
    assert late.receive(8) == "|6"
    session.close()
    late.close()
    expect_clean(world, experiment)


def heartbeats(heart, seconds=0.3):
    before = os.path.getsize(heart)
    time.sleep(seconds)
    return os.path.getsize(heart) - before


def test_manager_alone(world):
    session = Session(world.server)
    assert answers(session)
    refused(world, 404, ["Patroni"], world.name, {"processes": "manager"})
    manager, pid, heart = world.server.start_manager()
    try:
        experiment = world.agent.inject("proc-freeze", world.name, {"processes": "manager"})
        assert heartbeats(heart) == 0, "the manager runs on"
        assert answers(session) and world.server.query("select 1") == "1"
        info = world.agent.get(experiment)
        assert [(p["pid"], p["kind"]) for p in info["evidence"]["listed"]] == [(pid, "Patroni")], info
        world.agent.revert(experiment)
        wait_for("it goes on", lambda: heartbeats(heart, 0.05) > 0, 5)
        expect_clean(world, experiment)
        world.agent.inject("proc-freeze", world.name, {"processes": "manager"})
        assert heartbeats(heart) == 0
        world.agent.kill()
        wait_for("it goes on without the agent", lambda: heartbeats(heart, 0.05) > 0, 5)
        world.agent.start()
    finally:
        manager.kill()
        os.kill(pid, 9)
        manager.wait()
    session.close()


def test_a_share_of_an_application(world):
    billing = [Session(world.server, "billing") for _ in range(4)]
    other = Session(world.server, "reports")
    assert all(answers(s) for s in [*billing, other])
    experiment = world.agent.inject("proc-freeze", world.name, {
        "processes": "titles", "application": ["billing"], "percent": "50%"})
    late = Session(world.server, "billing")
    for s in billing:
        s.send("select 10")
    got = [s.receive(1) for s in billing]
    assert sorted(map(str, got)) == ["10", "10", "None", "None"], got
    assert answers(other), "another application's session is not touched"
    assert answers(late), "a share is chosen once"
    assert world.agent.get(experiment)["hits"] == 2
    world.agent.revert(experiment)
    assert [s.receive(5) for s, g in zip(billing, got) if g is None] == ["10", "10"]
    expect_clean(world, experiment)
    for s in [*billing, other, late]:
        s.close()


def test_the_postmaster_alone(world):
    # What it forks while only armed is not its own.
    experiment = world.agent.arm("proc-freeze", world.name,
                                 {"processes": "titles", "titles": ["postmaster"]})
    session = Session(world.server)
    assert answers(session)
    world.agent.fire(experiment)
    assert state(world.server.postmaster) == "t" and answers(session)
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def test_agent_killed(world):
    session = Session(world.server)
    assert answers(session)
    world.agent.inject("proc-freeze", world.name, {"processes": "postgres"})
    session.send("select 7")
    assert session.receive(0.3) is None
    start = time.monotonic()
    world.agent.kill()
    assert session.receive(5) == "7"
    took = time.monotonic() - start
    assert took < 0.5, f"ran again only after {took:.3f} s"
    print(f"  runs {took * 1000:.1f} ms after kill -9 of the agent")
    expect_runs(world)
    world.agent.start()
    assert world.agent.entries() == []
    expect_runs(world)
    session.close()


def test_whole_instance_by_ptrace_and_cgroup(world):
    for mechanism in ("ptrace", "cgroup"):
        session = Session(world.server)
        assert answers(session)
        experiment = world.agent.inject("proc-freeze", world.name, {"mechanism": mechanism})
        info = world.agent.get(experiment)
        assert info["mechanism"] == mechanism, info
        assert info["lifetime"] == ("held" if mechanism == "ptrace" else "journaled"), info
        session.send("select 8")
        assert session.receive(0.4) is None
        assert info["hits"] >= 5, info
        world.agent.revert(experiment)
        assert session.receive(5) == "8"
        expect_clean(world, experiment)
        session.close()


def freezer(world):
    return cgroup_root() + world.server.cgroup + "/cgroup.freeze"


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read().strip()


def test_agent_killed_with_the_cgroup_frozen(world):
    session = Session(world.server)
    assert answers(session)
    world.agent.inject("proc-freeze", world.name, {"mechanism": "cgroup"})
    world.agent.kill()
    assert read(freezer(world)) == "1", "journaled: it stays"
    world.agent.start()
    assert read(freezer(world)) == "0", "the journal was replayed before the first call"
    assert world.agent.entries() == []
    assert answers(session)
    session.close()


def move(pids, folder):
    for pid in pids:
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as f:
            f.write(pid)


def test_the_cgroup_goes_between_arm_and_fire(world):
    folder = os.path.dirname(freezer(world))
    session = Session(world.server)
    assert answers(session)
    for made_anew in (False, True):
        experiment = world.agent.arm("proc-freeze", world.name, {"mechanism": "cgroup"})
        inside = read(f"{folder}/cgroup.procs").split()
        move(inside, cgroup_root())
        os.rmdir(folder)
        if made_anew:
            os.mkdir(folder)
        try:
            world.agent.fire(experiment)
            assert made_anew, "fired without a cgroup"
            assert read(freezer(world)) == "1"
        except AgentError as e:
            assert not made_anew and e.status == 410 and "control group is gone" in str(e), str(e)
        if not made_anew:
            os.mkdir(folder)
        assert answers(session), "it is in another cgroup now"
        world.agent.revert(experiment)
        expect_clean(world, experiment)
        assert read(freezer(world)) == "0"
        move(inside, folder)
    session.close()


def test_one_cgroup_freeze_at_a_time(world):
    # The end of a second one, fired or not, would thaw what the first holds.
    session = Session(world.server)
    assert answers(session)
    experiment = world.agent.arm("proc-freeze", world.name, {"mechanism": "cgroup"})
    refused(world, 409, ["another proc-freeze"], world.name, {"mechanism": "cgroup"})
    world.agent.fire(experiment)
    refused(world, 409, ["another proc-freeze"], world.name, {"mechanism": "cgroup"})
    assert read(freezer(world)) == "1", "what was refused thawed it"
    session.send("select 9")
    assert session.receive(0.3) is None
    world.agent.revert(experiment)
    assert session.receive(5) == "9"
    expect_clean(world, experiment)
    experiment = world.agent.arm("proc-freeze", world.name, {"mechanism": "cgroup"})
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()


def freeze_by_hand(world, frozen):
    with open(freezer(world), "w", encoding="ascii") as f:
        f.write("1" if frozen else "0")


def test_a_freeze_by_somebody_else_stays(world):
    for fired in (False, True):
        experiment = world.agent.arm("proc-freeze", world.name, {"mechanism": "cgroup"})
        freeze_by_hand(world, True)
        try:
            if fired:
                try:
                    world.agent.fire(experiment)
                    raise AssertionError("fired on what is frozen already")
                except AgentError as e:
                    assert e.status == 409 and "frozen already" in str(e), str(e)
            else:
                world.agent.revert(experiment)
            wait_for("it ends", lambda: world.agent.get(experiment)["state"] == "clean")
            assert read(freezer(world)) == "1", f"thawed what was not ours, fired: {fired}"
        finally:
            freeze_by_hand(world, False)
        assert world.agent.entries() == []


def refused(world, status, words, instance, params):
    before = world.agent.entries()
    try:
        world.agent.arm("proc-freeze", instance, params)
    except AgentError as e:
        text = str(e)
        assert e.status == status and all(w in text for w in words), text
        assert world.agent.entries() == before
        return
    raise AssertionError(f"not refused: {params}")


def test_refusals(world):
    # The plain server shares its cgroup with this test and the agent.
    refused(world, 403, ["processes=postgres"], world.plain_name, {})
    refused(world, 403, ["processes=postgres"], world.plain_name, {"mechanism": "cgroup"})
    refused(world, 404, ["title"], world.name, {"processes": "titles", "titles": ["archiver"]})
    with open(freezer(world), "w", encoding="ascii") as f:
        f.write("1")
    try:
        refused(world, 409, ["frozen already"], world.name, {"mechanism": "cgroup"})
    finally:
        with open(freezer(world), "w", encoding="ascii") as f:
            f.write("0")
    experiment = world.agent.inject("proc-freeze", world.name, {"processes": "postgres"})
    refused(world, 409, ["is held by proc-freeze of experiment "], world.name, {"processes": "postgres"})
    world.agent.revert(experiment)
    expect_clean(world, experiment)


def test_a_stranger_in_the_cgroup(world):
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        with open(cgroup_root() + world.server.cgroup + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write(str(stranger.pid))
        refused(world, 403, ["sleep", "processes=postgres"], world.name, {"mechanism": "cgroup"})
    finally:
        stranger.kill()
        stranger.wait()


def test_kill_while_frozen(world):
    session = Session(world.server)
    assert answers(session)
    victim = world.server.backends("postgres postgres")[0]
    experiment = world.agent.inject("proc-freeze", world.name, {"processes": "postgres"})
    os.kill(victim, 9)
    wait_for("the kill took effect", lambda: state(victim) in ("Z", None), 5)
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    session.close()
    wait_for("crash recovery", lambda: world.server.query("select 1", check=False) == "1")


def test_throughput_while_armed(world):
    world.server.pgbench("-i", "-q", "-s", "1")
    world.server.pgbench("-T", "2", "-c", "4")
    before = world.server.pgbench("-T", "3", "-c", "4")
    experiment = world.agent.arm("proc-freeze", world.name, {"processes": "postgres"})
    armed = world.server.pgbench("-T", "3", "-c", "4")
    world.agent.revert(experiment)
    expect_clean(world, experiment)
    print(f"  pgbench: {before:.0f} tps, armed {armed:.0f} tps")
    assert armed > before * 0.4, (before, armed)


def test_the_target_ends_while_frozen(world):
    experiment = world.agent.inject("proc-freeze", world.name, {"processes": "postgres"})
    world.server.stop()
    wait_for("the experiment ends by itself",
             lambda: world.agent.get(experiment)["state"] == "clean")
    assert world.agent.get(experiment)["end_reason"] == "target-gone", world.agent.get(experiment)
    assert world.agent.entries() == []
    world.server.start()


if __name__ == "__main__":
    suite.main(globals(), World, needs={"PostgreSQL": bin_dir(), "cgroup v2": cgroup_root()})
