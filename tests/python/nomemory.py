# SPDX-License-Identifier: MIT
"""nomemory.py [--every K] [--first N] [--jobs J] [SCENARIO…]: Python's allocations fail, one at a time.

For each scenario of the package `everything`, on treadle's loop, and for each number n: the n-th
allocation that Python's allocators are asked for fails, and all others do not. Then the
scenario ends well, or by MemoryError or an exception that has one as its cause; what is
told of to exception handlers is MemoryError, too. It may not end by SystemError (a NULL
without an exception, or a result with one), crash, or hang. The loop is closed and works
again, in a new run, afterwards.

Each case is a process of its own, forked from one that has loaded everything and used
nothing of the core. With --every K only each K-th is looked at."""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import argparse
import asyncio
import collections
import faulthandler
import gc
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings

import everything
import treadle

LIMIT = 6.0  # seconds for one case
PATIENCE = 0.5  # after which one looks whether it will ever end
TASKS = re.compile(r"Exception in callback (<(_asyncio\.)?TaskStepMethWrapper|Task\.|<Task|Timeout\.|<treadle's events>|gather|_wait|_run_until_complete_cb|BaseSelectorEventLoop\._read_from_self|signals\.|_Body\._ended)")
FINE, TOLD, BEYOND, WRONG = 0, 10, 11, 20
CEILING = 200_000  # allocations: more than any scenario has

# What CPython and asyncio make of it: a NULL of a Python function's, a task that is lost.
PYTHONS_OWN = re.compile(r"<function |<class 'ssl\.SSLError'> returned|error return without exception set|can't (allocate|start new thread)")
# asyncio's loop, transports and pipes that were not made to the end, and its StreamWriter after a start_tls that failed
HALF_MADE = re.compile(r"object has no attribute '(_ssock|_closed|close|write)'")
# 3.11: WeakValueDictionary(); in its debug build a function that has no memory for the cells of its variables
PYTHONS_CRASH = re.compile(r'weakref\.py", line 296 in update|ceval\.c:5780: .*STACK_LEVEL\(\) == 0')
SILENT = {"tls_protocols", "tls_streams", "start_tls", "subprocesses"}  # asyncio tells of a lost one in debug mode only
LEFT_OUT = {"threads"}  # what is left of a thread without memory is Python's own


class Watch(logging.Handler):
    """What was reported on the way, other than MemoryError."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.of_asyncio = name in vars(everything.loop) or name == "guests"  # a protocol that is not called any more, or so
        self.wrong: list[str] = []
        self.alarms = 0
        self.seen: list[str] = []  # all that was told

    def late(self, signum: int, frame: object) -> None:
        """By a timer. asyncio's tasks are lost when there is no memory for a step of theirs, which
        the loop's exception handler is told of: then they, and who waits for them, wait for ever."""
        self.alarms += 1
        told = [text for text in self.seen if text.rstrip().endswith("MemoryError")]
        if any(self.of_asyncio or TASKS.match(text) for text in told):
            os._exit(TOLD)
        if self.alarms * PATIENCE < LIMIT:
            return
        if self.name in SILENT:
            os._exit(TOLD)
        _testcapi.remove_mem_hooks()
        print("hangs", *self.seen, sep="\n", file=sys.stderr)
        treadle.dump(2)
        loop = asyncio.get_running_loop()
        print(loop._ready, loop._scheduled, file=sys.stderr)  # type: ignore[attr-defined]
        for task in asyncio.all_tasks(loop):
            print(task, file=sys.stderr)
            task.print_stack(file=sys.stderr)
        os._exit(WRONG)

    def look_at(self, exc: BaseException | None, where: str) -> None:
        if exc is None:
            return
        text = f"{where}: " + "".join(traceback.format_exception(exc))
        self.seen.append(text)
        if not of_memory(exc):
            self.wrong.append(text)

    def unraisable(self, info: object) -> None:
        self.look_at(getattr(info, "exc_value", None), f"unraisable, {getattr(info, 'object', None)!r:.200}")

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.look_at(record.exc_info[1], record.getMessage())

    def handler(self, loop: object, context: dict[str, object]) -> None:
        exc = context.get("exception")
        self.look_at(exc if isinstance(exc, BaseException) else None, str(context.get("message")))


def closed_under_asyncio(e: BaseException) -> bool:
    """asyncio's pipes and processes that are closed after their loop call it: so says their own frame, the last one."""
    last = ""
    for frame, _ in traceback.walk_tb(e.__traceback__):
        last = frame.f_code.co_filename
    return str(e) == "Event loop is closed" and os.path.dirname(last) == os.path.dirname(asyncio.__file__)


def of_memory(exc: BaseException) -> bool:
    """Is it MemoryError, or did it come of one?"""
    seen = set()
    todo: list[BaseException | None] = [exc]
    while todo:
        e = todo.pop()
        if e is None or id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, (SystemError, RuntimeError)) and PYTHONS_OWN.match(str(e)):
            return True
        if isinstance(e, RuntimeError) and closed_under_asyncio(e):
            return True
        if isinstance(e, SystemError):
            return False
        if isinstance(e, MemoryError):
            return True
        todo += [e.__cause__, e.__context__, *(e.exceptions if isinstance(e, BaseExceptionGroup) else ())]
    if isinstance(exc, AttributeError) and HALF_MADE.search(str(exc)):
        return True
    # What a scenario says of work that was not done since another part of it had no memory.
    return isinstance(exc, (AssertionError, asyncio.CancelledError, asyncio.IncompleteReadError, OSError))


