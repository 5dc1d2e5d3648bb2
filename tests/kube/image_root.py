"""An archive that tools/image wrote: its layers unpacked, its list of parts read, its programs run in that root alone."""
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile

import lab

TOP = lab.TOP
SIZE_MAX = 40_000_000   # compressed, in bytes
PROGRAMS = {"usr/bin/pgjolt", "usr/sbin/pgjolt-agent"}


def build(output, *words, env=None, umask=None, timeout=300):
    """Runs tools/image as anybody might: what surrounds it is not to show in what it makes."""
    r = subprocess.run([os.path.join(TOP, "tools", "image"), "--tag", "localhost/pgjolt:lane", "--output", output, *words],
                       capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
                       umask=-1 if umask is None else umask, env={**os.environ, **(env or {})})
    assert r.returncode == 0, f"tools/image {' '.join(words)}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-6000:]}"
    return Image(output)


class Image:
    def __init__(self, path):
        self.folder = tempfile.mkdtemp(prefix="pgjolt-image-test.", dir="/var/tmp")
        self.root = os.path.join(self.folder, "root")
        self.members = []
        os.mkdir(self.root)
        with open(path, "rb") as f:
            self.digest = hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
                hashlib.sha256(f.read()).hexdigest()
        with tarfile.open(path) as outer:
            manifest, = json.load(outer.extractfile("manifest.json"))
            self.config = json.load(outer.extractfile(manifest["Config"]))
            self.tags = manifest["RepoTags"]
            self.compressed = 0
            for name in manifest["Layers"]:
                self.read_layer(outer.extractfile(name).read())

    def read_layer(self, data):
        layer = os.path.join(self.folder, "layer.tar")
        self.compressed += len(gzip.compress(data, 6))
        with open(layer, "wb") as f:
            f.write(data)
        with tarfile.open(layer) as tar:
            for member in tar.getmembers():     # by whom it was packed, names begin with "./" or not
                member.name = member.name.removeprefix("./")
                self.members.append(member)
        subprocess.run(["tar", "-C", self.root, "--numeric-owner", "-xpf", layer], check=True, timeout=60)
        os.unlink(layer)

    def remove(self):
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.root, name)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def files(self):
        """Plain files, by their path in the root without the leading slash."""
        return sorted(m.name for m in self.members if m.isfile())

    def programs(self):
        """What the kernel or a loader would run."""
        return [name for name in self.files() if self.read(name)[:4] == b"\x7fELF"]

    def links(self, target):
        return sorted(os.path.basename(m.name) for m in self.members if m.issym() and m.linkname == target)

    def run(self, *words, user="0:0"):
        """In that root alone, and in a network of its own."""
        return subprocess.run(["unshare", "-n", "chroot", f"--userspec={user}", self.root, *words], env={"PATH": "/usr/bin:/usr/sbin"},
                              capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)

    def sbom(self):
        return json.loads(self.read("usr/share/sbom/pgjolt.spdx.json"))

    def packages(self):
        """The list's Debian packages: version by name."""
        return {p["name"]: p["versionInfo"] for p in self.sbom()["packages"] if p["SPDXID"] != "SPDXRef-pgjolt"}


def check_small(image):
    assert image.compressed < SIZE_MAX, image.compressed


