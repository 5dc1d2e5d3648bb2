"""The container image as tools/image --from-build makes it: the same twice, small, with a true list of its parts, and whole.
Needs no cluster. test_dockerfile.py has the same of the Dockerfile."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import image_root   # noqa: E402
import lab          # noqa: E402
import suite        # noqa: E402

EPOCH = 1700000000


class World:
    def __init__(self):
        self.folder = os.path.join(lab.TOP, "build", "kube")
        os.makedirs(self.folder, exist_ok=True)
        self.output = os.path.join(self.folder, "image.tar")
        self.image = image_root.build(self.output, "--from-build", env={"SOURCE_DATE_EPOCH": str(EPOCH)})
        self.again = None

    def remove(self):
        for image in filter(None, (self.image, self.again)):
            image.remove()
        os.unlink(self.output)


def test_the_same_twice(world):
    """With another clock, language, umask and temporary folder around it."""
    other = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "TMPDIR": world.folder}
    world.again = image_root.build(os.path.join(world.folder, "image.tar"), "--from-build", env=other, umask=0o077)
    assert world.again.digest == world.image.digest, [
        name for name in world.image.files() if world.image.read(name) != world.again.read(name)]


def test_times_and_order(world):
    assert {int(m.mtime) for m in world.image.members} == {EPOCH}
    names = [m.name for m in world.image.members]
    assert len(set(names)) == len(names) and world.image.config["created"] == "2023-11-14T22:13:20Z"


def test_programs_do_not_tell_where_they_were_built(world):
    """So that another folder gives the same: no path of the source or of the build is in them."""
    for name in image_root.PROGRAMS:
        data = world.image.read(name)
        for path in {lab.TOP, os.path.realpath(lab.BUILD)}:
            assert path.encode() not in data, name
    for folder in ("agent", "coordinator", "lib", "bpf"):
        r = subprocess.run(["grep", "-rlE", "__(DATE|TIME|TIMESTAMP)__", os.path.join(lab.TOP, folder)], capture_output=True,
                           text=True, check=False)
        assert not r.stdout, r.stdout


def owner(name):
    """Package, version and MD5 that this machine's dpkg has of a file of the image."""
    for path in (f"/{name}", f"/{name.removeprefix('usr/')}"):
        r = subprocess.run(["dpkg-query", "-S", os.path.realpath(path), path], capture_output=True, text=True, check=False)
        if r.stdout:
            package = re.split(r"[:,]", r.stdout)[0]
            break
    else:
        raise AssertionError(f"{name} is of no package")
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}\n", package], capture_output=True, text=True, check=True).stdout
    return package, version.split("\n", maxsplit=1)[0], path


def test_each_program_and_library_is_in_the_list(world):
    """By what dpkg says of it, not by what the image says; and it is the package's own file, byte for byte."""
    packages, used = world.image.packages(), set()
    programs = world.image.programs()
    assert image_root.PROGRAMS < set(programs)
    for name in set(programs) - image_root.PROGRAMS:
        package, version, path = owner(name)
        assert packages.get(package) == version, f"{name} is of {package} {version}, the list has {packages.get(package)}"
        with open(path, "rb") as f:
            assert f.read() == world.image.read(name), name
        used.add(package)
    assert used == set(packages), f"listed, but nothing of it is there: {set(packages) - used}"


def test_all_else_is_ours(world):
    """What is no program: papers of packages, and a handful of small files."""
    rest = {name for name in world.image.files() if not re.match(r"usr/share/doc/|var/lib/dpkg/status\.d/", name)}
    assert rest - set(world.image.programs()) == {"etc/group", "etc/nsswitch.conf", "etc/os-release", "etc/passwd",
                                                  "usr/libexec/pgjolt/toolbox", "usr/share/sbom/pgjolt.spdx.json"}


def test_what_every_image_of_ours_is(world):
    for check in image_root.CHECKS:
        check(world.image)


if __name__ == "__main__":
    suite.main(globals(), World, needs={"dpkg": lab.has("dpkg-query"), "busybox (tools/deps image)": lab.has("busybox")})
