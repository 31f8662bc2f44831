# SPDX-License-Identifier: MIT
"""meddle.py [SECONDS [SEED]]: loops on two threads live their lives, one of them as the first of several
Ps where Python has no lock, while three other threads call whatever methods their objects have, with whatever arguments: transports,
goroutines, channels, operations, handles, the loops themselves (not asyncio's own futures and
tasks, which lose callbacks so). The interpreter must not crash, and nothing may hang.

For a free-threaded Python; where there is a lock, what one thread does to another's loop is not
refused. Ends with 1 where a thread hangs, and by a signal where the interpreter crashes."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import random
import socket
import sys
import threading
import time
import warnings

import treadle

# What would wait for ever, change the process, or close descriptors that are somebody else's by then.
LEFT_OUT = {
    "__class__", "__class_getitem__", "__del__", "__delattr__", "__dir__", "__getattribute__", "__init__",
    "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__",
    "__subclasshook__", "add_signal_handler", "detach", "getaddrinfo", "getnameinfo", "recv_sync", "release",
    "remove_signal_handler", "run_forever", "run_in_executor", "run_until_complete", "send_sync", "set_debug",
    "set_default_executor", "set_exception_handler", "set_task_factory", "shutdown_default_executor",
    "stop", "subprocess_exec", "subprocess_shell",
}  # fmt: skip
SEVERAL = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 3  # Ps of the second one's runs
MOST = 60  # objects that the others see


def names(kind):
    """Methods and attributes; not those that are asyncio's or treadle's own affair."""
    return [n for n in dir(kind) if n not in LEFT_OUT and (n[0] != "_" or n[1] == "_")]


class Meddle:
    def __init__(self, seed):
        self.seed = seed
        self.stop = False
        self.lock = threading.Lock()
        self.seen = []
        self.calls = self.errors = 0

    def show(self, random, *objects):
        with self.lock:
            self.seen += objects
            random.shuffle(self.seen)
            del self.seen[MOST:]

    async def live(self, random):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        while not self.stop:
            try:
                await self.once(loop, random)
            except Exception:  # of what the others have done
                self.errors += 1
                await asyncio.sleep(0)

    async def once(self, loop, random):
        a, b, c, d = *socket.socketpair(), *socket.socketpair()
        with a, b, c, d:
            for s in (a, b, c):
                s.setblocking(False)
            transport, protocol = await loop.create_connection(asyncio.Protocol, sock=a)
            reader, writer = await asyncio.open_connection(sock=b)
            dgram, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            listener = await treadle.listen("tcp", "127.0.0.1:0")
            chan, shared, mutex = treadle.Chan(3), treadle.SharedChan(5), treadle.Mutex()

            async def park():
                with contextlib.suppress(treadle.ChannelClosed):
                    await chan.recv()

            g = treadle.go(park())
            self.show(
                random, loop, transport, dgram, listener, chan, shared, mutex, g, loop._host,
                loop.call_soon(int), loop.call_later(0.001, int), loop.call_soon_threadsafe(int),
                loop.sock_recv(c, 10), reader.read(5), chan.recv(), shared.recv(), mutex.lock(), treadle.sleep(0.001),
                treadle.select(chan.recv_op(), treadle.after_op(0.001)), treadle.Semaphore(2),
                treadle.WaitGroup(), treadle.Cond(mutex), treadle.RWMutex(), treadle.Once(), treadle.Timer(0.01),
                treadle.background().with_cancel(),
            )  # fmt: skip
            for _ in range(random.randrange(10)):
                transport.write(b"x" * random.randrange(1, 3000))
                await asyncio.sleep(0)
                if not chan.closed and len(chan) < 3:
                    chan.try_send(1)
                await treadle.sleep(0.0003)
            g.cancel()
            for thing in (transport, writer, dgram, listener):
                thing.close()
            await asyncio.sleep(0)

    def own(self, number):
        mine = random.Random(self.seed * 10 + number)
        while not self.stop:
            try:
                if number == 0:
                    with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
                        runner.run(self.live(mine))
                else:
                    treadle.run(self.live(mine), procs=SEVERAL)
            except BaseException:  # a cancellation, a deadlock that was found …
                self.errors += 1

    def call(self, thing, random, others):
        name = random.choice(names(type(thing)))
        pool = [None, 0, 1, b"x", "s", int, 0.001, (), [b"a"], thing, random.choice(others)]
        try:
            value = getattr(thing, name)
            if callable(value):
                value = value(*(random.choice(pool) for _ in range(random.choice((0, 0, 1, 1, 2)))))
            if asyncio.iscoroutine(value):
                value.close()
            self.calls += 1
        except (Exception, asyncio.CancelledError):
            pass

    def meddle(self, number):
        mine = random.Random(self.seed * 100 + number)
        while not self.stop:
            with self.lock:
                others = list(self.seen)
            if not others:
                time.sleep(0.001)
                continue
            self.call(mine.choice(others), mine, others)
            if mine.random() < 0.002:
                gc.collect()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: None
    m = Meddle(seed)
    threads = [threading.Thread(target=m.own, args=(i,), daemon=True) for i in range(2)]
    threads += [threading.Thread(target=m.meddle, args=(i,), daemon=True) for i in range(3)]
    for t in threads:
        t.start()
    time.sleep(seconds)
    m.stop = True
    for t in threads:
        t.join(60)
    hung = sum(t.is_alive() for t in threads)
    if hung:
        faulthandler.dump_traceback(all_threads=True)
    print(f"meddle: seed {seed}, {m.calls} calls, {m.errors} errors of the loops, {hung} threads hung", flush=True)
    os._exit(1 if hung else 0)


main()
