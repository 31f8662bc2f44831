# SPDX-License-Identifier: MIT
"""RWMutex."""

import asyncio
import gc
import random
import threading
import weakref

import pytest
import treadle
from conftest import script, turns, until
from treadle import RWMutex


def free(rw):
    if rw.try_lock():
        rw.unlock()
        return True
    return False


def test_readers_share_and_writers_exclude(spawn, drive):
    async def main():
        rw, readers, writers, most = RWMutex(), 0, 0, 0

        async def read():
            nonlocal readers, most
            async with rw.read():
                readers += 1
                most = max(most, readers)
                assert writers == 0
                await treadle.yield_()
                readers -= 1

        async def write():
            nonlocal writers
            async with rw.write():
                writers += 1
                assert writers == 1 and readers == 0
                await treadle.yield_()
                writers -= 1

        ts = [spawn(write() if i % 5 == 0 else read()) for i in range(60)]
        for t in ts:
            await t
        assert most > 1 and free(rw)

    drive(main)


def test_nobody_starves(spawn, drive):
    """A writer that waits keeps readers out; those go before the next writer."""

    async def main():
        rw, order = RWMutex(), []

        async def write(name):
            async with rw.write():
                order.append(name)
                await turns()

        async def read(name):
            async with rw.read():
                order.append(name)

        await rw.rlock()
        assert rw.try_rlock() and not rw.try_lock()
        ts = [spawn(write("w1"))]
        await turns()
        assert not rw.try_rlock()
        ts += [spawn(read("r1")), spawn(read("r2"))]
        await turns()
        ts.append(spawn(write("w2")))
        await turns()
        assert order == []
        rw.runlock()
        await turns()
        assert order == []
        rw.runlock()
        for t in ts:
            await t
        assert order[0] == "w1" and sorted(order[1:3]) == ["r1", "r2"] and order[3] == "w2"
        assert free(rw)

    drive(main)


def test_a_writer_that_gives_up_lets_readers_in(spawn, drive):
    async def main():
        rw = RWMutex()

        async def hold(side):
            async with side:
                await treadle.sleep(50)

        await rw.rlock()
        w = spawn(hold(rw.write()))
        await turns()
        r = spawn(hold(rw.read()))
        await turns()
        assert not rw.try_rlock()
        w.cancel()
        await asyncio.wait([w])
        await turns()
        assert w.cancelled() and rw.try_rlock()
        for _ in range(2):
            rw.runlock()
        assert not free(rw)  # r reads
        r.cancel()
        await asyncio.wait([r])
        assert free(rw)
        with pytest.raises(TimeoutError):
            async with rw.write(), treadle.timeout(0.002):
                await rw.rlock()
        assert free(rw)

    drive(main)


@pytest.mark.parametrize("side", ["read", "write"])
def test_handed_over_in_the_turn_of_the_cancellation(side, spawn, drive):
    async def main():
        rw = RWMutex()

        async def body():
            async with getattr(rw, side)():
                await treadle.sleep(20)

        for _ in range(30):
            await rw.lock()
            t = spawn(body())
            await turns()
            rw.unlock()
            t.cancel()
            await asyncio.wait([t])
            assert t.cancelled() and free(rw)

    drive(main)


def test_misuse(drive):
    async def main():
        rw = RWMutex()
        for wrong in (rw.unlock, rw.runlock):
            with pytest.raises(RuntimeError, match="RWMutex.*nobody has locked for"):
                wrong()
        await rw.rlock()
        with pytest.raises(RuntimeError, match="for writing"):
            rw.unlock()
        rw.runlock()
        await rw.lock()
        with pytest.raises(RuntimeError, match="for reading"):
            rw.runlock()
        treadle.go(later(rw.unlock))
        async with rw.read():  # another may unlock it
            pass
        with pytest.raises(TypeError):
            RWMutex(1)

    drive(main)