def check_list(image):
    """The list of parts is an SPDX document whole in itself, and says what the packages' own entries say."""
    sbom, names = image.sbom(), image.packages()
    ids = [p["SPDXID"] for p in sbom["packages"]]
    assert sbom["spdxVersion"] == "SPDX-2.3" and sbom["dataLicense"] == "CC0-1.0" and len(set(ids)) == len(ids)
    own, = [p for p in sbom["packages"] if p["SPDXID"] == "SPDXRef-pgjolt"]
    assert (own["name"], own["versionInfo"]) == ("pgjolt", lab.version())
    related = [(r["spdxElementId"], r["relationshipType"], r["relatedSpdxElement"]) for r in sbom["relationships"]]
    assert sorted(related) == sorted([("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-pgjolt")] + [
        ("SPDXRef-pgjolt", "DEPENDS_ON", i) for i in ids if i != "SPDXRef-pgjolt"])
    for p in sbom["packages"]:
        reference, = p["externalRefs"]
        assert p["name"].replace("+", "%2B") in reference["referenceLocator"], p
    told = {}
    for name in os.listdir(image.path("var/lib/dpkg/status.d")):
        text = image.read(f"var/lib/dpkg/status.d/{name}").decode()
        told[name] = re.search(r"^Version: (.*)$", text, re.M).group(1)
        assert re.search(f"^Package: {re.escape(name)}$", text, re.M) and os.path.exists(image.path(f"usr/share/doc/{name}/copyright"))
    assert told == names


def check_modes(image):
    """Nobody gains a right by what is in it, and nobody may change it."""
    for m in image.members:
        assert (m.uid, m.gid) == (0, 0), m.name
        assert m.isfile() or m.isdir() or m.issym(), m.name
        if m.issym():
            continue
        mode = stat.S_IMODE(m.mode)
        assert not mode & (stat.S_ISUID | stat.S_ISGID), m.name
        assert not mode & 0o022 or m.isdir() and mode == 0o1777, f"{m.name}: {mode:o}"
        assert not m.isfile() or not os.listxattr(image.path(m.name), follow_symlinks=False), m.name   # capabilities
    assert sorted(m.name for m in image.members if m.isdir() and m.mode & 0o002) == ["runs", "tmp"]


def check_shells(image):
    """One shell, busybox's, by the names that docs/security.md tells of; no package manager, no other interpreter."""
    with open(os.path.join(TOP, "docs", "security.md"), encoding="utf-8") as f:
        line = next(line for line in f if line.startswith("Its names: "))
    assert image.links("busybox") == sorted(re.findall(r"`([^`]+)`", line))
    scripts = [name for name in image.files() if image.read(name)[:2] == b"#!"]
    assert scripts == ["usr/libexec/pgjolt/toolbox"]
    executable = {m.name for m in image.members if m.isfile() and m.mode & 0o111}
    loaded = {name for name in executable if re.fullmatch(r"usr/lib(64)?/.*\.so(\.[0-9.]+)?", name)}
    assert executable - loaded == PROGRAMS | {"usr/bin/busybox", "usr/libexec/pgjolt/toolbox"}


def check_config(image):
    with open(os.path.join(TOP, "image", "Dockerfile"), encoding="utf-8") as f:
        text = f.read()
    config = image.config["config"]
    assert config["User"] == "65532:65532" and "PATH=/usr/bin:/usr/sbin" in config["Env"]
    assert not config.get("Entrypoint")
    labels = dict(re.findall(r'(org\.opencontainers\S+)="([^"]+)"', text))
    assert labels and labels.items() <= config["Labels"].items()


def check_runs(image):
    """Both programs, by root and by the user that the image names, from what is in the root alone."""
    for user in ("0:0", "65532:65532"):
        for program, words in (("/usr/bin/pgjolt", "version"), ("/usr/sbin/pgjolt-agent", "version")):
            r = image.run(program, words, user=user)
            assert r.returncode == 0 and lab.version() in r.stdout, (user, program, r)
        r = image.run("/bin/sh", "-c", "id -u && ls / && cat /etc/os-release", user=user)
        assert r.returncode == 0 and r.stdout.split()[0] == user.split(":", maxsplit=1)[0], r
    # libcurl is loaded when it is needed first, so the loader does not tell of it.
    r = image.run("/usr/bin/pgjolt", "nodes", "--agent", "https://127.0.0.1:1")
    assert r.returncode != 0 and "127.0.0.1" in r.stderr and "shared object" not in r.stderr, r


CHECKS = (check_small, check_list, check_modes, check_shells, check_config, check_runs)
