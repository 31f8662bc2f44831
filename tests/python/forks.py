# SPDX-License-Identifier: MIT
"""forks.py HOW ACT KIND: os.fork in the middle of everything, for test_fork.py.

HOW: who forks (a goroutine, a task, a callback, a thread); ACT: what the child does; KIND: the
loop. The parent says how the child ended, and that each wait of its own still ends well."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
import time

import treadle
from everything.base import echo_lines

CODE = 3  # what the child is to end with


class Everything:
    """What is open, and who waits, when the fork happens."""

    async def open(self):
        self.loop = asyncio.get_running_loop()
        self.server = await asyncio.start_server(echo_lines, "127.0.0.1", 0)
        self.reader, self.writer = await asyncio.open_connection(*self.server.sockets[0].getsockname()[:2])
        self.listener = await treadle.listen("tcp", "127.0.0.1:0")
        self.near = await treadle.dial("tcp", f"127.0.0.1:{self.listener.port}")
        self.far = await self.listener.accept()
        self.accepting = treadle.go(self.listener.accept())
        self.reading = treadle.go(self.far.readline())
        self.udp = await treadle.listen_udp("127.0.0.1:0")
        self.receiving = treadle.go(self.udp.recv())
        self.ch, self.shared, self.mutex = treadle.Chan(), treadle.SharedChan(), treadle.Mutex()
        self.waiting = treadle.go(self.ch.recv()), treadle.go(self.shared.recv())
        await self.mutex.lock()
        self.locking = treadle.go(self.mutex.lock())
        self.ticks = treadle.Ticker(0.01)
        self.a, self.b = socket.socketpair()
        for s in (self.a, self.b):
            s.setblocking(False)
        self.hits = []
        self.loop.add_reader(self.a, lambda: self.hits.append(self.a.recv(10)))
        self.sock = asyncio.create_task(self.loop.sock_recv(self.b, 10))
        self.sleeping = treadle.go(treadle.sleep(0.1))
        await asyncio.sleep(0)

    async def look(self):
        """Each wait still ends as it should."""
        await self.near.write(b"one\n")
        assert await self.reading == b"one\n"
        async with await treadle.dial("tcp", f"127.0.0.1:{self.listener.port}"):
            (await self.accepting).close()
        async with await treadle.dial_udp(self.udp.address) as v:
            await v.send(b"d")
        assert await self.receiving == b"d"
        await self.ch.send(1)
        await self.shared.send(2)
        assert [await g for g in self.waiting] == [1, 2]
        self.mutex.unlock()
        await self.locking
        await self.ticks.recv()
        await self.sleeping

    async def look_at_asyncio(self):
        for _ in range(2):
            self.writer.write(b"line\n")
            assert await self.reader.readline() == b"line\n"
        self.b.send(b"y")
        while not self.hits:
            await asyncio.sleep(0.001)
        self.a.send(b"z")
        assert await self.sock == b"z"

    def close(self):
        for o in (self.writer, self.near, self.far, self.listener, self.udp, self.server):
            o.close()
        self.ticks.stop()
        self.loop.remove_reader(self.a)
        self.a.close()
        self.b.close()

    def meddle(self):
        """In the child: whatever it calls, it is told so, and the parent does not notice."""
        closed = [self.near, self.far, self.listener, self.udp, self.ch, self.shared]
        calls = [self.ticks.stop, self.loop.stop, self.mutex.unlock, lambda: self.ch.try_send(1)]
        if isinstance(self.loop, treadle.Loop):  # in asyncio's own loop these harm the parent, who has the same epoll
            closed += [self.writer, self.server]
            calls += [self.sock.cancel, lambda: self.loop.remove_reader(self.a)]
        calls += [o.close for o in closed]
        calls += [g.cancel for g in (self.accepting, self.reading, self.receiving, *self.waiting, self.locking, self.sleeping)]
        calls += [lambda: self.loop.call_soon(int), lambda: self.loop.call_later(0, int), lambda: self.loop.call_soon_threadsafe(int)]
        for call in calls:
            with contextlib.suppress(RuntimeError):
                call()
        gc.collect()


def child(act, every):
    if act == "meddle":
        every.meddle()
        sys.stdout.flush()
        os._exit(CODE)
    if act == "asyncio":  # as multiprocessing's children do
        async def talk():
            a, b = socket.socketpair()
            with b:
                reader, writer = await asyncio.open_connection(sock=a)
                b.send(b"x\n")
                line = await reader.readline()
                writer.close()
            return line

        asyncio._set_running_loop(None)
        assert asyncio.run(talk()) == b"x\n"
        os._exit(CODE)
    sys.exit(CODE)


async def fork(how, act, every):
    """The child's number."""

    def now():
        pid = os.fork()
        if pid == 0:
            child(act, every)
        return pid

    async def soon():
        return now()

    if how == "goroutine":
        return await treadle.go(soon())
    if how == "task":
        return await asyncio.create_task(soon())
    done = asyncio.get_running_loop().create_future()
    if how == "callback":
        every.loop.call_soon(lambda: done.set_result(now()))
        return await done

    def work():
        pid = now()
        every.loop.call_soon_threadsafe(done.set_result, pid)

    threading.Thread(target=work).start()
    return await done


async def main(how, act):
    every = Everything()
    await every.open()
    pid = await fork(how, act, every)
    end = time.monotonic() + 15
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGABRT)  # it says where it is
            sys.exit("the child hangs")
        await asyncio.sleep(0.005)
    print("child", os.waitstatus_to_exitcode(ended[1]))
    async with asyncio.timeout(10):
        await every.look()
        if act != "exit" or isinstance(every.loop, treadle.Loop):  # asyncio's own unwinds in the parent's epoll
            await every.look_at_asyncio()
    every.close()
    await asyncio.sleep(0)
    print("parent unharmed")


if __name__ == "__main__":
    faulthandler.enable()
    how, act, kind = sys.argv[1:]
    if kind == "run":
        treadle.run(main(how, act))
    elif kind == "loop":
        with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
            runner.run(main(how, act))
    else:
        asyncio.run(main(how, act))
