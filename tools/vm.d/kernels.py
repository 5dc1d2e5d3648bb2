"""Stock kernels as packages: fetched with an apt state of their own, unpacked below the cache folder,
never installed. Each folder holds root/ (the unpacked packages), release and vmlinuz (a path)."""
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# name: Debian suite, package; the package is a meta package that names the current kernel.
ROW = {
    "6.1": ("bookworm", "linux-image-cloud-amd64"),
    "6.12": ("trixie", "linux-image-cloud-amd64"),
    "newest": ("trixie-backports", "linux-image-cloud-amd64"),
}
PACKAGE = re.compile(r"linux-image-[a-z0-9.+-]+")
# What the first program of the guest needs before it sees the root.
BOOT_MODULES = ["virtio_pci", "virtio_console", "virtio_blk", "overlay", "virtiofs", "ext4"]
BOOT_PROGRAM = "/bin/busybox"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
STEP_S = 300    # the longest that one call of apt or dpkg may take


class Unavailable(Exception):
    """A kernel or a program that this machine cannot get."""


def run(*command, env=None):
    """What it printed; its words on failure are the exception's."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=STEP_S, env=env, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as e:
        raise Unavailable(f"{command[0]}: {e}") from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise Unavailable(f"{' '.join(command[:3])} failed: " + "; ".join(said))
    return done.stdout


def os_release():
    found = {}
    with open("/etc/os-release", encoding="utf-8") as f:
        for line in f:
            name, _, value = line.strip().partition("=")
            found[name] = value.strip('"')
    return found


def mirror():
    """The archive that this system's own release comes from."""
    system = os_release()
    if system.get("ID") != "debian":
        raise Unavailable(f"kernels come from Debian's archive, and this is {system.get('ID')}")
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                "Created-By: Packages")
    for line in lines.splitlines():
        uri, release, component = line.split()
        if release == system.get("VERSION_CODENAME") and component == "main":
            return uri
    raise Unavailable("no apt source of this system has its release's main packages")


class Archive:
    """One suite of the mirror, with state, lists and cache in a folder of its own."""

    def __init__(self, folder, suite):
        self.folder = os.path.join(folder, suite)
        self.env = {**os.environ, "APT_CONFIG": os.path.join(self.folder, "apt.conf"), "LC_ALL": "C"}
        for name in ("state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        signed = f"[signed-by={KEYRING}] " if os.path.exists(KEYRING) else ""
        self.write("status", "")
        self.write("sources.list", f"deb {signed}{mirror()} {suite} main\n")
        self.write("apt.conf", "".join(f'{name} "{value}";\n' for name, value in {
            "Dir::State": f"{self.folder}/state",
            "Dir::State::status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
        }.items()))
        run("apt-get", "update", "-q", env=self.env)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
            f.write(text)

    def depends(self, package):
        """The exact packages that this one names, or None if the suite does not have it."""
        try:
            shown = run("apt-cache", "show", "--no-all-versions", package, env=self.env)
        except Unavailable:
            return None
        found = re.search(r"^Depends: (.*)$", shown, re.M)
        words = [re.split(r"[ |(]", d.strip())[0] for d in found.group(1).split(",")] if found else []
        return [w for w in words if w.startswith("linux-") and w.endswith("-amd64")]

    def closure(self, package):
        """The package and the parts of a kernel that it is made of."""
        todo, found = [package], []
        while todo:
            name = todo.pop()
            if name in found:
                continue
            depends = self.depends(name)
            if depends is not None:
                found.append(name)
                todo += depends
        return found

    def unpack(self, packages, root):
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for package in packages:
                done = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, env=self.env,
                                      stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                      timeout=STEP_S, check=False)
                if done.returncode:
                    raise Unavailable(f"{package}: {done.stderr.strip()}")
            for deb in glob.glob(f"{folder}/*.deb"):
                run("dpkg-deb", "--extract", deb, root)