def attempt(name: str, n: int, watch: Watch) -> tuple[BaseException | None, bool]:
    """The scenario, with the n-th allocation failing. The exception, or
    None, and whether there was no n-th one."""
    caught: BaseException | None = None
    beyond: list[bool] = []
    try:
        if name in everything.WHOLE:
            _testcapi.set_nomemory(n, n + 1)
            everything.WHOLE[name]()
        else:
            make = everything.SCENARIOS[name]

            async def main() -> None:
                asyncio.get_running_loop().set_exception_handler(watch.handler)
                _testcapi.set_nomemory(n, n + 1)
                try:
                    await make()
                finally:
                    beyond.append(unreached())
                    _testcapi.remove_mem_hooks()

            treadle.run(main())
    except BaseException as exc:  # noqa: BLE001
        caught = exc
    if not beyond:
        beyond.append(unreached())
        _testcapi.remove_mem_hooks()
    return caught, beyond[0]


def unreached() -> bool:
    """Was there no n-th one?"""
    try:
        for _ in range(3000):
            bytearray(1)
    except MemoryError:
        return True
    return False


def case(name: str, n: int) -> int:
    watch = Watch(name)
    logging.getLogger("asyncio").addHandler(watch)
    sys.unraisablehook = watch.unraisable  # type: ignore[assignment]
    signal.signal(signal.SIGALRM, watch.late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
    caught, beyond = attempt(name, n, watch)
    signal.setitimer(signal.ITIMER_REAL, 0)
    watch.look_at(caught, "ended by")
    if isinstance(caught, TimeoutError) and not any("MemoryError" in text for text in watch.seen):
        watch.wrong.append("waits, and nobody was told why")
    told = caught is not None
    gc.collect()

    async def again() -> int:
        ch: treadle.Chan[int] = treadle.Chan()
        g = treadle.go(ch.recv())
        await ch.send(1)
        return await g

    asyncio._set_running_loop(None)  # which asyncio could not, without memory
    if treadle.run(again()) != 1:
        watch.wrong.append("does not work afterwards")
    if isinstance(caught, treadle.DeadlockError) and any("MemoryError" in text for text in watch.seen):
        watch.wrong.clear()
    for text in watch.wrong:
        print(text, file=sys.stderr)
    return WRONG if watch.wrong else BEYOND if beyond and not told else TOLD if told else FINE


class Running:
    def __init__(self, name: str, n: int) -> None:
        self.name, self.n, self.started = name, n, time.monotonic()
        self.aborted = False
        self.output = tempfile.TemporaryFile()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(self.output.fileno(), 1)
            os.dup2(self.output.fileno(), 2)
            faulthandler.enable()
            os._exit(case(name, n))

    def poll(self, block: bool = False) -> int | None:
        pid, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if not self.aborted and time.monotonic() - self.started > 2 * LIMIT:
            self.aborted = True
            os.kill(self.pid, signal.SIGABRT)  # faulthandler says where it is
        return None

    def said(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace")


class Sweep:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.bad = 0

    def one(self, name: str) -> collections.Counter[str]:
        """All cases of one scenario, some at a time."""
        ends: collections.Counter[str] = collections.Counter()
        running: list[Running] = []
        n, last = self.args.first, CEILING if not self.args.only else self.args.first + 1
        while running or n < last:
            while n < last and len(running) < self.args.jobs:
                running.append(Running(name, n))
                n += self.args.every
            time.sleep(0.0005)
            for r in running[:]:
                code = r.poll()
                if code is None:
                    continue
                running.remove(r)
                if code == BEYOND:
                    last = min(last, r.n)
                    continue
                if code < 0 and PYTHONS_CRASH.search(r.said()):
                    code = TOLD
                end = {FINE: "done in spite of it", TOLD: "MemoryError"}.get(code)
                if end is None:
                    end = "wrong"
                    self.bad += 1
                    how = "" if code == WRONG else f"{'hangs' if r.aborted else 'ends'} with {code}"
                    print(f"-- {name} {r.n} {how}\n{r.said()[-self.args.tail:]}", flush=True)
                ends[end] += 1
                r.output.close()
        return ends


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="SCENARIO")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", action="store_true", help="the first alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tail", type=int, default=3000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    everything.tls_contexts()
    names = args.names or [n for n in (*everything.SCENARIOS, *everything.WHOLE) if n not in LEFT_OUT]
    # What is imported late is there already; nothing of the core is used before the forks.
    for module in ("concurrent.futures.thread", "msgpack", "treadle._watchdog", "treadle.sim", "multiprocessing",
                   "encodings.idna", "asyncio.staggered", "treadle._tls", "treadle._streams"):  # fmt: skip
        __import__(module)
    traceback.format_exception_only(ValueError())  # 3.15's modules import some of theirs when they are used
    gc.collect()
    gc.freeze()
    sweep = Sweep(args)
    total: collections.Counter[str] = collections.Counter()
    for name in names:
        ends = sweep.one(name)
        total += ends
        print(f"{name:22}" + "".join(f"{ends[end]:8} {end}" for end in ("done in spite of it", "MemoryError", "wrong")),
              flush=True)  # fmt: skip
    print(f"\n{sum(total.values()) - sweep.bad} passed, {sweep.bad} failed")
    return 1 if sweep.bad else 0


if __name__ == "__main__":
    sys.exit(main())
