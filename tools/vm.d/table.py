"""docs/kernels.md: each fault on each kernel of the row, from what check_kernel.py found there."""
import json
import os
import sys

from kernels import ROW, Unavailable

SYSTEMS = {"6.1": "Debian 12", "6.12": "Debian 13", "newest": "Debian 13 backports"}
INTRO = """# What works on which kernel

Stock Debian kernels, as they are packaged. On each of them `tools/test --vm` arms and fires every fault, sees its effect from outside,
kills the agent with SIGKILL while it is active, and looks that nothing is left (`tests/vm/check_kernel.py`). The cell is the
mechanism that `pgjolt-agent probe` names there; **no** means that none works, and the note says why.

`tools/vm table` writes this page from what the lane found last; the lane fails when its findings differ from the table.
`tools/vm run KERNEL -- COMMAND` runs anything else on one of them.
"""


def load(folder):
    found = {}
    for kernel in ROW:
        try:
            with open(os.path.join(folder, kernel, "result.json"), encoding="utf-8") as f:
                found[kernel] = json.load(f)
        except OSError as e:
            raise Unavailable(f"no result of kernel {kernel}: run tools/test --vm ({e.strerror})") from e
    return found


def rows(found):
    """The table's lines without its head, and the notes."""
    notes, lines = [], []
    for number, fault in enumerate(f["fault"] for f in next(iter(found.values()))["faults"]):
        cells = []
        for result in found.values():
            f = result["faults"][number]
            cell = f["mechanism"] if f["supported"] else "**no**"
            if f["reason"]:
                if f["reason"] not in notes:
                    notes.append(f["reason"])
                cell += f" ({notes.index(f['reason']) + 1})"
            cells.append(cell)
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    return lines, notes


def page(found):
    lines, notes = rows(found)
    names = [f"{SYSTEMS[k]}: {r['release']}" for k, r in found.items()]
    return "\n".join([INTRO, f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", *lines, "",
                      *(f"{i}. {note}" for i, note in enumerate(notes, 1)), ""])


def main(folder, path, check):
    found = load(folder)
    if not check:
        with open(path, "w", encoding="utf-8") as f:
            f.write(page(found))
        return 0
    with open(path, encoding="utf-8") as f:
        text = f.read().splitlines()
    wanted, notes = rows(found)
    wanted += [f"{i}. {note}" for i, note in enumerate(notes, 1)]
    stale = [line for line in wanted if line not in text]
    stale += [line for line in text
              if line.startswith("| ") and not line.startswith("| fault") and line not in wanted]
    for line in stale:
        print(f"docs/kernels.md: differs: {line}", file=sys.stderr)
    return 1 if stale else 0
