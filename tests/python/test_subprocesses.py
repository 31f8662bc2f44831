# SPDX-License-Identifier: MIT
"""asyncio's subprocesses on treadle's loop: how a child's end is told of, whatever else
happens at that moment. (treadle.process has tests of its own, test_process.py.)"""

import asyncio
import os
import re
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE

import pytest
import treadle
from beside import debugging, same
from conftest import fds, script, until

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd")

CAT = ("cat",)
EXITS = ("sh", "-c", "read line; exit 3")  # when it is told to
asyncio_uses_pidfd = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's loop has a thread that waits")


def run(main):
    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main, 20))


def no_children():
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def has_ended(pid):
    """Waits until a child has, and leaves it to whoever waits for it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


class Told(asyncio.SubprocessProtocol):
    """Notes what it is told; what is in `fails` raises, once."""

    def __init__(self, notes, *fails):
        self.notes, self.fails, self.seen = notes, list(fails), []
        self.data = {}
        self.lost = asyncio.get_running_loop().create_future()

    def tell(self, name, *args):
        self.seen.append((name, *args))
        if name in self.fails:
            self.fails.remove(name)
            raise ZeroDivisionError(name)

    def connection_made(self, transport):
        self.transport = transport
        self.tell("connection_made")

    def pipe_data_received(self, fd, data):
        self.data[fd] = self.data.get(fd, b"") + data
        if "pipe_data_received" in self.fails:
            self.tell("pipe_data_received")

    def pipe_connection_lost(self, fd, exc):
        self.tell("pipe_connection_lost", fd, exc)

    def process_exited(self):
        self.tell("process_exited", self.transport.get_returncode())

    def connection_lost(self, exc):
        self.lost.set_result(None)
        self.tell("connection_lost", exc)

    def note(self):
        """Which pipe ends first, and whether before the process, is for the system to say."""
        self.notes.note(self.seen[0], sorted(self.seen[1:-1], key=str), self.seen[-1], self.data)
        self.transport.close()


async def started(notes, *command, fails=(), **pipes):
    loop = asyncio.get_running_loop()
    pipes = {"stdin": None, "stdout": None, "stderr": None, **pipes}
    return await loop.subprocess_exec(lambda: Told(notes, *fails), *command, **pipes)


# -- The order of things --------------------------------------------------------


@debugging
@pytest.mark.parametrize("code", ["0", "3", "$(kill -9 $$)"])
@same
async def test_a_child_without_pipes(notes, code):
    transport, protocol = await started(notes, "sh", "-c", f"exit {code}")
    await protocol.lost
    notes.note(protocol.seen)
    notes.note(transport.get_returncode(), transport.get_pipe_transport(1), transport.is_closing())
    for method in (transport.kill, transport.terminate, transport.close):
        notes.attempt(method.__name__, method)
    notes.attempt("send_signal", transport.send_signal, signal.SIGTERM)


@debugging
@same
async def test_a_child_with_pipes(notes):
    transport, protocol = await started(
        notes, "sh", "-c", "cat; echo out; echo err >&2; exit 4", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x" * 100_000)
    stdin.write_eof()
    await protocol.lost
    notes.note(len(protocol.data.pop(1)))
    protocol.note()


@debugging
@same
async def test_a_grandchild_keeps_the_pipe(notes):
    """process_exited comes when the child ends, connection_lost when nobody has its pipe."""
    transport, protocol = await started(
        notes, "sh", "-c", "exec 3<&0; cat <&3 & exit 5", stdin=PIPE, stdout=PIPE
    )
    while ("process_exited", 5) not in protocol.seen:
        await asyncio.sleep(0.001)
    notes.note("lost", protocol.lost.done(), transport.get_returncode())
    transport.get_pipe_transport(0).write(b"later")
    transport.get_pipe_transport(0).write_eof()
    await protocol.lost
    protocol.note()


@debugging
@pytest.mark.parametrize(
    "method", ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]
)
@same
async def test_a_protocol_that_raises(notes, method):
    transport, protocol = await started(notes, "sh", "-c", "echo out; exit 1", stdout=PIPE, fails=[method])
    await protocol.lost
    await asyncio.sleep(0)
    protocol.note()
    notes.note(transport.get_returncode())


@asyncio_uses_pidfd
@debugging
@same
async def test_somebody_else_waits_for_it(notes):
    process = await asyncio.create_subprocess_exec(*EXITS, stdin=PIPE)
    process.stdin.write(b"\n")
    has_ended(process.pid)
    os.waitpid(process.pid, 0)
    before = notes.texts[:]
    notes.note(await process.wait())
    notes.texts[:] = before + [re.sub(r"pid \d+", "pid N", text).replace("  ", " ") for text in notes.texts[len(before):]]


@debugging
@same
async def test_many_wait_for_it(notes):
    process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
    waiting = [asyncio.ensure_future(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    process.stdin.close()
    notes.note(await asyncio.gather(*waiting, return_exceptions=True), await process.wait())


@debugging
@same
async def test_communicate_is_cancelled(notes):
    process = await asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE)
    try:
        async with asyncio.timeout(0.01):
            await process.communicate(b"x" * 10)
    except TimeoutError:
        notes.note("timeout")
    else:
        notes.note("it was faster")
    process.kill()
    notes.note(await process.wait(), await process.communicate())


# -- Exactly once, and nobody else's -----------------------------------------------


@pytest.mark.parametrize("method", ["kill", "terminate", "close"])
def test_the_exit_code_is_known_though_popen_waited(method, caplog):
    """kill() and close() may find, before the loop does, that the child has ended."""

    async def main():
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: Told(None), *EXITS, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
        )
        transport.get_pipe_transport(0).write(b"\n")
        has_ended(transport.get_pid())
        getattr(transport, method)()
        await protocol.lost
        assert transport.get_returncode() == 3
        assert protocol.seen.count(("process_exited", 3)) == 1
        assert protocol.seen[-1] == ("connection_lost", None)
        transport.close()

    run(main())
    no_children()
    assert "already read" not in caplog.text


def test_a_number_that_is_free_gets_no_signal(monkeypatch):
    """From waitpid on the number may be another process's."""
    freed, wrong = set(), []
    waitpid, kill = os.waitpid, os.kill

    def noted_waitpid(pid, options):
        result = waitpid(pid, options)
        freed.add(result[0])
        return result

    def noted_kill(pid, number):
        if pid in freed:
            wrong.append(pid)
        else:
            kill(pid, number)

    async def main():
        for _ in range(10):
            process = await asyncio.create_subprocess_exec("sleep", "60")
            while process.returncode is None:
                try:
                    process.kill()
                except ProcessLookupError:
                    pass
                await asyncio.sleep(0)
            assert await process.wait() == -signal.SIGKILL

    monkeypatch.setattr(os, "waitpid", noted_waitpid)
    monkeypatch.setattr(os, "kill", noted_kill)
    run(main())
    assert not wrong


