"""Runs the functions test_* of a program one after another on one world, and tells each one's fate.

    if __name__ == "__main__":
        suite.main(globals(), World, needs={"PostgreSQL": bin_dir()})

world.remove() is called at the end, world.tidy(), if it has one, after each failure. Arguments choose
tests by name. exit: 0 all passed, 1 one failed, 2 no such test, 77 (skipped) without root or a need.
"""
import os
import sys
import traceback

# For whoever runs on it: tests/harness.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))


class Things:
    """A world of things that end in the reverse order, each by its remove()."""

    def __init__(self):
        self.things = []

    def keep(self, thing):
        self.things.append(thing)
        return thing

    def remove(self):
        """Each of them, whatever becomes of the others; the first failure is raised."""
        failures = []
        while self.things:
            try:
                self.things.pop().remove()
            except Exception as e:      # pylint: disable=broad-except  # raised below
                failures.append(e)
        if failures:
            raise failures[0]


def run_one(test, world):
    try:
        test(world)
        print(f"ok {test.__name__}", flush=True)
        return True
    except Exception:   # pylint: disable=broad-except  # told, and the others still run
        print(f"FAILED {test.__name__}\n{traceback.format_exc()}", flush=True)
    if hasattr(world, "tidy"):
        world.tidy()
    return False


def main(names, world_class, needs=None):
    missing = [need for need, there in (needs or {}).items() if not there]
    if os.geteuid() != 0:
        missing.insert(0, "root")
    if missing:
        print(f"{os.path.basename(names['__file__'])}: needs {', '.join(missing)}")
        sys.exit(77)
    tests = {name: value for name, value in names.items() if name.startswith("test_")}
    unknown = [name for name in sys.argv[1:] if name not in tests]
    if unknown:
        print(f"no test {', '.join(unknown)}; there are: {', '.join(tests)}")
        sys.exit(2)
    world = world_class()
    try:
        failed = [name for name, test in tests.items()
                  if (not sys.argv[1:] or name in sys.argv[1:]) and not run_one(test, world)]
        if failed and hasattr(world, "agent"):
            print(world.agent.tail(8000))
    finally:
        world.remove()
    sys.exit(1 if failed else 0)
