"""The vDSO of a process as bytes, read from outside: is it still what the kernel gave it?"""


def vdso(pid="self"):
    """None where the process is gone or maps none."""
    try:
        with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps:
            lines = [line for line in maps if line.rstrip().endswith("[vdso]")]
        if not lines:
            return None
        start, end = (int(x, 16) for x in lines[0].split()[0].split("-"))
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            return memory.read(end - start)
    except (OSError, ValueError):
        return None


def is_pristine(pid):
    """Nothing ever patches the test's own."""
    theirs = vdso(pid)
    return theirs is None or theirs == vdso()
