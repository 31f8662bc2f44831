# SPDX-License-Identifier: MIT
"""Runs the suites that say what an asyncio loop is, on treadle's, under each
interpreter, and prints a table.

  a       CPython's tests of event loops, those written for any loop: all must pass
  b       whole modules of CPython's test_asyncio, with treadle's loop as the default: a
          test that asyncio's own loop fails as well, run in the same way, is no failure
  uvloop  uvloop's own tests, under a package of that name
  rloop   rloop's own tests, likewise

What is expected to fail is listed, with its reason, in exceptions.txt. uvloop's and
rloop's tests come from their source distributions, which are fetched when needed.
"""

import argparse
import collections
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PEERS = ROOT / ".dev/peers"
VERSIONS = {"uvloop": "0.23.0", "rloop": "0.5.0"}
SUITES = {"a": "layer_a", "b": "layer_b", "uvloop": "uvloop_suite", "rloop": "rloop_suite"}
TITLES = {"a": "CPython, layer A", "b": "CPython, layer B", "uvloop": "uvloop's", "rloop": "rloop's"}
GOOD = ("pass", "skip")


def say(text):
    print(text, file=sys.stderr, flush=True)


# -- Interpreters -----------------------------------------------------------------


def identity(python):
    """(version, prefix) of an interpreter that has CPython's tests, else None."""
    ask = "import sys, test.test_asyncio; print('%d.%d.%d%s' % (*sys.version_info[:3], sys.abiflags), sys.base_prefix)"
    try:
        done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    except OSError:
        return None
    return tuple(done.stdout.split(maxsplit=1)) if done.returncode == 0 else None


def numbers(version):
    return tuple(map(int, re.findall(r"\d+", version)))


