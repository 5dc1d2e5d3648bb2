"""Reading a clock that clock-skew made wrong, beside libfaketime on the same readings."""
import glob
import json
import os
import subprocess

from benchlib import Table, tool

KINDS = {
    "native": "as the kernel gave it",
    "offset": "clock-skew: an offset",
    "drift": "clock-skew: offset and drift",
    "strobe": "clock-skew: strobe",
    "ended": "clock-skew: past its end, not yet reverted",
    "stub": "clock-skew: mechanism stub",
}


def faketime():
    """Its library: installed, or where $LIBFAKETIME says; None where this machine lacks it."""
    found = [os.environ.get("LIBFAKETIME", ""),
             *sorted(glob.glob("/usr/lib/*/faketime/libfaketime.so.1"))]
    return next((path for path in found if path and os.path.exists(path)), None)


def measure(rounds, *arguments, **environment):
    done = subprocess.run([tool("clock_read"), str(rounds), *arguments], stdout=subprocess.PIPE,
                          check=True, env={**os.environ, **environment})
    return json.loads(done.stdout)


def clock(short):
    rounds = 5 if short else 41
    ours = measure(rounds)
    calls = list(ours["native"])
    table = Table("Reading a clock: ns a reading, the median of the rounds (the least)",
                  ["", *calls, "goal"])
    library = faketime()
    if library:
        theirs = measure(rounds, "native", LD_PRELOAD=library, FAKETIME="+1h")["native"]

    def row(name, figures, goal=""):
        ratio = figures[calls[0]]["least"] / ours["native"][calls[0]]["least"]
        table.row(name, *(f"{figures[c]['median']:.1f} ({figures[c]['least']:.1f})" for c in calls),
                  f"{ratio:.2f} of native{goal}")
    for kind, name in KINDS.items():
        row(name, ours[kind], ", goal < 1.1" if kind == "offset" else "")
    if library:
        row("libfaketime, +1h", theirs)
    else:
        table.note("libfaketime is not on this machine (Debian: libfaketime).")
    table.note(f"{rounds} rounds, the kinds taking turns within each; the ratio is of the least, of {calls[0]}.")
    yield table
