"""For the tests of replication: a primary, a standby that follows it, an agent. Each server has namespaces and a
cgroup of its own; a bridge joins them, with a name server in its namespace."""
import os
import re
import subprocess

import suite
from harness.agent import Agent
from harness.certificates import Authority
from harness.name_server import NameServer
from lib_postgres import Network, Server, bin_dir, wait_for

PORT = 5432
HUB, PRIMARY, STANDBY = "10.96.5.254", "10.96.5.1", "10.96.5.2"
HOST = "primary.pgjolt.test"
ROLES = (f"hostssl replication standby {STANDBY}/32 cert\n"
         f"hostnossl replication plain {STANDBY}/32 trust\nhost all postgres {STANDBY}/32 trust\n")
SETTINGS = ["--wal_retrieve_retry_interval=200ms", "--wal_receiver_status_interval=1s", "--log_connections=on",
            "--max_wal_size=1GB", "--checkpoint_timeout=1h"]


class Log:
    """What a server writes from now on."""

    def __init__(self, server):
        self.path = f"{server.folder}/log"
        self.start = os.path.getsize(self.path)

    def text(self):
        with open(self.path, errors="replace", encoding="utf-8") as f:
            f.seek(self.start)
            return f.read()

    def wait(self, words, limit=20):
        """The text up to there."""
        def find():
            text = self.text()
            found = re.search(words, text)
            return found and text[:found.end()]
        try:
            return wait_for(f"'{words}' in {self.path}", find, limit)
        except AssertionError as e:
            raise AssertionError(f"{e}:\n{self.text()[-3000:]}") from None


class World(suite.Things):
    def __init__(self):
        super().__init__()
        self.names = None
        try:
            self.build()
        except BaseException:
            self.remove()
            raise

    def build(self):
        self.network = self.keep(Network("net", HUB))
        self.names = NameServer(self.network.netns, names={HOST: PRIMARY})
        self.primary = self.keep(Server("primary", PORT, network=self.network, address=PRIMARY, settings=SETTINGS))
        self.make_certificates()
        subprocess.run(Server.as_postgres(f"{bin_dir()}/pg_checksums", "--enable", "-N", "-D", self.primary.data),
                       check=True, stdout=subprocess.DEVNULL, cwd="/")
        with open(f"{self.primary.data}/pg_hba.conf", "r+", encoding="ascii") as f:
            lines = f.read()
            f.seek(0)
            f.write(ROLES + lines)
        self.primary.start()
        self.primary.query("create role standby login replication; create role plain login replication;"
                           "create extension amcheck; create table t (id serial primary key, pad text);"
                           "alter table t alter column pad set storage plain")
        self.standby = self.keep(Server("standby", PORT, network=self.network, address=STANDBY, settings=SETTINGS,
                                        base=self.primary))
        with open(f"{self.standby.folder}/etc/resolv.conf", "w", encoding="ascii") as f:
            f.write(f"nameserver {HUB}\noptions timeout:1 attempts:1\n")
        with open(f"{self.standby.folder}/etc/nsswitch.conf", "w", encoding="ascii") as f:
            f.write("hosts: files dns\n")
        self.standby.start()
        self.agent = self.keep(Agent.alone())
        self.follow()

    def make_certificates(self):
        self.authority = Authority(f"{self.primary.folder}/tls")
        self.authority.make("server", HOST)
        self.authority.make("standby")
        self.primary.settings += ["--ssl=on", *(f"--ssl_{name}_file={self.authority.path(path)}" for name, path in (
            ("cert", "server.crt"), ("key", "server.key"), ("ca", "ca.crt")))]

    def tidy(self):
        self.agent.call("POST", "/v1/revert", {})

    def remove(self):
        try:
            super().remove()
        finally:
            if self.names:
                self.names.close()

    def name(self, server):
        return self.agent.instance_of(server.postmaster)["name"]

    def inject(self, fault, server, **params):
        experiment = self.agent.inject(fault, self.name(server), params)
        info = self.agent.get(experiment)
        assert info["state"] == "active", info
        return experiment

    def end(self, experiment):
        """Its last words."""
        self.agent.revert(experiment)
        info = self.agent.wait_state(experiment, "clean")
        assert info["verified_clean"] and not [e for e in self.agent.entries() if experiment in e], info
        return info

    def follow(self, tls=False, named=False):
        """Has the standby connect so, and waits until it streams."""
        words = f"host={HOST if tls or named else PRIMARY} port={PORT} user={'standby' if tls else 'plain'}"
        if tls:
            words += f" hostaddr={PRIMARY} sslmode=verify-full sslrootcert={self.authority.path('ca.crt')}" \
                     f" sslcert={self.authority.path('standby.crt')} sslkey={self.authority.path('standby.key')}"
        else:
            words += " sslmode=disable"
        if self.standby.query("show primary_conninfo") != words:
            old = self.sender()
            self.standby.query(f"alter system set primary_conninfo = '{words}'")
            self.standby.query("select pg_reload_conf()")
            wait_for("another walsender", lambda: self.sender() not in ("", old))
        self.caught_up()

    def sender(self):
        """pid and the standby's port of the walsender that streams; "" if none does."""
        return self.primary.query("select pid || ' ' || client_port from pg_stat_replication where "
                                  "state = 'streaming'", check=False)

    def write(self):
        """A row on the primary; the WAL's end behind it."""
        self.primary.query("insert into t (pad) values ('x')")
        return self.primary.query("select pg_current_wal_flush_lsn()")

    def has(self, lsn, which="replay"):
        return self.standby.query(f"select pg_last_wal_{which}_lsn() >= '{lsn}'", check=False) == "t"

    def caught_up(self):
        wait_for("the standby streams", self.sender)
        lsn = self.write()
        wait_for("the standby has it", lambda: self.has(lsn))

    def expect_same(self):
        """Both have the same rows, and every page, row and index is whole."""
        self.caught_up()
        for sql in ("select count(*), sum(hashtext(pad)::bigint) from t", "show data_checksums"):
            assert self.primary.query(sql) == self.standby.query(sql), sql
        for server in (self.primary, self.standby):
            subprocess.run([f"{bin_dir()}/pg_amcheck", "-h", server.folder, "-p", str(PORT), "-U", "postgres",
                            "--heapallindexed", "postgres"], check=True, timeout=120)


class FromStandby:
    """What Session wants to know, for a psql on the standby's host with a session on the primary."""

    def __init__(self, world):
        self.world = world

    def psql_command(self):
        return ["nsenter", "-t", str(self.world.standby.postmaster), "-n", "--", f"{bin_dir()}/psql", "-XAtq",
                "-h", PRIMARY, "-p", str(PORT), "-U", "postgres", "postgres"]
