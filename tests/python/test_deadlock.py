# SPDX-License-Identifier: MIT
"""A run in which nothing can happen any more raises DeadlockError, with the stacks
of all; one in which something may still happen does not. Each in a process of
its own: the harness has a handler for a signal."""

import asyncio
import textwrap

import pytest
import treadle
from conftest import script

MESSAGE = "treadle: all goroutines are asleep - deadlock!"

PROGRAM = """
import asyncio, os, signal, subprocess, sys, threading, time, treadle

{0}

try:
    treadle.run(main())
    print("fine")
except treadle.DeadlockError as e:
    print(e)
"""


def run(text):
    done = script(PROGRAM.format(textwrap.dedent(text)))
    assert done.returncode == 0, done.stderr
    return done


def stuck(text):
    done = run(text)
    assert done.stdout.splitlines()[-1] == "all goroutines are asleep - deadlock!"
    assert done.stderr.count(MESSAGE) == 1
    return done


def goes_on(text):
    done = run(text)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_it_is_a_runtime_error():
    assert issubclass(treadle.DeadlockError, RuntimeError)


def test_main_waits_for_nothing():
    report = stuck("""
        async def forever(ch):
            return await ch.recv()

        async def main():
            await forever(treadle.Chan())
    """).stderr
    assert "[chan receive, 0x" in report
    assert "in forever" in report and "in main" in report


def test_all_together_each_with_its_stack():
    report = stuck("""
        async def first(a, b):
            await b.recv()
            await a.send(1)

        async def second(a, b):
            await a.recv()
            await b.send(1)

        async def locked(m):
            await m.lock()

        async def task(ch):
            await ch.recv()

        async def main():
            a, b, m = treadle.Chan(), treadle.Chan(), treadle.Mutex()
            await m.lock()
            treadle.go(locked(m))
            g = treadle.go(first(a, b), name="the first")
            t = asyncio.create_task(task(a))
            await second(a, b)
    """).stderr
    for name in ("in first", "in second", "in locked", "in task", "]: the first", "held by goroutine"):
        assert name in report


def test_it_may_come_late_and_what_waits_is_unwound():
    out = stuck("""
        async def other(ch):
            try:
                await ch.recv()
            except asyncio.CancelledError:
                print("told")
                raise

        async def main():
            treadle.go(other(treadle.Chan()))
            await asyncio.sleep(0.05)
            await treadle.sleep(0.05)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                print("unwound")
    """).stdout
    assert sorted(out.splitlines()[:2]) == ["told", "unwound"]


def test_another_run_is_as_good_as_ever():
    done = script("""
        import treadle

        async def stuck():
            await treadle.Chan().recv()

        async def well():
            return 7

        for _ in range(2):
            try:
                treadle.run(stuck())
            except treadle.DeadlockError:
                print("stuck")
        print(treadle.run(well()))
    """)
    assert done.stdout.split() == ["stuck", "stuck", "7"]


NO_DEADLOCK = {
    "timers": """
        async def main():
            await asyncio.sleep(0.1)
            await treadle.sleep(0.1)
            ch = treadle.Chan()
            asyncio.get_running_loop().call_later(0.1, ch.try_send, 1)
            with contextlib.suppress(TimeoutError):
                async with treadle.timeout(0.3):
                    await ch.recv()
    """,
    "an executor": """
        async def main():
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
            await asyncio.to_thread(time.sleep, 0.2)
    """,
    "a thread that calls": """
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()

            def late():
                time.sleep(0.2)
                loop.call_soon_threadsafe(event.set)

            threading.Thread(target=late).start()
            await event.wait()
    """,
    "a thread that sends": """
        async def main():
            ch = treadle.SharedChan()

            def late():
                time.sleep(0.2)
                ch.send_sync(1)

            threading.Thread(target=late).start()
            assert await ch.recv() == 1
    """,
    "a descriptor of asyncio's": """
        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "0.2")
            await process.wait()
            reader, writer = os.pipe()
            with subprocess.Popen(["sh", "-c", "sleep 0.2; echo x"], stdout=writer):
                event = asyncio.Event()
                asyncio.get_running_loop().add_reader(reader, event.set)
                await event.wait()
                asyncio.get_running_loop().remove_reader(reader)
    """,
    "a connection": """
        async def main():
            listener = await treadle.listen("tcp", "127.0.0.1:0")
            text = f"sleep 0.2; exec 3<>/dev/tcp/127.0.0.1/{listener.port}"
            with subprocess.Popen(["bash", "-c", text]):
                conn = await listener.accept()
                conn.close()
            listener.close()
    """,
    "a signal": """
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, event.set)
            with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -USR1 {os.getpid()}"]):
                await event.wait()
            loop.remove_signal_handler(signal.SIGUSR1)
            event.clear()
            signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(event.set))
            with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -USR2 {os.getpid()}"]):
                await event.wait()
    """,
    "an interrupt that is handled": """
        async def main():
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGINT, event.set)
            with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -INT {os.getpid()}"]):
                await event.wait()
            loop.remove_signal_handler(signal.SIGINT)
            event.clear()
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(event.set))
            with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -INT {os.getpid()}"]):
                await event.wait()
    """,
}


@pytest.mark.parametrize("text", NO_DEADLOCK.values(), ids=NO_DEADLOCK)
def test_none_is_seen_where_something_may_come_by(text):
    goes_on("import contextlib\n" + textwrap.dedent(text))


def test_on_other_loops_and_in_foreign_ones_nothing_is_said():
    done = script("""
        import asyncio, os, signal, subprocess, treadle

        signal.signal(signal.SIGINT, signal.default_int_handler)

        async def main():
            await treadle.Chan().recv()

        for factory in (treadle.new_event_loop, None):
            with subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}"]):
                try:
                    with asyncio.Runner(loop_factory=factory) as runner:
                        runner.run(main())
                except KeyboardInterrupt:
                    print("interrupted")
    """)
    assert (done.stdout.split(), done.stderr) == (["interrupted"] * 2, "")


def test_a_circle_of_mutexes_is_a_deadlock_error(drive, capfd):
    async def both(x, y):
        async with x:
            await treadle.yield_()
            async with y:
                pass

    async def main():
        a, b = treadle.Mutex(), treadle.Mutex()
        pair = treadle.go(both(a, b)), treadle.go(both(b, a))
        return await asyncio.gather(*pair, return_exceptions=True)

    results = drive(main)
    assert [type(r) for r in results if r is not None] == [treadle.DeadlockError]
    assert capfd.readouterr().err.count("its call returns TDL_EDEADLOCK") == 1


def test_a_mutex_that_was_disowned_is_nobodys(drive):
    async def main():
        m = treadle.Mutex()
        with pytest.raises(RuntimeError):
            m.disown()
        await m.lock()
        m.disown()

        async def unlock():
            await treadle.sleep(1.2)
            m.unlock()

        g = treadle.go(unlock())
        await m.lock()
        m.unlock()
        await g

    drive(main)