def test_children_need_no_signal_and_no_thread():
    async def main():
        before = signal.getsignal(signal.SIGCHLD)
        threads = threading.active_count()
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"print({i}); raise SystemExit({i})", stdout=PIPE
            )
            for i in range(3)
        ]
        assert threading.active_count() == threads
        assert signal.getsignal(signal.SIGCHLD) == before
        for i, process in enumerate(processes):
            out, _ = await process.communicate()
            assert (out, process.returncode) == (b"%d\n" % i, i)
        killed = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        killed.kill()
        assert await killed.wait() == -signal.SIGKILL

    run(main())


def test_starting_is_cancelled():
    """At each step of it: no child and no descriptor is left."""

    async def main():
        await (await asyncio.create_subprocess_exec("true")).wait()
        before, done = fds(), 0
        for turns in range(1, 12):
            starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE, stderr=PIPE))
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            try:
                process = await starting
            except asyncio.CancelledError:
                continue
            done += 1
            process.kill()
            await process.wait()
        assert done < 11
        await until(lambda: fds() <= before)
        no_children()

    run(main())


def test_a_child_ends_while_no_loop_runs():
    loop = treadle.new_event_loop()
    try:
        process = loop.run_until_complete(asyncio.create_subprocess_exec(*EXITS, stdin=PIPE))
        process.stdin.write(b"\n")
        has_ended(process.pid)
        assert process.returncode is None
        assert loop.run_until_complete(process.wait()) == 3
    finally:
        loop.close()
    no_children()


@pytest.mark.parametrize("child", ["lives", "has ended", "has ended, unseen"])
def test_the_loop_is_closed_first(child):
    """What asyncio's loop does then, this one does."""
    text = """
        import asyncio, gc, os, sys, treadle, warnings
        factory = treadle.new_event_loop if sys.argv[1] == "treadle" else asyncio.SelectorEventLoop
        warnings.simplefilter("always")
        loop = factory()
        PIPE = asyncio.subprocess.PIPE
        process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))
        pid = process.pid
        if sys.argv[2] != "lives":
            process.kill()
            if sys.argv[2] == "has ended":
                loop.run_until_complete(process.wait())
            else:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        loop.close()
        print(process.returncode)
        try:
            process.kill()
        except ProcessLookupError:
            print("no process")
        if sys.argv[2] == "lives":  # who drops the process object looks whether it has ended
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        del process
        gc.collect()
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            print("no child")
    """
    said = []
    for factory in ("treadle", "asyncio") if sys.version_info >= (3, 12) else ("treadle", "treadle"):
        done = script(text, factory, child)
        assert "Fatal" not in done.stderr and done.returncode == 0, done.stderr
        errors = [line for line in done.stderr.splitlines() if re.match(r"\w+Error", line)]
        said.append((done.stdout, sorted(errors)))
    assert said[0] == said[1]
