#!/usr/bin/python3
"""Prints "passed failed skipped" of a JUnit file that ctest has written."""
import sys
import xml.etree.ElementTree

passed = failed = skipped = 0
for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    skip = case.find("skipped")
    if case.get("status") == "run":
        passed += 1
    elif skip is not None and "SKIP_" in (skip.get("message") or ""):
        skipped += 1
    elif case.get("status") == "disabled":
        skipped += 1
    else:  # failed, or could not be run at all
        failed += 1
print(passed, failed, skipped)