def libraries(program):
    """What a program is linked with; nothing for a static one."""
    if not os.path.exists(program):
        raise Unavailable(f"there is no {program} (tools/deps vm)")
    said = subprocess.run(["ldd", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", said.stdout)


class Kernel:
    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "release"), encoding="ascii") as f:
            self.release = f.read().strip()
        root = os.path.join(folder, "root")
        self.tree = root if os.path.isdir(f"{root}/lib/modules") else f"{root}/usr"
        self.modules = os.path.join(self.tree, "lib", "modules", self.release)

    def image(self):
        for pattern in ("root/boot/vmlinuz-*", "root/usr/lib/modules/*/vmlinuz",
                        "root/lib/modules/*/vmlinuz"):
            found = glob.glob(os.path.join(self.folder, pattern))
            if found:
                return found[0]
        raise Unavailable(f"{self.folder} holds no kernel image")

    def boot_modules(self):
        """Paths in the order of loading; what is built in needs none."""
        paths = []
        for module in BOOT_MODULES:
            shown = run("modprobe", "-d", self.tree, "-S", self.release, "--show-depends", module)
            for line in shown.splitlines():
                words = line.split()
                if words[0] == "insmod" and words[1] not in paths:
                    paths.append(words[1])
        return paths

    def initrd(self):
        """The archive with which every boot of this kernel begins, made once."""
        with open(os.path.join(HERE, "init"), "rb") as f:
            init = f.read()
        files = {"init": (0o755, init)}
        for source in [BOOT_PROGRAM, *libraries(BOOT_PROGRAM)]:
            with open(source, "rb") as f:
                files[source.lstrip("/")] = (0o755, f.read())
        key = hashlib.sha256(b"".join(data for _, data in files.values()) +
                             " ".join(BOOT_MODULES).encode()).hexdigest()[:12]
        path = os.path.join(self.folder, f"initrd-{key}")
        if not os.path.exists(path):
            order = []
            for module in self.boot_modules():
                opener = lzma.open if module.endswith(".xz") else open
                with opener(module, "rb") as f:
                    name = os.path.basename(module).removesuffix(".xz")
                    files[f"modules/{name}"] = (0o644, f.read())
                    order.append(name)
            files["modules/order"] = (0o644, "".join(f"{n}\n" for n in order).encode())
            with open(f"{path}.new", "wb") as f:
                f.write(archive(files, ["dev", "proc", "sys", "host", "upper", "newroot"]))
            os.rename(f"{path}.new", path)
        return path


def archive(files, folders=()):
    """An initramfs of files {path: (mode, bytes)}: cpio's "newc", Documentation/driver-api/early-userspace."""
    parts = []

    def add(name, mode, data):
        path = name.encode() + b"\0"
        fields = (len(parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + path
        parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    parents = set(folders)
    for path in files:
        while path := os.path.dirname(path):
            parents.add(path)
    for folder in sorted(parents):
        add(folder, 0o40755, b"")
    for path, (mode, data) in files.items():
        add(path, 0o100000 | mode, data)
    add("TRAILER!!!", 0, b"")
    return b"".join(parts)


class Cache:
    """The kernels of this folder; fetching is one at a time."""

    def __init__(self, folder):
        self.folder = folder

    def place(self, name):
        if name not in ROW and not PACKAGE.fullmatch(name):
            raise ValueError(f"no such kernel: '{name}' (one of {', '.join(ROW)}, or a package linux-image-...)")
        return os.path.join(self.folder, name)

    def have(self, name):
        """The kernel as fetched before, or None."""
        folder = self.place(name)
        return Kernel(folder) if os.path.exists(os.path.join(folder, "release")) else None

    def get(self, name, again=False):
        """The kernel; fetched if it is not there, or if again says to look for a newer one."""
        kernel = self.have(name)
        if kernel and not again:
            return kernel
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self.fetch(name, again)

    def fetch(self, name, again):
        kernel = self.have(name)
        if kernel and not again:    # by somebody else, while this one waited
            return kernel
        suites = [ROW[name]] if name in ROW else [(suite, name) for suite, _ in ROW.values()]
        for suite, package in suites:
            source = Archive(os.path.join(self.folder, "apt"), suite)
            packages = source.closure(package)
            if packages:
                break
        else:
            raise Unavailable(f"no suite of {mirror()} has {package}")
        if kernel and sorted(packages) == kernel_packages(kernel):
            return kernel
        new = tempfile.mkdtemp(prefix="new-", dir=self.folder)
        try:
            self.fill(new, source, packages)
            shutil.rmtree(self.place(name), ignore_errors=True)
            os.rename(new, self.place(name))
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return self.have(name)

    @staticmethod
    def fill(folder, source, packages):
        root = os.path.join(folder, "root")
        os.mkdir(root)
        os.chmod(folder, 0o755)
        source.unpack(packages, root)
        found = glob.glob(f"{root}/lib/modules/*") + glob.glob(f"{root}/usr/lib/modules/*")
        if not found:
            raise Unavailable(f"{' '.join(packages)} hold no modules")
        release = os.path.basename(found[0])
        run("depmod", "-b", os.path.dirname(os.path.dirname(os.path.dirname(found[0]))), release)
        for name, text in (("packages", "\n".join(sorted(packages))), ("release", release)):
            with open(os.path.join(folder, name), "w", encoding="ascii") as f:
                f.write(text + "\n")


def kernel_packages(kernel):
    with open(os.path.join(kernel.folder, "packages"), encoding="ascii") as f:
        return f.read().split()
