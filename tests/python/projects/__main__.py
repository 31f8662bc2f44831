# SPDX-License-Identifier: MIT
"""Runs the tests of projects for asyncio, the projects' own and unchanged, on asyncio's loop
and on treadle's, and prints a table: how many pass on each, and which pass on asyncio's only.

The projects are in projects.toml. Their source distributions, which carry the tests, are
fetched when needed; each project has an environment of its own in .dev/projects. The tests
run where there is no network but loopback. A test that passes on one of the loops only runs
again, on both, alone with those like it, before it is judged."""

import argparse
import dataclasses
import fnmatch
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PLACE = ROOT / ".dev/projects"
SHIMS = HERE.parent / "conformance/shims"
TOOLS = ["pytest", "pytest-timeout", "wheel"]
LOOPS = ("stock", "treadle")
USER = "nobody"  # who runs the tests where we are root: PostgreSQL, and tests of permissions, want nobody special
FORKED = "treadle cannot be used in the child of a fork"  # a warning; there the loop is asyncio's own
REFUSED = 77  # loopback.py's status


def say(text):
    print(text, file=sys.stderr, flush=True)


class CannotRun(Exception):
    """What a project needs is not to be had."""


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise CannotRun(f"failed: {' '.join(map(str, command))}\n{done.stdout[-4000:]}")
    return done.stdout


# -- What is tested -----------------------------------------------------------------


