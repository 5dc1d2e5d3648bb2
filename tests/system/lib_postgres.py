"""Real PostgreSQL servers for tests: each with its own data, and if asked its own namespaces and cgroup."""
import atexit
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PREFIX = f"pj-procs{os.getpid()}-"
# Not that of another run of the tests: two instances of one name are told apart by their pids.
CLUSTER = f"pjtest{os.getpid()}"


def bin_dir():
    base = "/usr/lib/postgresql"
    versions = sorted(os.listdir(base), key=int) if os.path.isdir(base) else []
    return f"{base}/{versions[-1]}/bin" if versions else None


def cgroup_root():
    """The v2 hierarchy, also where it stands beside v1."""
    for path in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if os.path.exists(f"{path}/cgroup.controllers"):
            return path
    return None


def wait_for(what, call, limit=20.0):
    end = time.monotonic() + limit
    while True:
        value = call()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.01)


def state(pid):
    """R S D T t Z of /proc/PID/stat, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(name))
            except OSError:
                pass
    return found


def held(pid):
    """Is it stopped, or somebody's tracee? What is gone, or about to be (a zombie), is neither."""
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as f:
            text = f.read()
    except OSError:
        return False
    return re.search(r"^State:\s+[tT]", text, re.M) is not None or "TracerPid:\t0\n" not in text


def title(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode("latin-1").strip()
    except OSError:
        return ""


def inside(pid, call):
    """call() in a thread that has entered the process's network namespace."""
    box = {}

    def body():
        with open(f"/proc/{pid}/ns/net", encoding="ascii") as f:
            if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), 0x40000000) == 0:
                box["value"] = call()
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return box["value"]


