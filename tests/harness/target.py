"""A plain PostgreSQL as a target: own network, pid, mount and UTS namespace, own cgroup, and a first
process that starts it again whenever it ends. A second network namespace, joined to the first by a
veth, stands for its clients.

    with scratch("mine") as folder, Target(folder, "mine") as target:
        target.name                     # the instance's name for the agent
        target.answer_ms(100)           # how long until a client gets an answer; None: longer
"""
import glob
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from harness.agent import TIME_SCALE, wait_until
from harness.certificates import Authority
from harness.netns import socket_in
from harness.vdso import is_pristine

SSL_REQUEST = struct.pack("!II", 8, 80877103)
# A data directory made before, used in place: making one takes long on an emulated processor.
PREPARED = os.environ.get("PGJOLT_PREPARED_DATA")
# Each attempt is a session that the server begins, also when the client has gone meanwhile.
ASK_EVERY_S = 0.01 if TIME_SCALE == 1 else 0.2
ADDRESS, CLIENT_ADDRESS = "10.99.7.1", "10.99.7.2"
INIT = """
exec 2>>"$1/postgres.log"
hostname pg1
mount -t tmpfs tmpfs /dev/shm    # a postmaster that is killed leaves its segments there
while [ ! -e "$1/stop" ]; do
    setpriv --reuid postgres --regid postgres --clear-groups "$0" -D "$1/data" >>"$1/postgres.log" 2>&1
    sleep 0.05
done
"""


def postgres_folder():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise SystemExit(77)
    return found[-1]


def cgroup_root():
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ")
            if right.split()[0] == "cgroup2":
                return left.split()[4]
    raise SystemExit(77)


def cgroup_roots():
    """Every hierarchy, the v2 one first."""
    roots = [cgroup_root()]
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ")
            if right.split()[0] == "cgroup":
                roots.append(left.split()[4])
    return roots


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def make_data(folder, *options):
    """A data directory with checksums, in an empty folder."""
    run("chown", "postgres", folder)
    run("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups",
        f"{postgres_folder()}/initdb", "-D", folder, "-N", "-k", "-A", "trust", "-U", "postgres", *options)


