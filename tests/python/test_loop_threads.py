# SPDX-License-Identifier: MIT
"""A loop and its threads: what becomes of one whose thread has ended, one that a thread after
another runs, one that another thread ends."""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import socket
import sys
import threading
import time

import pytest
import treadle
from test_threads import at_once, free, needs_free, often  # noqa: F401

# -- Loops that nobody closed -----------------------------------------------------------------------------


def has_ended(thread):
    """join() may return shortly before the system's thread ends."""
    thread.join()
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        time.sleep(0.001)


def in_a_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    has_ended(thread)


def open_fds():
    return len(os.listdir("/proc/self/fd"))


LEFT_THERE = 8


def leave_loop(factory, told, keep=None):
    """So many goroutines, which wait in every way, in a loop that is not closed."""

    async def waits(awaitable):
        try:
            await awaitable
        finally:
            told.append("unwound")

    async def chosen(chans):
        try:
            await treadle.select(*(chan.recv_op() for chan in chans))
        finally:
            told.append("unwound")

    async def main():
        loop = asyncio.get_running_loop()
        mute, full = treadle.Chan(), treadle.Chan(2)
        full.try_send((loop, told))
        full.try_send(full)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop.add_reader(theirs, int)
        future = loop.create_future()
        future.channels = [mute, full] if hasattr(future, "__dict__") else None
        joined = treadle.go(waits(mute.recv()))
        for awaitable in (full.send(loop), treadle.sleep(100), future, loop.sock_recv(ours, 1), asyncio.sleep(100)):
            treadle.go(waits(awaitable))
        treadle.go(waits(joined))
        treadle.go(chosen([mute, treadle.Chan(), treadle.Chan()]))
        await asyncio.sleep(0)
        await treadle.yield_()
        theirs.close()
        if keep is not None:
            keep.append((loop, mute, full))

    loop = factory()
    loop.run_until_complete(main())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody tells which descriptors are open")
@pytest.mark.parametrize("factory", [treadle.new_event_loop, asyncio.new_event_loop])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loops_left_behind(factory, caplog, monkeypatch):
    """A loop that nobody closed goes with the collector when its thread has ended, as asyncio's do: with
    its descriptors, and the goroutines are unwound."""
    # asyncio's __del__ may find its sockets closed already: nothing may keep its traceback
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    told, n = [], 6
    in_a_thread(leave_loop, factory, [])
    gc.collect()
    fds = open_fds()
    for _ in range(n):
        in_a_thread(leave_loop, factory, told)
    gc.collect()
    gc.collect()  # what goroutines had that were unwound in the first
    assert open_fds() <= fds
    assert len(told) == n * LEFT_THERE
    assert treadle.num_goroutines() == 0
    pending = [r for r in caplog.records if "destroyed but it is pending" in r.getMessage()]
    assert len(pending) >= n * LEFT_THERE, caplog.text


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody tells which descriptors are open")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loops_closed_by_others():
    """close() on another thread closes the loop. Without a lock it does when its own has ended; while that lives,
    the loop is closed there, or by who opens the next loop after its end."""
    told, keep, go_on = [], [], threading.Event()

    def stays():
        leave_loop(treadle.new_event_loop, told, keep)
        left.set()
        go_on.wait()

    in_a_thread(leave_loop, treadle.new_event_loop, told, keep)
    keep.pop()[0].close()
    gc.collect()
    assert len(told) == LEFT_THERE and treadle.num_goroutines() == 0
    fds = open_fds()

    in_a_thread(leave_loop, treadle.new_event_loop, told, keep)
    in_a_thread(lambda: treadle.run(treadle.sleep(0)))  # perhaps a thread of the same address
    left = threading.Event()
    thread = threading.Thread(target=stays)
    thread.start()
    left.wait()
    for loop, *_ in keep:
        loop.close()
        assert loop.is_closed()
    keep.clear()
    # without a lock, the second one's stay, whose thread lives
    assert treadle.num_goroutines() == (9 if free else 0)
    go_on.set()
    has_ended(thread)
    treadle.run(treadle.sleep(0))
    gc.collect()
    assert len(told) == 3 * LEFT_THERE and treadle.num_goroutines() == 0
    assert open_fds() <= fds


# -- Loops that are run by one thread after another ----------------------------------------