def interpreters(wanted):
    """One of each version from 3.11 that has CPython's tests, oldest first; or those wanted."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found = sorted(pyenv.glob("versions/3.*/bin/python"))
    found += ["/usr/bin/python3", *(shutil.which(f"python3.{minor}") or "" for minor in range(11, 17))]
    chosen = {}
    for python in [p if os.sep in p else shutil.which(p) or p for p in wanted] or found:
        known = identity(str(python))
        if known is None:
            if wanted:
                raise SystemExit(f"{python}: no interpreter with test.test_asyncio")
            continue
        version = known[0] if wanted else (numbers(known[0])[:2], known[0].endswith("t"))
        if numbers(known[0]) >= (3, 11):
            chosen.setdefault(version, (known[0], str(python)))
    order = sorted(chosen.values(), key=lambda v: numbers(v[0]))
    if not order:
        raise SystemExit("no interpreter from 3.11 on has test.test_asyncio (Debian: libpython3.11-testsuite)")
    return order


def environment(python):
    done = subprocess.run([ROOT / "tests/python/environment"], env={**os.environ, "PYTHON": python},
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"no environment for {python}")
    return str(ROOT / done.stdout.strip() / "bin/python")


# -- Suites of others ---------------------------------------------------------------


def source(name, python):
    """A peer's unpacked source distribution."""
    place = PEERS / f"{name}-{VERSIONS[name]}"
    if not place.exists():
        say(f"fetching the source distribution of {name} {VERSIONS[name]}")
        PEERS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PEERS) as fresh:
            run = subprocess.run([python, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", fresh,
                                  f"{name}=={VERSIONS[name]}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            archives = list(pathlib.Path(fresh).glob("*.tar.gz"))
            if not archives:
                raise SystemExit(f"{name} cannot be had:\n{run.stdout}")
            with tarfile.open(archives[0]) as archive:
                archive.extractall(fresh, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            (pathlib.Path(fresh) / place.name).rename(place)
    return place


def prepare(suite, python):
    """What the suite needs in its environment."""
    if suite not in VERSIONS:
        return {}
    if suite == "uvloop":
        needs = [line for line in (HERE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
        ask = "import aiohttp, psutil, OpenSSL"
        if subprocess.run([python, "-c", ask], stderr=subprocess.DEVNULL).returncode != 0:
            say(f"installing {' '.join(needs)}")
            subprocess.run([python, "-m", "pip", "install", "-q", *needs], check=True)
    return {f"{suite.upper()}_SOURCE": str(source(suite, python))}


# -- Running ------------------------------------------------------------------------


@dataclasses.dataclass
class Listed:
    where: str
    pattern: str
    reason: str
    failed: int = 0
    passed: int = 0
    own: set = dataclasses.field(default_factory=set)  # those that asyncio's own loop passes

    def __post_init__(self):
        self.suite, self.order, self.bound = re.fullmatch(r"([a-z]+)(?:(<|>=)(3\.\d+))?", self.where).groups()

    def covers(self, suite, version, name):
        if suite != self.suite or not fnmatch.fnmatch(name, self.pattern):
            return False
        return self.order is None or (numbers(version)[:2] < numbers(self.bound)) == (self.order == "<")


def exceptions():
    lines = (HERE / "exceptions.txt").read_text().splitlines()
    return [Listed(*line.split(maxsplit=2)) for line in lines if line and not line.startswith("#")]


def run(python, suite, options, extra, names=()):
    """The results of a suite's tests, or of those named, a dictionary each."""
    jobs = 1 if names else options.jobs
    command = [python, HERE / "runner.py", SUITES[suite], "--jobs", str(jobs), "--limit", str(options.limit)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as chosen:
        if names:
            chosen.write("\n".join(names))
            chosen.flush()
            command += ["--select", chosen.name]
        else:
            command += ["--every", str(options.every), *options.texts]
        done = subprocess.run(command, env={**os.environ, **extra}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{suite}: the runner failed\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]


# What becomes of a test, as the table has it.
COLUMNS = ("tests", "passed", "failed", "hung", "crashed", "listed", "as stock", "skipped")


class Result:
    def __init__(self):
        self.counts, self.bad = collections.Counter(), []

    def count(self, what):
        self.counts[what] += 1
        self.counts["tests"] += 1

    def add_bad(self, one):
        self.bad.append(one)
        self.count({"hang": "hung", "crash": "crashed"}.get(one["outcome"], "failed"))

    def cells(self):
        return [str(self.counts[column]) for column in COLUMNS]


def judge(python, version, suite, options, listed):
    extra = prepare(suite, python)
    result, failed, excused = Result(), [], {}
    for one in run(python, suite, options, extra):
        known = next((l for l in listed if l.covers(suite, version, one["name"])), None)
        if one["outcome"] == "pass":
            result.count("passed")
            if known:
                known.passed += 1
        elif one["outcome"] == "skip":
            result.count("skipped")
        elif known:
            known.failed += 1
            excused[one["name"]] = known
            result.count("listed")
            if options.verbose:
                say(f"listed: {one['name']}: {one['outcome']}: {(one['text'].splitlines() or [''])[-1]}")
        else:
            failed.append(one)
    if failed and suite == "uvloop":  # many of its tests take the first free port from 50000 on: those run alone
        alone = run(python, suite, options, extra, [one["name"] for one in failed])
        failed = []
        for one in alone:
            if one["outcome"] in GOOD:
                result.count("passed" if one["outcome"] == "pass" else "skipped")
            else:
                failed.append(one)
    # The same tests on asyncio's own loop. That it fails them too excuses layer B only;
    # for others it is said, so that the reason can be found and listed.
    stock = set()
    if (failed or excused) and suite != "a":
        names = [*(one["name"] for one in failed), *excused]
        for one in run(python, suite, options, {**extra, "TDL_LOOP": "stock"}, names):
            if one["outcome"] not in GOOD:
                stock.add(one["name"])
            elif one["name"] in excused:
                excused[one["name"]].own.add(one["name"])
    for one in failed:
        if one["name"] in stock and suite == "b":
            result.count("as stock")
            if options.verbose:
                say(f"as stock: {one['name']}")
        else:
            one["stock"] = ", as on asyncio's own loop" if one["name"] in stock else ""
            result.add_bad(one)
    return result


def print_table(table):
    rows = [("Python", "suite", *COLUMNS)]
    rows += [(version, TITLES[suite], *result.cells()) for (version, suite), result in table.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row, before in zip(rows, [None, *rows]):
        cells = [row[0] if before is None or row[0] != before[0] else "", *row[1:]]
        print("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))))


def main():
    parser = argparse.ArgumentParser(prog="./dev conformance", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="only tests whose names have one of these in them")
    parser.add_argument("--python", action="append", default=[], metavar="PYTHON",
                        help="an interpreter that has CPython's tests (default: one of each version found)")
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tests at a time")
    parser.add_argument("--limit", type=float, default=30, help="seconds for one test")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th test")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_intermixed_args()
    options.python = [shutil.which(f"python{p}") or p if re.fullmatch(r"3\.\d+", p) else p for p in options.python]
    listed, table = exceptions(), {}
    suites = options.suite or list(SUITES)
    for version, interpreter in interpreters(options.python):
        python = environment(interpreter)
        for suite in suites:
            say(f"{version}: {TITLES[suite]}")
            result = table[version, suite] = judge(python, version, suite, options, listed)
            for one in result.bad:
                say(f"\n-- {version} {one['name']}: {one['outcome']} after {one['seconds']} s{one['stock']}\n{one['text']}")
    print_table(table)
    for one in listed:
        if one.passed and not one.failed:
            print(f"listed, and passes: {one.where} {one.pattern}")
    for one in listed:
        for name in sorted(one.own):
            print(f"listed, and asyncio's own loop passes it: {one.suite} {name}: {one.reason}")
    passed = sum(result.counts["passed"] for result in table.values())
    bad = sum(len(result.bad) for result in table.values())
    print(f"\n{passed} passed, {bad} failed")
    raise SystemExit(1 if bad or not passed else 0)


if __name__ == "__main__":
    main()
