#!/usr/bin/python3
"""pgjolt report, on folders such as runs leave: every format read back by a parser of that format, the list, and files that are
no reports."""
# labels: quick
import html.parser
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from harness.agent import BUILD  # noqa: E402

PGJOLT = os.path.abspath(os.path.join(BUILD, "coordinator", "pgjolt"))
FORMATS = ("text", "html", "json", "junit", "md")
HOSTILE = "<script>alert(1)</script> \x1b[31m\x9b31m | & \"'"


def document(run, **more):
    """As coordinator/report/json.c writes it."""
    milestones = {"t0": 0, "t1": 102.5, "t2": 240, "t3": 1800, "t4": 2100, "t5": 3602, "t6": None, "t7": 7000, "t8": 9000}
    return {
        "version": 1, "run": run, "drill": "kill-primary", "summary": "s", "expected_behaviour": "e", "cluster": "shop/orders",
        "manager": "patroni", "synchronous": True, "started": "2026-01-02T03:04:05.678Z", "duration_ms": 61500, "verdict": "failed",
        "reasons": ["writeTtr: 3.60 s"], "t0_ms": 1000, "milestones_ms": milestones, "ttd_ms": 240, "write_ttr_ms": 3602,
        "read_ttr_ms": None, "full_ttr_ms": 9000, "write_downtime_ms": 3500, "read_downtime_ms": 0, "resolution_ms": 10,
        "writes_failed": True, "reads_failed": False, "write_outages": [{"from_ms": 1102, "to_ms": 4602, "open": False}],
        "read_outages": [], "redundancy": "lost",
        "ledger": {"checked": True, "error": None, "attempted": 700, "ok": 690, "failed": 7, "unknown": 3, "lost": 2,
                   "recovered": 1, "unexpected": 0},
        "lost_keys": [{"client": "w1", "sequence": 41}], "split_brain": {"grade": "none", "dual_writable_ms": 0},
        "faults": [{"fault": "proc-kill", "instance": "shop/orders-0", "experiment": "x", "params": {"signal": "KILL"},
                    "armed_ms": 950, "fired_ms": 1000, "fire_us": 9, "reverted_ms": 1001, "verified_clean": True, "hits": 1,
                    "mechanism": "pidfd", "lifetime": "oneshot", "error": None}],
        "expectations": [{"name": "writeTtr", "expected": "at most 1s", "actual": "3.60 s", "passed": False},
                         {"name": "lost", "expected": "at most 5", "actual": "2", "passed": True}],
        "events": [{"at_ms": 1000, "kind": "fired", "text": "proc-kill fired"}], "instances": [], "clients": [], "settings": {},
        "states": [], "series": {}, **more}


