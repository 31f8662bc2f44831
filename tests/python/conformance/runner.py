# SPDX-License-Identifier: MIT
"""Runs a suite's unittest tests in the interpreter under test, each in a process of
its own: a test that hangs is killed and is a failure, and what one breaks
does not reach the next.

    python runner.py SUITE [--jobs N] [--limit SECONDS] [--every K] [--select FILE] [TEXT…]

SUITE is the name of a module beside this one with a function load(), which yields
the tests. Prints a line of JSON for each: its name, outcome and what it said. TEXT:
only the tests whose names have one of these in them; --select: only those that the
file lists; --every: each k-th.

The tests are loaded once and each is a fork of that process, which has neither
threads nor a loop.
"""

import argparse
import importlib
import json
import os
import selectors
import signal
import sys
import tempfile
import time
import traceback
import unittest


class Outcome(unittest.TestResult):
    """One test's: the worst of what its parts (subtests, fixtures) came to."""

    ORDER = ("pass", "skip", "fail")

    def __init__(self):
        super().__init__()
        self.outcome, self.text = "pass", ""

    def worst(self, outcome, text):
        if self.ORDER.index(outcome) >= self.ORDER.index(self.outcome):
            self.outcome = outcome
        self.text += text

    def addError(self, test, err):
        self.worst("fail", "".join(traceback.format_exception(*err)))

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.worst("fail", f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        self.worst("skip", reason)

    def addUnexpectedSuccess(self, test):
        self.worst("fail", "unexpected success")


def child(test, write, place):
    """Runs the test in this process, which ends with it, in a directory of its own:
    test.support names its files after the process that imported it."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        os.chdir(tempfile.mkdtemp(dir=place))
        quiet = tempfile.TemporaryFile()
        os.dup2(quiet.fileno(), 1)
        os.dup2(quiet.fileno(), 2)
        result = Outcome()
        unittest.TestSuite([test]).run(result)
        said = json.dumps([result.outcome, result.text[-6000:]]).encode()
        while said:
            said = said[os.write(write, said):]
        status = 0
    finally:
        os._exit(status)


class Running:
    def __init__(self, test, limit, place):
        self.name, self.begin, self.said = test.id(), time.monotonic(), b""
        self.end = self.begin + limit
        self.read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.read)
            child(test, write, place)
        os.close(write)

    def finish(self, hung):
        try:
            os.killpg(self.pid, signal.SIGKILL)  # and what it may have started
        except (ProcessLookupError, PermissionError):
            pass
        if hung:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.read)
        try:
            outcome, text = json.loads(self.said)
        except ValueError:
            outcome = "hang" if hung else "crash"
            text = "" if hung else f"wait status {status}"
        seconds = round(time.monotonic() - self.begin, 2)
        print(json.dumps({"name": self.name, "outcome": outcome, "seconds": seconds, "text": text}), flush=True)


def run(tests, jobs, limit, place):
    waiting, running = iter(tests), set()
    events = selectors.DefaultSelector()
    more = True
    while more or running:
        while more and len(running) < jobs:
            test = next(waiting, None)
            if test is None:
                more = False
                break
            one = Running(test, limit, place)
            running.add(one)
            events.register(one.read, selectors.EVENT_READ, one)
        for key, _ in events.select(0.5) if running else []:
            one = key.data
            chunk = os.read(one.read, 65536)
            one.said += chunk
            if not chunk:
                events.unregister(one.read)
                running.discard(one)
                one.finish(False)
        now = time.monotonic()
        for one in [r for r in running if now > r.end]:
            events.unregister(one.read)
            running.discard(one)
            one.finish(True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("suite")
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--select")
    options = parser.parse_intermixed_args()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    tests = list(importlib.import_module(options.suite).load())
    if options.texts:
        tests = [t for t in tests if any(text in t.id() for text in options.texts)]
    if options.select:
        with open(options.select) as f:
            chosen = set(f.read().split())
        tests = [t for t in tests if t.id() in chosen]
    with tempfile.TemporaryDirectory(prefix="conformance-") as place:
        run(tests[:: options.every], options.jobs, options.limit, place)


if __name__ == "__main__":
    main()