@dataclasses.dataclass
class Project:
    name: str
    version: str
    requires: list[str]
    tests: list[str]
    install: str = ""
    remove: str | None = None
    beside: str = ""
    port: int = 0
    debian: list[str] = dataclasses.field(default_factory=list)
    out: dict[str, str] = dataclasses.field(default_factory=dict)
    differs: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def place(self):
        return PLACE / f"{self.name}-{self.version}"

    def unpack(self, python, fresh):
        if self.debian:
            run("bash", "-ec", '. tools/say.sh; . tools/packages.sh; . tools/sources.sh; source_ready "$@"', "-", *self.debian, cwd=ROOT)
            return pathlib.Path(shutil.copytree(ROOT / ".dev/sources" / self.debian[0], fresh / "tree", symlinks=True))
        run(python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", self.name, "-d", fresh, f"{self.name}=={self.version}")
        with tarfile.open(next(fresh.glob("*.tar.gz"))) as archive:
            archive.extractall(fresh, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        return next(p for p in fresh.iterdir() if p.is_dir())

    def fetch(self, python):
        """The source tree, without the package in it."""
        source = self.place / "source"
        if source.exists():
            return source
        say(f"{self.name}: fetching the source distribution of {self.version}")
        self.place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.place) as fresh:
            tree = self.unpack(python, pathlib.Path(fresh))
            remove = self.name if self.remove is None else self.remove
            if remove:
                shutil.rmtree(tree / remove)
            tree.rename(source)
        return source

    def environment(self, python, wheel):
        """An interpreter with the project, what its tests need, and treadle."""
        tag = run(python, "-c", "import sys; print('py%d.%d.%d%s' % (*sys.version_info[:3], sys.abiflags))").strip()
        venv = self.place / tag
        wanted = [f"{self.install or self.name}=={self.version}", *TOOLS, *self.requires]
        mark = venv / "installed.json"
        if not mark.exists() or json.loads(mark.read_text()) != wanted:
            say(f"{self.name}: installing it and what its tests need for {tag}")
            run(python, "-m", "venv", "--clear", venv)
            run(venv / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted)
            mark.write_text(json.dumps(wanted))
        run(venv / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--force-reinstall", wheel)
        return venv / "bin/python"


def projects(names):
    listed = tomllib.loads((HERE / "projects.toml").read_text())
    unknown = set(names) - set(listed)
    if unknown:
        raise SystemExit(f"not among the projects: {' '.join(sorted(unknown))} (those are: {' '.join(listed)})")
    return [Project(name, **listed[name]) for name in names or listed]


def build(python):
    """A wheel of this checkout, built by the interpreter it is for."""
    venv = run(ROOT / "tests/python/environment", env={**os.environ, "PYTHON": python, "TDL_REAL": "no"}).strip().splitlines()[-1]
    place = PLACE / "wheels" / pathlib.Path(venv).name
    shutil.rmtree(place, ignore_errors=True)
    run(ROOT / venv / "bin/python", "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-build-isolation", "--no-deps",
        "-w", place, ROOT)
    return next(place.glob("*.whl"))


# -- Running ------------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """What became of a project's tests on one loop."""

    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    out: set[str] = dataclasses.field(default_factory=set)
    seconds: float = 0

    def count(self, outcome):
        return sum(o == outcome for o in self.outcomes.values())


class Suite:
    def __init__(self, project, python, options):
        self.project, self.python, self.options = project, python, options
        self.source = project.fetch(python)
        self.user = USER if os.getuid() == 0 and self.open_to(USER) else "-"

    def open_to(self, user):
        """May that user run the interpreter? One below root's home is root's alone."""
        try:
            return subprocess.run([self.python, "-c", ""], user=user, cwd="/").returncode == 0
        except PermissionError:
            say(f"{self.project.name}: {user} may not run {self.python}: its tests run as root")
            return False

    def command(self):
        words = [self.python, "-B", "-X", "faulthandler", "-m", "pytest", "-p", "tdl_record", "-p", "no:cacheprovider", "-q",
                 "-W", f"ignore:{FORKED}:RuntimeWarning", "--continue-on-collection-errors", f"--timeout={self.options.limit}", *self.project.tests]
        return [str(word) for word in words]

    def once(self, loop, done, only):
        """One run of pytest: what it recorded, and the end of what it printed."""
        with tempfile.TemporaryDirectory(prefix="projects-") as place:
            directory = pathlib.Path(place)
            record, printed = directory / "record", directory / "printed"
            (directory / "done").write_text("\n".join(done))
            record.touch()
            (directory / "tmp").mkdir()
            shutil.copytree(self.source, directory / "source", symlinks=True)  # some write beside their tests
            env = {
                **os.environ, "TDL_LOOP": loop, "TDL_RECORD": str(record), "TDL_OUT": json.dumps(list(self.project.out)),
                "TDL_TEXTS": json.dumps(self.options.test), "TDL_DONE": str(directory / "done"),
                "PYTHONPATH": f"{HERE / 'plugin'}:{SHIMS}", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
                "TMPDIR": str(directory / "tmp"), "HOME": place,
                "PATH": ":".join([str(pathlib.Path(self.python).parent), *pg_programs(), os.environ["PATH"]]),
            }
            if only is not None:
                (directory / "only").write_text("\n".join(only))
                env["TDL_ONLY"] = str(directory / "only")
            if self.user != "-":
                user = pwd.getpwnam(self.user)
                for path in (directory, *directory.rglob("*")):
                    os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
            command = [sys.executable, str(HERE / "plugin/loopback.py"), self.user, str(self.project.port), self.project.beside,
                       *self.command()]
            with open(printed, "wb") as output:
                process = subprocess.Popen(command, cwd=directory / "source", env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                           start_new_session=True)
                try:
                    process.wait(self.options.suite_limit)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGABRT)  # faulthandler says where it is
                    process.wait()
                finally:
                    try:
                        os.killpg(process.pid, signal.SIGKILL)  # what the tests left behind
                    except ProcessLookupError:
                        pass
            if process.returncode == REFUSED:
                raise CannotRun(printed.read_text())
            text = printed.read_text(errors="replace")
            if self.options.verbose:
                say(text)
            return [json.loads(line) for line in record.read_text().splitlines()], text, process.returncode

    def on(self, loop, only=None):
        """All tests, or those named, on a loop. One that ends the process has failed; the others go on in a new one."""
        result, started = Run(), time.monotonic()
        for _ in range(8):
            lines, text, status = self.once(loop, result.outcomes, only)
            begun, finished = None, False
            for line in lines:
                if "out" in line:
                    result.out.add(line["out"])
                elif "finished" in line:
                    finished = True
                elif "outcome" in line:
                    begun = None
                    result.outcomes[line["test"]], result.texts[line["test"]] = line["outcome"], line["text"]
                else:
                    begun = line["test"]
            if finished and begun is None:
                break
            if begun is None and not result.outcomes:
                raise CannotRun(f"{self.project.name}: pytest ran nothing (status {status})\n{text[-4000:]}")
            if begun is not None:
                result.outcomes[begun], result.texts[begun] = "fail", f"the process ended, status {status}\n{text[-4000:]}"
        result.seconds = time.monotonic() - started
        return result


def pg_programs():
    return sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)[:1]


def known(project, name):
    return next((reason for pattern, reason in project.differs.items() if fnmatch.fnmatchcase(name, pattern)), None)