async def later(f):
    await treadle.sleep(0.001)
    f()


def test_dropped_while_it_is_held(drive):
    async def main():
        for lock in (RWMutex.lock, RWMutex.rlock):
            rw = RWMutex()
            await lock(rw)
            gone = weakref.ref(rw)
            del rw
            gc.collect()
            assert gone() is None
            again = RWMutex()
            assert free(again)

    drive(main)


def test_loops_of_several_threads():
    """One lock, three loops: a counter under it is never torn."""
    rw, shared, wrong = RWMutex(), [0, 0], []

    async def work(seed):
        rng = random.Random(seed)
        for _ in range(100):
            if rng.random() < 0.3:
                async with rw.write():
                    shared[0] += 1
                    await treadle.yield_()
                    shared[1] += 1
            else:
                async with rw.read():
                    if shared[0] != shared[1]:
                        wrong.append(tuple(shared))
                    await treadle.yield_()

    async def main(seed):
        async with treadle.scope() as s:
            for i in range(5):
                s.go(work(seed * 100 + i))

    threads = [
        threading.Thread(target=run, args=(main(seed),))
        for seed, run in enumerate([treadle.run, asyncio.run, treadle.run])
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == [] and shared[0] == shared[1] > 0 and free(rw)


def test_with_goroutines_in_c():
    """The lock is the core's: its function is a goroutine, there."""
    out = script("""
        import asyncio, ctypes, treadle
        core = ctypes.CDLL("libtreadle.so.0")
        core.tdl_go.argtypes = core.tdl_rwmutex_unlock.argtypes = [ctypes.c_void_p] * 2
        core.tdl_rwmutex_unlock.argtypes = [ctypes.c_void_p]

        def go(function, handle):
            core.tdl_go(ctypes.cast(function, ctypes.c_void_p), handle._address)

        async def main():
            rw = treadle.RWMutex()
            async with rw.read():
                go(core.tdl_rwmutex_lock, rw)
                while rw.try_rlock():  # until the goroutine waits
                    rw.runlock()
                    await treadle.sleep(0.001)
            while not (kept := core.tdl_rwmutex_unlock(rw._address)) == 0:
                assert kept == -4106  # not locked yet
                await treadle.sleep(0.001)
            await rw.lock()
            go(core.tdl_rwmutex_rlock, rw)
            await treadle.sleep(0.005)
            rw.unlock()
            while rw.try_lock():
                rw.unlock()
                await treadle.sleep(0.001)
            wg, eg = treadle.WaitGroup(), treadle.ErrGroup()
            wg.add(2)
            go(core.tdl_waitgroup_done, wg)
            go(core.tdl_waitgroup_done, wg)
            await wg.wait()
            m = treadle.Mutex()
            await m.lock()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(m))  # the goroutine's: it may be in unlock when we are beyond
            go(core.tdl_mutex_unlock, m)
            await m.lock()
            print("done")

        treadle.run(main())
    """)
    assert (out.stdout, out.stderr) == ("done\n", "")


def test_stress(drive):
    async def main():
        rw, readers, writers = RWMutex(), 0, 0
        rng = random.Random(7)

        async def body(i):
            nonlocal readers, writers
            for _ in range(20):
                try:
                    async with treadle.timeout(rng.choice([0.0001, 0.01, 5])):
                        if rng.random() < 0.4:
                            async with rw.write():
                                writers += 1
                                assert (readers, writers) == (0, 1)
                                try:
                                    await treadle.yield_()
                                finally:
                                    writers -= 1
                        else:
                            async with rw.read():
                                readers += 1
                                assert writers == 0
                                try:
                                    await treadle.yield_()
                                finally:
                                    readers -= 1
                except TimeoutError:
                    pass

        async with treadle.scope() as s:
            for i in range(20):
                s.go(body(i))
        await until(lambda: free(rw))
        assert (readers, writers) == (0, 0)

    drive(main)
