# SPDX-License-Identifier: MIT
"""A pytest plugin: writes what becomes of each test, as it becomes known, to the file
TDL_RECORD, a line of JSON each, so that a test that ends the process is known by its name.

    {"test": NAME}                          it begins
    {"test": NAME, "outcome": O, "text": T} pass, fail or skip, with what was said
    {"out": NAME}                           left out (a pattern of TDL_OUT, a JSON list)

TDL_DONE names a file with tests, a line each, that are not run again; TDL_ONLY one with
those that are the only ones to run. TDL_TEXTS is a JSON list: if it is not empty, only
tests that have one of its texts in their names run."""

import asyncio
import fnmatch
import json
import os
import sys

import pytest

PASS, SKIP, FAIL = range(3)
NAMES = ("pass", "skip", "fail")


def lines(variable):
    name = os.environ.get(variable)
    if not name:
        return None
    with open(name) as f:
        return set(f.read().split("\n")) - {""}


class Record:
    def __init__(self):
        self.file = open(os.environ["TDL_RECORD"], "a", buffering=1)
        self.outcome, self.text = PASS, ""

    def write(self, **fields):
        self.file.write(json.dumps(fields) + "\n")

    def pytest_collection_modifyitems(self, config, items):
        out, done, only = json.loads(os.environ.get("TDL_OUT", "[]")), lines("TDL_DONE") or (), lines("TDL_ONLY")
        texts, kept = json.loads(os.environ.get("TDL_TEXTS", "[]")), []
        for item in items:
            name = item.nodeid
            if texts and not any(text in name for text in texts):
                continue
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in out):
                self.write(out=name)
            elif name not in done and (only is None or name in only):
                kept.append(item)
        items[:] = kept

    def pytest_collectreport(self, report):
        if report.failed:
            self.write(test=report.nodeid or "collection")
            self.write(test=report.nodeid or "collection", outcome="fail", text=report.longreprtext[-6000:])

    def pytest_runtest_logstart(self, nodeid):
        self.outcome, self.text = PASS, ""
        self.write(test=nodeid)

    def pytest_runtest_logreport(self, report):
        expected = getattr(report, "wasxfail", None) is not None
        if report.failed:
            outcome = FAIL
        elif report.skipped:
            outcome = PASS if expected else SKIP
        else:
            outcome = PASS
        self.outcome = max(self.outcome, outcome)
        if report.failed:
            self.text += f"({report.when}) {report.longreprtext}\n"

    def pytest_runtest_logfinish(self, nodeid):
        self.write(test=nodeid, outcome=NAMES[self.outcome], text=self.text[-6000:])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus):
        self.write(finished=int(exitstatus))


def pytest_configure(config):
    if "TDL_RECORD" in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(), "tdl-record")
        # Programs that the tests start, pytest among them, keep no record of their own.
        del os.environ["TDL_RECORD"]
        loop = asyncio.new_event_loop()
        loop.close()
        if ("treadle" if isinstance(loop, getattr(sys.modules.get("treadle"), "Loop", ())) else "stock") != os.environ["TDL_LOOP"]:
            raise pytest.UsageError(f"asyncio makes {type(loop)}: sitecustomize.py of this directory was not loaded")
