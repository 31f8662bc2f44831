# SPDX-License-Identifier: MIT
"""What the tests share.

`drive` runs a coroutine function to its end in each of the three ways that the
package promises: as treadle.run's main goroutine, as an asyncio.Task on
treadle's loop, and as an asyncio.Task with treadle as the guest of asyncio's
own loop. A test that takes it runs three times.
"""

import asyncio
import faulthandler
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings

import pytest
import treadle

pytest.register_assert_rewrite("beside", "transports")
faulthandler.enable()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)

LIMIT = int(os.environ.get("TDL_TEST_LIMIT", "30"))  # seconds for one test: a hang is a failure


def drive_run(main):
    return treadle.run(main())


def drive_loop(main):
    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        return runner.run(main())


def drive_guest(main):
    return asyncio.run(main())


DRIVERS = {"run": drive_run, "loop": drive_loop, "guest": drive_guest}


@pytest.fixture(params=list(DRIVERS))
def drive(request):
    return DRIVERS[request.param]


@pytest.fixture(autouse=True)
def limit():
    def expired(signum, frame):
        faulthandler.dump_traceback(all_threads=True)
        pytest.fail(f"the test took longer than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nothing_left():
    """Each test leaves no goroutine, task of the core or connection behind."""
    yield
    gc.collect()
    left = {
        name: treadle.metric(name)
        for name in ("goroutines", "tasks", "connections", "listeners", "datagrams", "descriptors")
        if treadle.metric(name)
    }
    assert left == {}


@pytest.fixture
def loop():
    """A loop that does not run yet."""
    loop = treadle.new_event_loop()
    loop.set_debug(False)  # whatever the environment says
    yield loop
    loop.close()


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def sockets():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    return a, b


SPAWN = {"goroutine": treadle.go, "task": lambda coro: asyncio.create_task(coro)}


@pytest.fixture(params=list(SPAWN))
def spawn(request):
    """Starts a coroutine, as a goroutine and as a task of asyncio."""
    return SPAWN[request.param]


def fds():
    return len(os.listdir("/proc/self/fd"))


def rss_kb():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def script(text, *args, timeout=20 * max(LIMIT, 30) // 30, **kwargs):
    """Runs a program of its own; gives CompletedProcess with text output."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        **kwargs,
    )


async def until(condition, seconds=5.0):
    """Lets others run until the condition holds."""
    end = treadle.now() + seconds
    while not condition():
        assert treadle.now() < end, "it did not come"
        await treadle.sleep(0.001)


async def turns(n=5):
    """Lets everything that can go on do so."""
    for _ in range(n):
        await treadle.yield_()
        await asyncio.sleep(0)


async def pair():
    """Two ends of one connection."""
    async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
        far = treadle.go(accept_one(listener))
        near = await treadle.dial("tcp", f"127.0.0.1:{listener.port}")
        return near, await far


async def accept_one(listener):
    return await listener.accept()


class Handler:
    """Collects what a loop's exception handler is told."""

    def __init__(self):
        self.contexts = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: self.contexts.append(
                {k: v for k, v in context.items() if k != "future"}
            )
        )

    @property
    def errors(self):
        return [c.get("exception") for c in self.contexts]


warnings.simplefilter("error", ResourceWarning)