class Network:
    """A network namespace with a bridge, for servers to be joined by; address is its own there."""

    def __init__(self, name, address):
        self.netns, self.address = f"{PREFIX}{name}", address
        self.ip("netns", "add", self.netns)
        atexit.register(self.remove)
        self.ip("-n", self.netns, "link", "add", "br0", "type", "bridge")
        self.ip("-n", self.netns, "addr", "add", f"{address}/24", "dev", "br0")
        self.ip("-n", self.netns, "link", "set", "br0", "up")

    @staticmethod
    def ip(*words):
        subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)

    def join(self, pid, port):
        """eth0 in the process's namespace, and its other end, by that name, at the bridge."""
        self.ip("-n", self.netns, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.ip("-n", self.netns, "link", "set", port, "master", "br0", "up")

    def remove(self):
        if os.path.exists(f"/run/netns/{self.netns}"):
            self.ip("netns", "del", self.netns)


class Session:
    """One client's session: a psql that is asked line by line."""

    def __init__(self, server, application=None):
        named = {"PGAPPNAME": application} if application else {}
        self.psql = subprocess.Popen(server.psql_command(), env={**os.environ, **named}, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def send(self, sql):
        self.psql.stdin.write(sql.encode() + b";\n")
        self.psql.stdin.flush()

    def receive(self, limit):
        """A line, or None if there is none in time."""
        ready, _, _ = select.select([self.psql.stdout], [], [], limit)
        return os.read(self.psql.stdout.fileno(), 4096).decode().strip() if ready else None

    def ask(self, sql, limit=10.0):
        self.send(sql)
        return self.receive(limit)

    def close(self):
        self.psql.kill()
        self.psql.wait()
        self.psql.stdin.close()
        self.psql.stdout.close()


class Server:
    """alone=True: pid, mount, uts and network namespaces and a cgroup of its own, as in a container.
    network, address: joined to it there, each time it starts. base: a server that runs, of which it is to be a
    standby. Files in FOLDER/etc stand for those of /etc."""

    def __init__(self, name, port, alone=True, cluster=CLUSTER, settings=(), network=None, address=None, base=None):
        self.name, self.port, self.alone, self.cluster = name, port, alone, cluster
        self.settings = list(settings)
        self.network, self.address = network, address
        self.process = None
        self.cgroup = None
        self.name_on_command_line = True
        self.folder = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
        # Also when a test ends before its own clean-up is in place.
        atexit.register(self.remove)
        self.data = f"{self.folder}/data"
        shutil.chown(self.folder, "postgres", "postgres")
        os.chmod(self.folder, 0o755)
        if alone:
            self.cgroup = f"/{PREFIX}{name}"
            os.mkdir(cgroup_root() + self.cgroup)
        os.mkdir(f"{self.folder}/etc")
        self.make_data(base)

    def make_data(self, base):
        make = [f"{bin_dir()}/initdb", "-D", self.data, "-A", "trust", "-N", "--no-locale", "-E", "UTF8"]
        if base:
            make = [f"{bin_dir()}/pg_basebackup", "-D", self.data, "-h", base.folder, "-p", str(base.port), "-U",
                    "postgres", "--checkpoint=fast", "--no-sync"]
        subprocess.run(self.as_postgres(*make), check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")
        if base:
            with open(f"{self.data}/standby.signal", "w", encoding="ascii"):
                pass

    @staticmethod
    def as_postgres(*command):
        return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups",
                "--reset-env", *command]

    def start(self):
        self.start_only()
        wait_for(f"{self.name} answers", lambda: self.query("select 1", check=False) == "1", 60)
        return self

    def start_only(self):
        options = [f"--port={self.port}", f"--unix_socket_directories={self.folder}",
                   f"--listen_addresses={'*' if self.network else '127.0.0.1'}", "--logging_collector=off",
                   "--shared_buffers=16MB", "--dynamic_shared_memory_type=mmap", *self.settings]
        if self.name_on_command_line:
            options.append(f"--cluster_name={self.cluster}")
        # An IPC namespace of its own: a postmaster that is killed leaves its shared memory there.
        command = ["unshare", "--ipc",
                   *self.as_postgres(f"{bin_dir()}/postgres", "-D", self.data, *options)]
        if self.alone:
            wire = (f"until ip addr add {self.address}/24 dev eth0 2>/dev/null; do sleep 0.01; done; "
                    "ip link set eth0 up && ") if self.network else ""
            inner = (f"hostname {self.name} && ip link set lo up && mount -t proc proc /proc && "
                     f"for f in {self.folder}/etc/*; do "
                     '[ ! -e "$f" ] || mount --bind "$f" "/etc/${f##*/}" || exit; done; '
                     f'{wire}exec "$@"')
            command = ["unshare", "--mount", "--pid", "--uts", "--net", "--fork",
                       "sh", "-c", inner, "sh", *command]
        procs = cgroup_root() + self.cgroup + "/cgroup.procs" if self.cgroup else None

        def enter():
            os.setsid()
            if procs:
                with open(procs, "w", encoding="ascii") as f:
                    f.write("0")
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/",
                                            preexec_fn=enter)
        if self.network:
            self.network.join(self.postmaster, f"to-{self.name}")

    @property
    def postmaster(self):
        """In our own pid namespace."""
        if not self.alone:
            return self.process.pid
        return wait_for("the postmaster", lambda: children(self.process.pid))[0]

    def start_manager(self, name="patroni"):
        """A program by a manager's name in the server's namespaces and cgroup: its heart is a file's size."""
        script, heart = f"{self.folder}/{name}", f"{self.folder}/heart"
        with open(script, "w", encoding="ascii") as f:
            f.write("import time\n"
                    f"while True:\n    open({heart!r}, 'a').write('.')\n    time.sleep(0.01)\n")
        procs = cgroup_root() + self.cgroup + "/cgroup.procs"

        def enter():
            with open(procs, "w", encoding="ascii") as f:
                f.write("0")
        manager = subprocess.Popen(["nsenter", "--target", str(self.postmaster), "--pid", "--no-fork",
                                    "sh", "-c", '"$@" & wait', "sh", "/usr/bin/python3", script],
                                   cwd="/", preexec_fn=enter)
        atexit.register(manager.kill)
        pid = wait_for("the manager", lambda: children(manager.pid))[0]
        wait_for("its heart beats", lambda: os.path.exists(heart) and os.path.getsize(heart) > 0)
        return manager, pid, heart

    def psql_command(self):
        return [f"{bin_dir()}/psql", "-XAtq", "-h", self.folder, "-p", str(self.port), "-U",
                "postgres", "postgres"]

    def query(self, sql, check=True, limit=20):
        done = subprocess.run([*self.psql_command(), "-c", sql], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=limit, check=check)
        return done.stdout.decode().strip()

    def backends(self, kind):
        """Pids of children whose title has this after the cluster's name."""
        start = f"postgres: {self.cluster}: {kind}"
        return [pid for pid in children(self.postmaster) if title(pid).startswith(start)]

    def pgbench(self, *arguments, limit=120):
        done = subprocess.run([f"{bin_dir()}/pgbench", "-h", self.folder, "-p", str(self.port), "-U",
                               "postgres", *arguments, "postgres"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=limit, check=True)
        for line in done.stdout.decode().splitlines():
            if line.startswith("tps = "):
                return float(line.split()[2])
        return None

    def stop(self):
        if not self.process:
            return
        if self.alone:
            for pid in children(self.process.pid):      # the namespace's first process: all end
                os.kill(pid, signal.SIGKILL)
        else:
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def remove(self):
        if not os.path.isdir(self.folder):
            return
        folder = cgroup_root() + self.cgroup if self.cgroup else None
        if folder and os.path.isdir(folder):
            with open(f"{folder}/cgroup.freeze", "w", encoding="ascii") as f:
                f.write("0")
        self.stop()
        if folder:
            def empty():
                with open(f"{folder}/cgroup.procs", encoding="ascii") as f:
                    return not f.read()
            if os.path.isdir(folder):
                wait_for(f"cgroup {self.cgroup} is empty", empty)
                os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