def check(*command):
    """Its words are in what is raised."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120 * TIME_SCALE, check=False, cwd="/")
    if done.returncode:
        raise AssertionError(f"{command[0]}: {done.returncode}: {done.stdout.decode(errors='replace')[-2000:]}")


class Target:
    """disk: PGDATA is a file system of its own, of so many MiB, on a loop device (PGJOLT_PREPARED_DATA: the
    one that this lies on), and the server flushes. wal: so is pg_wal, on another one. tls: it has a certificate (server.crt). settings, hba: more lines of its
    configuration, hba before the others."""

    def __init__(self, folder, label, disk=0, tls=False, settings="", hba="", wal=0):
        self.disk, self.wal = disk, 0 if PREPARED else wal
        self.tls = tls
        self.settings, self.hba = settings, hba
        self.folder = folder
        self.cluster = f"pj{label}{os.getpid()}"
        self.name = f"{self.cluster}/pg1"
        self.netns = f"{self.cluster}-t"
        self.client_netns = f"{self.cluster}-c"
        self.cgroup = os.path.join(cgroup_root(), f"pj-{label}-{os.getpid()}")
        self.process = None
        self.name_server = None

    def __enter__(self):
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(self, *_):
        self.down()

    def up(self):
        data = os.path.join(self.folder, "data")
        bin_folder = postgres_folder()
        os.mkdir(data)
        run("chown", "postgres", self.folder)
        if PREPARED:
            run("mount", "--bind", PREPARED, data)
        else:
            if self.disk:
                self.make_volume("data", self.disk)
            make_data(data, *self.make_wal())
        if self.tls:
            authority = Authority(os.path.join(self.folder, "ca"))
            authority.make("server", "pg1")
            for name in ("server.crt", "server.key"):
                shutil.move(authority.path(name), data)
                shutil.chown(os.path.join(data, name), "postgres", "postgres")
            self.settings += "ssl = on\n"
        with open(f"{data}/postgresql.auto.conf", "a") as f:
            f.write(f"cluster_name = '{self.cluster}'\nlisten_addresses = '*'\n"
                    f"unix_socket_directories = '{self.folder}'\nfsync = {'on' if self.disk else 'off'}\n"
                    f"shared_buffers = 16MB\nmax_wal_senders = 0\nwal_level = minimal\n{self.settings}")
            if self.disk:       # or a recovery flushes each file by itself
                f.write("recovery_init_sync_method = syncfs\n")
        if self.hba:
            with open(f"{data}/pg_hba.conf", "r+") as f:
                lines = f.read()
                f.seek(0)
                f.write(self.hba + lines)
        for ns in (self.netns, self.client_netns):
            run("ip", "netns", "add", ns)
            run("ip", "-n", ns, "link", "set", "lo", "up")
        self.link()
        self.start(bin_folder)
        return self

    def make_volume(self, name, mib):
        """A file system at that folder of ours."""
        image = os.path.join(self.folder, f"{name}.img")
        run("truncate", "-s", f"{mib}M", image)
        run("mkfs.ext4", "-q", "-F", image)
        self.mount(name)
        os.rmdir(os.path.join(self.folder, name, "lost+found"))

    def mount(self, name):
        run("mount", "-o", "loop", os.path.join(self.folder, f"{name}.img"), os.path.join(self.folder, name))

    def make_wal(self):
        """initdb's options."""
        if not self.wal:
            return []
        volume = os.path.join(self.folder, "wal")
        os.mkdir(volume)
        self.make_volume("wal", self.wal)
        run("chown", "postgres", volume)
        return ["--waldir", os.path.join(volume, "pg_wal")]

    def delete(self):
        """As a pod that is removed by force: all its processes are killed, its network's name goes. Its
        clients, its control group and its volume stay, for again()."""
        self.process.kill()
        self.process.wait(10)
        self.process = None
        run("ip", "netns", "delete", self.netns)

    def again(self):
        """What was deleted, anew, with the data that it had."""
        data = os.path.join(self.folder, "data")
        if PREPARED:
            run("mount", "--bind", PREPARED, data)
        else:
            for name in ["data"] * bool(self.disk) + ["wal"] * bool(self.wal):
                if not os.path.ismount(os.path.join(self.folder, name)):
                    self.mount(name)
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        self.link()
        self.start()

    def groups(self):
        """Its folder in each hierarchy: the same name in all."""
        name = os.path.basename(self.cgroup)
        return [os.path.join(root, name) for root in cgroup_roots()]

    def group(self, controller):
        """Its folder in the hierarchy that has this controller."""
        return next((g for g in self.groups() if os.path.basename(os.path.dirname(g)) == controller),
                    self.cgroup)

    def make_groups(self):
        for folder in self.groups():
            if not os.path.isdir(folder):
                os.mkdir(folder)
            for name in ("cpuset.cpus", "cpuset.mems"):     # v1: empty ones take no process
                parent = os.path.join(os.path.dirname(folder), name)
                if os.path.exists(parent) and os.path.exists(os.path.join(folder, name)):
                    with open(parent) as f, open(os.path.join(folder, name), "w") as g:
                        g.write(f.read())

    def link(self):
        """The veth between the instance and its clients."""
        run("ip", "-n", self.netns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
            "netns", self.client_netns)
        for ns, address in ((self.netns, ADDRESS), (self.client_netns, CLIENT_ADDRESS)):
            run("ip", "-n", ns, "addr", "add", f"{address}/30", "dev", "eth0")
            run("ip", "-n", ns, "link", "set", "eth0", "up")

    def start(self, bin_folder=None):
        """Its first process, in the cgroup from its first step on."""
        self.make_groups()
        script = 'for g in $0; do echo 0 >"$g/cgroup.procs" || exit; done; exec "$@"'
        self.process = subprocess.Popen(
            ["sh", "-c", script, " ".join(self.groups()), "ip", "netns", "exec", self.netns, "unshare",
             "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "bash", "-c", INIT,
             f"{bin_folder or postgres_folder()}/postgres", self.folder],
            stdin=subprocess.DEVNULL)
        if self.answer_ms(30000) is None:
            raise RuntimeError(f"the target does not start, see {self.folder}/postgres.log")

    def end(self):
        """All its processes at once, then the cgroup, as a pod that is deleted."""
        if not self.process:
            return
        self.thaw()
        self.process.kill()
        self.process.wait(10)
        wait_until(lambda: not self.pids(), 10)
        wait_until(self.remove_cgroup, 5)
        self.process = None

    def check_whole(self):
        """Its data: pg_amcheck, an end without a word, each page's checksum. It is not started again."""
        if not wait_until(lambda: self.session_ms(5000), 60):
            raise AssertionError("the target lets nobody in")
        check(f"{postgres_folder()}/pg_amcheck", "-h", self.folder, "-U", "postgres", "--install-missing",
              "--heapallindexed", "postgres")
        with open(os.path.join(self.folder, "stop"), "w"):
            pass
        os.kill(self.postmaster(), signal.SIGINT)
        self.process.wait(60 * TIME_SCALE)
        self.end()
        check("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups",
              f"{postgres_folder()}/pg_checksums", "--check", "-D", os.path.join(self.folder, "data"))

    def down(self):
        self.end()
        if self.name_server:
            self.name_server.close()
        for ns in (self.netns, self.client_netns):
            if os.path.exists(f"/run/netns/{ns}"):
                run("ip", "netns", "delete", ns)
        self.remove_cgroup()
        self.unmount()

    def unmount(self):
        """True when its volumes are mounted nowhere."""
        return all([wait_until(lambda path=path: not os.path.ismount(path) or subprocess.run(
            ["umount", path], stderr=subprocess.DEVNULL).returncode == 0, 5, 0.1)
            for path in (os.path.join(self.folder, name) for name in ("data", "wal"))])

    def remove_cgroup(self):
        for folder in self.groups():
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                return False
        return True

    def pids(self):
        try:
            with open(f"{self.cgroup}/cgroup.procs") as f:
                return [int(line) for line in f]
        except OSError:
            return []

    def thaw(self):
        """For the test's own end: nothing frozen can be killed on a v1 freezer."""
        try:
            with open(f"{self.cgroup}/cgroup.freeze", "w") as f:
                f.write("0")
        except OSError:
            pass

    def postmaster(self):
        """Its pid as this test sees it; None while there is none."""
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                with open(f"/proc/{pid}/comm") as f:
                    comm = f.read().strip()
            except OSError:
                continue
            if comm == "postgres" and len(words) > 2 and words[1] == b"-D":
                return pid
        return None

    def clock_off(self):
        """How far SQL's clock is from ours, in seconds."""
        command = [f"{postgres_folder()}/psql", "-XAtq", "-h", self.folder, "-U", "postgres", "-c",
                   "select extract(epoch from clock_timestamp())", "postgres"]

        def ask():      # it may be starting up
            return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  check=False, timeout=20 * TIME_SCALE).stdout
        answer = wait_until(ask, 10)
        return float(answer) - time.time()

    def patched(self):
        """Processes whose vDSO is not what the kernel gave them."""
        return [pid for pid in self.pids() if not is_pristine(pid)]

    def kill_postmaster(self):
        os.kill(self.postmaster(), signal.SIGKILL)

    def answer_ms(self, limit_ms):
        """A client asks PostgreSQL's own port, anew each 10 ms; the time until the first answer."""
        limit_ms *= TIME_SCALE
        start = time.monotonic()
        poll = select.poll()
        attempts, answer = {}, None
        while answer is None and (now := time.monotonic()) - start < limit_ms / 1000:
            if len(attempts) < 200:
                s = socket_in(self.client_netns)
                s.setblocking(False)
                s.connect_ex((ADDRESS, 5432))
                attempts[s.fileno()] = s
                poll.register(s, select.POLLOUT)
            until = now + ASK_EVERY_S
            while answer is None and (left := until - time.monotonic()) > 0:
                answer = self.step(poll, attempts, left, start)
        for s in attempts.values():
            s.close()
        return answer

    def connect(self):
        """A connection that has been served: PostgreSQL waits for what the client says next."""
        s = socket_in(self.client_netns)
        s.settimeout(10 * TIME_SCALE)
        s.connect((ADDRESS, 5432))
        s.send(SSL_REQUEST)
        s.recv(1)
        return s

    @staticmethod
    def is_reset(session):
        session.settimeout(0.2 * TIME_SCALE)
        try:
            return session.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def session_ms(self, limit_ms):
        """A new session over the unix socket, until it is ready: its backend opens and reads files of
        the data directory. None: longer."""
        limit_ms *= TIME_SCALE
        start = time.monotonic()
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.settimeout(limit_ms / 1000)
                s.connect(f"{self.folder}/.s.PGSQL.5432")
                s.sendall(struct.pack("!I", len(body) + 4) + body)
                data = b""
                while not data.endswith(b"Z\0\0\0\5I"):     # ReadyForQuery, idle
                    s.settimeout(max(0.001, limit_ms / 1000 - (time.monotonic() - start)))
                    more = s.recv(4096)
                    if not more or data[:1] == b"E":
                        return None
                    data += more
            except OSError:
                return None
        return (time.monotonic() - start) * 1000

    def name_ms(self, limit_ms):
        """A query from the instance's network to a name server beside the clients, anew each 10 ms; the
        time until the first answer. The server sends back what it gets."""
        if not self.name_server:
            self.name_server = socket_in(self.client_netns, socket.AF_INET, socket.SOCK_DGRAM)
            self.name_server.bind((CLIENT_ADDRESS, 53))
            threading.Thread(target=self.echo, args=(self.name_server,), daemon=True).start()
        query = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + b"\3www\4test\0" + struct.pack("!2H", 1, 1)
        limit_ms *= TIME_SCALE
        start = time.monotonic()
        with socket_in(self.netns, socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.01 * TIME_SCALE)
            while time.monotonic() - start < limit_ms / 1000:
                s.sendto(query, (CLIENT_ADDRESS, 53))
                try:
                    s.recv(512)
                    return (time.monotonic() - start) * 1000
                except TimeoutError:
                    pass
        return None

    @staticmethod
    def echo(server):
        while True:
            try:
                server.sendto(*server.recvfrom(512))
            except OSError:
                return

    @staticmethod
    def step(poll, attempts, seconds, start):
        for fd, events in poll.poll(seconds * 1000):
            s = attempts[fd]
            try:
                if events & select.POLLIN:
                    if s.recv(1):
                        return (time.monotonic() - start) * 1000
                    raise OSError("closed")
                s.send(SSL_REQUEST)
                poll.modify(s, select.POLLIN)
            except OSError:
                poll.unregister(fd)
                attempts.pop(fd).close()
        return None