class Page(html.parser.HTMLParser):
    """What a browser would run, load or show."""
    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]

    def handle_data(self, data):
        self.text += data


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pj-report-")
        self.addCleanup(shutil.rmtree, self.folder)

    def pgjolt(self, *words, code=0, **more):
        """stdout and stderr."""
        r = subprocess.run([PGJOLT, "report", *words], capture_output=True, timeout=60, check=False, cwd=self.folder, **more)
        out, err = r.stdout.decode("utf-8", "surrogateescape"), r.stderr.decode("utf-8", "surrogateescape")
        self.assertEqual(r.returncode, code, f"{words}\n{out}{err}")
        return out, err

    def leave(self, run, content, runs="pgjolt-runs"):
        """content: a report, or a file's bytes."""
        path = os.path.join(self.folder, runs, run)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "report.json"), "wb") as f:
            f.write(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def shown(self, run, kind, **more):
        return self.pgjolt(run, "--format", kind, **more)[0]

    def test_text(self):
        self.leave("run-1", document("run-1"))
        text, err = self.pgjolt("run-1")
        self.assertEqual((text, err), (self.shown("run-1", "text"), ""))
        for words in ("FAILED  kill-primary on shop/orders (patroni, synchronous)  run-1", "  - writeTtr: 3.60 s",
                      "T5  writes worked again", "700 attempted, 690 ok, 7 failed, 3 unknown, 2 lost, 1 recovered, 0 unexpected",
                      "proc-kill on shop/orders-0: at T0, in 9.0 us, for 1.00 ms, 1 hit, verified clean (pidfd, oneshot)",
                      "FAILED  writeTtr: 3.60 s (expected at most 1s)", "ok      lost: 2"):
            self.assertIn(words, text)
        self.assertNotIn("\x1b", text)

    def test_text_of_what_went_wrong(self):
        fault = document("x")["faults"][0]
        never = {**fault, "fired_ms": None, "error": "no such process"}
        left = {**fault, "fired_ms": 2000, "reverted_ms": None, "verified_clean": False, "hits": 3}
        self.leave("run-1", document("run-1", verdict="stuck", faults=[never, left], manager=None, synchronous=False,
                                     ledger={"checked": False, "error": "no connection", "attempted": 7}))
        text = self.shown("run-1", "text")
        for words in ("STUCK", "(unknown manager, asynchronous)", "shop/orders-0: not fired", "no such process",
                      "at 1.00 s, in 9.0 us, with no end seen, 3 hits, NOT verified clean", "the ledger was not checked: no connection"):
            self.assertIn(words, text)

    def test_colour_on_a_terminal_alone(self):
        self.leave("run-1", document("run-1", drill=HOSTILE))
        for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            ours, theirs = pty.openpty()
            try:
                subprocess.run([PGJOLT, "report", "run-1"], stdout=theirs, check=True, timeout=60, cwd=self.folder,
                               env={"PATH": os.environ["PATH"], **environment})
                text = os.read(ours, 65536).decode()
            finally:
                os.close(ours)
                os.close(theirs)
            self.assertEqual("\x1b[1;31mFAILED\x1b[0m" in text, coloured)
            self.assertNotIn("\x1b[31m", text)
            self.assertNotIn("\x9b", text)

    def test_json(self):
        report = document("run-1", drill=HOSTILE)
        self.leave("run-1", report)
        self.assertEqual(json.loads(self.shown("run-1", "json")), report)

    def test_junit(self):
        self.leave("run-1", document("run-1", cluster=HOSTILE))
        suites = xml.fromstring(self.shown("run-1", "junit"))
        (suite,) = suites
        for o in (suites, suite):
            self.assertEqual([o.get(k) for k in ("tests", "failures", "errors")], ["3", "2", "0"])
        self.assertEqual((suite.get("name"), suite.get("time"), suite.get("timestamp")),
                         ("kill-primary", "61.500", "2026-01-02T03:04:05.678Z"))
        cases = suite.findall("testcase")
        self.assertEqual([c.get("name") for c in cases], ["verdict", "writeTtr: at most 1s", "lost: at most 5"])
        self.assertEqual([c.find("failure") is not None for c in cases], [True, True, False])
        self.assertEqual(cases[1].find("failure").get("message"), "3.60 s (expected at most 1s)")
        self.assertIn("<script>", suite.find("properties/property[@name='cluster']").get("value"))
        for verdict, errors in (("aborted", "1"), ("stuck", "1"), ("passed", "0")):
            self.leave("run-1", document("run-1", verdict=verdict, expectations=[]))
            suites = xml.fromstring(self.shown("run-1", "junit"))
            self.assertEqual([suites.get(k) for k in ("tests", "failures", "errors")], ["1", "0", errors])
            self.assertEqual(suites.find(".//error") is not None, errors == "1")

    def test_html(self):
        self.leave("run-1", document("run-1"))
        plain = Page(self.shown("run-1", "html"))
        self.leave("run-1", document("run-1", drill=HOSTILE, reasons=[HOSTILE], cluster=HOSTILE))
        hostile = Page(self.shown("run-1", "html"))
        self.assertEqual(hostile.tags.count("script"), plain.tags.count("script"))
        self.assertIn("<script>alert(1)</script>", hostile.text)
        self.assertEqual(plain.loads + hostile.loads, [], "it stands by itself")
        for words in ("shop/orders", "writes worked again", "3.60 s"):
            self.assertIn(words, plain.text)

    def test_markdown(self):
        self.leave("run-1", document("run-1"))
        text = self.shown("run-1", "md")
        tables = [line for line in text.splitlines() if line.startswith("|")]
        for words in ("### \u274c kill-primary: failed", "- writeTtr: 3.60 s"):
            self.assertIn(words, text)
        for row in ("| writes back after | 3.60 s | 10.0 ms |", "| writeTtr | at most 1s | 3.60 s | **failed** |",
                    "| T6 | reads worked again | not seen |"):
            self.assertIn(row, tables)
        self.assertIn("690 ok, 3 unknown, **2 lost**, 1 recovered, 0 unexpected. Split brain: none.", text)
        # A name cannot make a column, a tag or a line of its own.
        self.leave("run-1", document("run-1", drill=HOSTILE + "\n# x", expectations=[
            {"name": HOSTILE + "\n", "expected": "a|b", "actual": "c", "passed": True}]))
        text = self.shown("run-1", "md")
        self.assertNotIn("<script>", text)
        self.assertNotIn("\n# x", text)
        (row,) = [line for line in text.splitlines() if "alert" in line and line.startswith("|")]
        self.assertEqual(row.replace("\\|", "").count("|"), 5, row)

    def test_before_the_fault(self):
        """A run that was refused has no figures, and says why."""
        self.leave("run-1", document("run-1", verdict="refused", reasons=["too few replicas"], t0_ms=None, faults=[], expectations=[]))
        for kind in ("text", "md"):
            text = self.shown("run-1", kind)
            self.assertIn("too few replicas", text)
            self.assertNotIn("writes back", text)
        self.assertIn("too few replicas", Page(self.shown("run-1", "html")).text)
        self.assertEqual(xml.fromstring(self.shown("run-1", "junit")).get("errors"), "1")

    def test_where_a_run_is(self):
        path = self.leave("run-1", document("run-1"))
        elsewhere = self.leave("run-2", document("run-2"), runs="drills of may")
        for words in (("run-1",), (path,), (path + "/",), ("pgjolt-runs/run-1",), ("run-2", "--runs", "drills of may"), (elsewhere,)):
            self.assertIn("kill-primary", self.pgjolt(*words)[0])
        # A name is a run of the folder of runs first, then a folder here.
        self.leave("run-1", document("run-1", drill="other"), runs=".")
        self.assertIn("kill-primary", self.pgjolt("run-1")[0])
        self.leave("run-3", document("run-3", drill="here"), runs=".")
        self.assertIn("here", self.pgjolt("run-3")[0])
        _, err = self.pgjolt("run-9", code=2)
        self.assertIn("no report of run run-9: neither pgjolt-runs/run-9/report.json nor run-9/report.json is there", err)
        self.assertNotIn("events.jsonl", err)
        killed = os.path.join(self.folder, "pgjolt-runs", "run-9")
        os.mkdir(killed)
        with open(os.path.join(killed, "events.jsonl"), "wb"):
            pass
        for run in ("run-9", killed):
            self.assertIn("ended before it could write one, events.jsonl", self.pgjolt(run, code=2)[1])

    def test_damaged_reports(self):
        bad = {"cut": json.dumps(document("cut")).encode()[:400], "empty": b"", "array": b"[]", "number": b"7",
               "nul": b"{\"run\": \"a\x00b\"}", "binary": bytes(range(256)), "deep": b"[" * 100000,
               "twice": b"{} {}", "utf": b"{\"run\": \"\xff\"}"}
        for name, content in bad.items():
            self.leave(name, content)
            for kind in FORMATS:
                out, err = self.pgjolt(name, "--format", kind, code=2)
                self.assertEqual(out, "")
                self.assertIn(f"pgjolt-runs/{name}/report.json: ", err)
        # The list has the others, and says which it leaves out.
        self.leave("good", document("good"))
        os.makedirs(os.path.join(self.folder, "pgjolt-runs", "under-way"))
        out, err = self.pgjolt()
        self.assertEqual(len(out.splitlines()), 2, out)
        for name in bad:
            self.assertIn(f"left out: pgjolt-runs/{name}/report.json: ", err)
        self.assertEqual(len(err.splitlines()), len(bad), err)
        # What has other types than ours is not believed, and no format minds.
        odd = {key: {"a": 1} if not isinstance(value, dict) else [1] for key, value in document("x").items()}
        for content in (odd, {}, {key: [None, 7, "x", {}] for key in odd}):
            self.leave("odd", content)
            for kind in FORMATS:
                self.assertTrue(self.shown("odd", kind))
        os.remove(os.path.join(self.folder, "pgjolt-runs", "odd", "report.json"))
        os.mkfifo(os.path.join(self.folder, "pgjolt-runs", "odd", "report.json"))
        self.assertIn("regular", self.pgjolt("odd", code=2)[1])

    def test_list(self):
        self.assertEqual(self.pgjolt(), ("No run has left a report in pgjolt-runs.\n", ""))
        self.assertEqual(json.loads(self.pgjolt("--format", "json")[0]), [])
        self.leave("b", document("b", started="2026-01-02T00:00:00.000Z"))
        self.leave("a", document("a", started="2026-01-03T00:00:00.000Z", write_ttr_ms=None, ledger={}, verdict="passed"))
        self.leave("c", document("c", started="2026-01-01T00:00:00.000Z", drill="x\x1b[2J\x9b\x7fy\u00e9", cluster=None))
        lines = self.pgjolt()[0].splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["RUN", "c", "b", "a"])
        self.assertEqual(lines[3].split()[1:], ["2026-01-03T00:00:00.000Z", "kill-primary", "shop/orders", "passed", "-", "-"])
        self.assertEqual(lines[2].split()[4:], ["failed", "3.60", "s", "2"])
        self.assertIn("x?[2J", lines[1])
        self.assertIn("y\u00e9", lines[1])
        self.assertFalse(set("\x1b\x9b\x7f") & set("".join(lines)))
        listed = json.loads(self.pgjolt("--format", "json")[0])
        self.assertEqual([(o["run"], o["verdict"], o["write_ttr_ms"], o["lost"]) for o in listed],
                         [("c", "failed", 3602, 2), ("b", "failed", 3602, 2), ("a", "passed", None, None)])
        self.assertEqual(len(self.pgjolt("--runs", "none")[0].splitlines()), 1)
        with open(os.path.join(self.folder, "file"), "w", encoding="ascii"):
            pass
        self.assertIn("file: Not a directory", self.pgjolt("--runs", "file", code=4)[1])

    def test_wrong_usage(self):
        for words, said in ((("--format", "pdf"), "--format pdf: text, html, json, junit or md"),
                            (("a", "b"), "one run at a time, given were 2"), (("--format", "html"), "--format html is of one run"),
                            (("--colour",), "unknown option --colour"), (("--runs",), "--runs needs a value")):
            self.assertIn(said, self.pgjolt(*words, code=2)[1])
        self.assertIn("Usage: pgjolt report", self.pgjolt("--help")[0])

    def test_full_disk(self):
        """Nobody takes half a report for a whole one."""
        self.leave("run-1", document("run-1"))
        for kind in FORMATS:
            with open("/dev/full", "wb") as full:
                r = subprocess.run([PGJOLT, "report", "run-1", "--format", kind], stdout=full, stderr=subprocess.PIPE, timeout=60,
                                   check=False, cwd=self.folder)
            self.assertEqual(r.returncode, 4, kind)
            self.assertIn(b"could not be written", r.stderr)


if __name__ == "__main__":
    if not os.path.exists(PGJOLT):
        print(f"{PGJOLT} is not there")
        sys.exit(77)
    unittest.main(verbosity=2)