class Travelling:
    """What goes on in a loop while it is run now here, now there: each time, what was begun the time before."""

    async def begin(self):
        loop = asyncio.get_running_loop()
        self.there, self.back, self.full = treadle.Chan(), treadle.Chan(1), treadle.Chan(1)
        self.full.try_send("full")
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.readable, self.theirs_readable = asyncio.Queue(), socket.socketpair()
        loop.add_reader(self.theirs_readable[0], self.read)
        self.server = await asyncio.start_server(self.echo, "127.0.0.1", 0)
        self.reader, self.writer = await asyncio.open_connection(*self.server.sockets[0].getsockname())
        self.doubles = treadle.go(self.double())
        self.listener = await treadle.listen("tcp", "127.0.0.1:0")
        self.answers = treadle.go(self.answer())
        self.conn = await treadle.dial("tcp", self.listener.address)
        await self.wait_again()

    def read(self):
        self.readable.put_nowait(self.theirs_readable[0].recv(1))

    async def echo(self, reader, writer):
        async for line in reader:
            writer.write(line)
        writer.close()

    async def answer(self):
        async with self.listener, await self.listener.accept() as conn:
            while data := await conn.read(10):
                await conn.write(data)

    async def double(self):
        async for n in self.there:
            await self.back.send(2 * n)

    async def chosen(self):
        return (await treadle.select(self.full.send_op("more"), treadle.Chan().recv_op()))[0]

    async def wait_again(self):
        loop = asyncio.get_running_loop()
        self.line = treadle.go(self.reader.readline())
        self.answered = treadle.go(self.conn.read(10))
        self.received = loop.create_task(loop.sock_recv(self.ours, 1))
        self.slept = treadle.go(treadle.sleep(0.003))
        self.later = loop.create_future()
        loop.call_later(0.002, self.later.set_result, threading.get_ident())
        self.choice = treadle.go(self.chosen())
        await treadle.yield_()
        self.begun_in = threading.get_ident()

    async def again(self, n):
        self.theirs.send(b"x")
        self.theirs_readable[1].send(b"y")
        self.writer.write(b"line %d\n" % n)
        await self.conn.write(b"%d" % n)
        await self.there.send(n)
        assert await self.back.recv() == 2 * n
        assert await self.line == b"line %d\n" % n
        assert await self.received == b"x"
        assert await self.answered == b"%d" % n
        assert await self.readable.get() == b"y"
        await self.slept
        assert await self.later == self.begun_in
        assert self.full.try_recv() == ("full", True)
        assert await self.choice == 0
        assert self.full.try_recv() == ("more", True)
        self.full.try_send("full")
        await self.wait_again()
        return threading.get_ident()

    async def end(self):
        self.there.close()
        await self.doubles
        for waits in (self.received, self.choice, self.slept, self.line, self.answered):
            waits.cancel()
        self.conn.close()
        await self.answers
        self.writer.close()
        self.server.close()
        asyncio.get_running_loop().remove_reader(self.theirs_readable[0])
        await treadle.yield_()
        for sock in (self.ours, self.theirs, *self.theirs_readable):
            sock.close()


@pytest.mark.parametrize("factory", [treadle.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize("lives", [pytest.param(True, marks=pytest.mark.skipif(free, reason="no lock")), False])
def test_a_loop_that_is_run_by_several_threads(factory, lives):
    """One after the other, as asyncio's may: each goes on with what waits. Without a lock the one before must
    have ended."""
    loop, all_of_it, ran_on = factory(), Travelling(), []

    def turns(i):
        ran_on.append(loop.run_until_complete(all_of_it.again(i) if i else all_of_it.begin()))

    with contextlib.ExitStack() as stack:
        if lives:
            pools = [stack.enter_context(concurrent.futures.ThreadPoolExecutor(1)) for _ in range(2)]
            for i in range(0, 12, 3):
                turns(i)  # this thread is one of them
                for k, pool in enumerate(pools):
                    pool.submit(turns, i + k + 1).result()
        else:
            errors = []

            def caught(i):
                try:
                    turns(i)
                except BaseException as error:
                    errors.append(error)

            for i in range(8):
                in_a_thread(caught, i)
                assert not errors
    assert len(ran_on) == (12 if lives else 8)
    assert not lives or len({*ran_on} - {None}) == 3
    loop.run_until_complete(all_of_it.end())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert treadle.num_goroutines() == 0


@pytest.mark.skipif(free, reason="no lock")
@pytest.mark.parametrize("factory", [treadle.new_event_loop, asyncio.new_event_loop])
def test_a_stopped_loop_that_another_thread_ends(factory):
    """As of many programs: a thread runs the loop until it is told to stop, and the main one cancels what is left,
    while that thread lives."""
    loop, told = factory(), []

    async def waits(awaitable, name):
        try:
            await awaitable
        finally:
            told.append(name)

    async def main():
        main.chan, main.other = treadle.Chan(), treadle.Chan()
        main.ours, main.theirs = socket.socketpair()
        main.ours.setblocking(False)
        loop.add_reader(main.theirs, int)
        main.server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        _, main.writer = await asyncio.open_connection(*main.server.sockets[0].getsockname())
        main.tasks = [
            loop.create_task(waits(main.chan.recv(), "task")),
            loop.create_task(waits(treadle.sleep(100), "sleep")),
            loop.create_task(waits(loop.sock_recv(main.ours, 1), "sock")),
        ]
        main.g = treadle.go(waits(main.chan.recv(), "goroutine"))
        main.closed = treadle.go(waits(main.other.recv_ok(), "closed"))
        await asyncio.sleep(0.001)

    async def end():
        results = await asyncio.gather(*main.tasks, main.g, main.closed, return_exceptions=True)
        assert [type(r) for r in results] == [asyncio.CancelledError] * 4 + [type(None)]
        await main.server.wait_closed()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(loop.run_until_complete, main()).result()
        for task in main.tasks:
            assert task.cancel()
        assert main.g.cancel()
        main.other.close()
        assert loop.remove_reader(main.theirs)
        main.writer.transport.abort()
        main.server.close()
        loop.run_until_complete(asyncio.wait_for(end(), 10))
        pool.submit(loop.run_until_complete, treadle.sleep(0.001)).result()
        loop.close()
    for sock in (main.ours, main.theirs):
        sock.close()
    assert sorted(told) == ["closed", "goroutine", "sleep", "sock", "task"]
    assert treadle.num_goroutines() == 0


@needs_free
def test_a_loop_of_another_thread_without_a_lock():
    loop = treadle.new_event_loop()
    loop.run_until_complete(treadle.yield_())
    with pytest.raises(RuntimeError, match="another thread has run this treadle loop, and lives"):
        at_once(lambda: loop.run_forever())
    loop.close()
