"""image/Dockerfile, built by tools/image with buildah from a base that this machine makes: it builds, and what comes of it is
what test_image.py wants of an image. Takes minutes and a package archive, so it is asked for: PGJOLT_DOCKERFILE=1."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import image_root   # noqa: E402
import lab          # noqa: E402
import suite        # noqa: E402


class World:
    def __init__(self):
        os.makedirs(os.path.join(lab.TOP, "build", "kube"), exist_ok=True)
        self.output = os.path.join(lab.TOP, "build", "kube", "dockerfile.tar")
        self.image = image_root.build(self.output, timeout=1300)

    def remove(self):
        self.image.remove()
        os.unlink(self.output)


def test_what_every_image_of_ours_is(world):
    for check in image_root.CHECKS:
        check(world.image)


def test_list_and_files_agree(world):
    """Each package has something there, and each library's package is named by its papers."""
    papers = set(os.listdir(world.image.path("usr/share/doc"))) - {"pgjolt"}
    assert papers == set(world.image.packages())
    programs = world.image.programs()
    assert image_root.PROGRAMS < set(programs) and len(programs) >= len(papers)


if __name__ == "__main__":
    if not os.environ.get("PGJOLT_DOCKERFILE"):
        print("SKIPPED: PGJOLT_DOCKERFILE=1 asks for it (some minutes)")
        sys.exit(77)
    suite.main(globals(), World, needs={"Debian's apt": lab.has("apt-get")})