def judge(project, python, options):
    suite = Suite(project, python, options)
    runs = {}
    for loop in LOOPS:
        say(f"{project.name} {project.version} on {'asyncio' if loop == 'stock' else loop}")
        runs[loop] = suite.on(loop)
        r = runs[loop]
        say(f"  {r.count('pass')} passed, {r.count('fail')} failed, {r.count('skip')} skipped, {len(r.out)} left out, {r.seconds:.0f} s")
    for _ in range(options.again):
        only = [name for name in {**runs["stock"].outcomes, **runs["treadle"].outcomes}
                if (runs["stock"].outcomes.get(name) == "fail") != (runs["treadle"].outcomes.get(name) == "fail")
                and not known(project, name)]
        if not only:
            break
        say(f"  {len(only)} again that failed on one loop only")
        for loop in LOOPS:
            again = suite.on(loop, only)
            for name in only:
                if runs[loop].outcomes.get(name) != "pass" and again.outcomes.get(name):
                    runs[loop].outcomes[name], runs[loop].texts[name] = again.outcomes[name], again.texts[name]
    return runs


def main():
    parser = argparse.ArgumentParser(prog="./dev python-projects", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these projects")
    parser.add_argument("--python", default=sys.executable, help="the interpreter (default: the one that runs this)")
    parser.add_argument("--test", action="append", default=[], metavar="TEXT", help="only tests whose names have one of these in them")
    parser.add_argument("--limit", type=int, default=60, help="seconds for one test")
    parser.add_argument("--suite-limit", type=int, default=3600, help="seconds for one run of a project's tests")
    parser.add_argument("--again", type=int, default=2, help="how often tests run again that failed on one loop only")
    parser.add_argument("--list", action="store_true", help="the projects, and what is listed of them")
    parser.add_argument("--both", action="store_true", help="name the tests, too, that fail on both loops")
    parser.add_argument("--verbose", action="store_true", help="what pytest prints")
    options = parser.parse_args()
    chosen = projects(options.names)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too
    if options.list:
        for project in chosen:
            print(project.name, project.version)
            for pattern, reason in {**project.out, **project.differs}.items():
                print(f"  {pattern}: {reason}")
        return
    wheel = build(options.python)
    rows, notes, bad, passed = [], [], 0, 0
    for project in chosen:
        try:
            runs = judge(project, project.environment(options.python, wheel), options)
        except CannotRun as problem:
            say(str(problem))
            rows.append([project.name, project.version, "did not run"])
            bad += 1
            continue
        stock, ours = runs["stock"], runs["treadle"]
        only = [n for n, o in ours.outcomes.items() if o == "fail" and stock.outcomes.get(n) != "fail"]
        both = [n for n, o in ours.outcomes.items() if o == "fail" and stock.outcomes.get(n) == "fail"]
        theirs = [n for n, o in stock.outcomes.items() if o == "fail" and ours.outcomes.get(n) == "pass"]
        new = [n for n in only if not known(project, n)]
        bad += len(new)
        passed += ours.count("pass")
        rows.append([project.name, project.version, str(stock.count("pass")), str(ours.count("pass")), str(len(only)), str(len(theirs)),
                     str(len(both)), str(ours.count("skip")), str(len(ours.out))])
        for name in only:
            notes.append(f"{project.name}: {name}: {known(project, name) or 'NOT LISTED'}")
            if name in new:
                say(f"\n-- {project.name} {name}\n{ours.texts[name]}")
        for name in both if options.both else ():
            notes.append(f"{project.name}: {name}: fails on both")
            say(f"\n-- {project.name} {name} (both)\n{stock.texts[name]}")
        for name in theirs:
            notes.append(f"{project.name}: {name}: fails on asyncio's loop only")
        for pattern in project.differs:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in only):
                notes.append(f"{project.name}: {pattern}: listed, and passes")
    heads = ["project", "version", "asyncio", "treadle", "treadle fails", "asyncio fails", "both fail", "skipped", "left out"]
    widths = [max(len(row[i]) for row in [heads, *rows] if i < len(row)) for i in range(len(heads))]
    print()
    for row in [heads, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print("\n(passed on each; failed on one loop only, the other only, both; skipped by the tests themselves; left out by our list)")
    for note in notes:
        print(note)
    print(f"\n{passed} passed, {bad} failed")
    raise SystemExit(1 if bad or not passed else 0)


if __name__ == "__main__":
    main()
