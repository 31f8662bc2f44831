# SPDX-License-Identifier: MIT
"""The package in a process: Ctrl-C, fork, development mode, stopping a loop,
several threads, the import."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import treadle
from conftest import DRIVERS, drive_guest, drive_loop, drive_run, script

RUN = {
    "run": "treadle.run(main())",
    "loop": "asyncio.Runner(loop_factory=treadle.new_event_loop).run(main())",
    "guest": "asyncio.run(main())",
}


@pytest.mark.parametrize("how", list(RUN))
@pytest.mark.parametrize("waits", ["recv", "sleep", "busy", "future", "read"])
def test_ctrl_c(how, waits):
    """KeyboardInterrupt, as asyncio.run has it: main is cancelled, everything is
    unwound, and it ends soon."""
    program = textwrap.dedent("""
        import asyncio, sys
        import treadle

        held = []  # else the collector takes who waits for it

        async def wait(kind):
            if kind == "recv":
                held.append(treadle.Chan())
                await held[-1].recv()
            elif kind == "sleep":
                await treadle.sleep(100)
            elif kind == "future":
                held.append(asyncio.get_running_loop().create_future())
                await held[-1]
            elif kind == "read":
                listener = await treadle.listen("tcp", "127.0.0.1:0")
                async with await treadle.dial("tcp", listener.address) as conn, listener:
                    await conn.read(1)
            while True:
                await treadle.yield_()

        async def left():
            try:
                await wait(sys.argv[1])
            finally:
                print("unwound", flush=True)

        async def main():
            treadle.go(left())
            asyncio.get_running_loop().call_later(60, print)  # else it is a deadlock
            print("ready", flush=True)
            try:
                await wait(sys.argv[1])
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise

        try:
            RUN
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """).replace("RUN", RUN[how])
    if how == "loop":
        program = program.replace("asyncio.Runner", "runner = asyncio.Runner").replace(
            ".run(main())", "\n    with runner: runner.run(main())")
    p = subprocess.Popen([sys.executable, "-c", program, waits], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    time.sleep(0.05)
    p.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, err = p.communicate(timeout=10)
    assert time.monotonic() - start < 5
    assert out.splitlines()[0] == "cancelled" and out.splitlines()[-1] == "interrupted", (out, err)
    assert "unwound" in out and p.returncode == 0 and "Traceback" not in err


def test_many_interrupts_in_a_row():
    """Ctrl-C at any moment: each run ends by KeyboardInterrupt, nothing breaks."""
    out = script("""
        import os, signal, threading, time
        import treadle

        async def main():
            a, b = treadle.Chan(), treadle.Chan()

            async def pong():
                async for v in a:
                    await b.send(v)

            g = treadle.go(pong())
            while True:
                await a.send(1)
                await b.recv()
                await treadle.sleep(0.0001)

        ended = 0
        for i in range(30):
            timer = threading.Timer(0.005 + i % 7 * 0.001, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                treadle.run(main())
            except KeyboardInterrupt:
                ended += 1
            timer.join()
        print(ended, treadle.metric("goroutines"), treadle.metric("tasks"))
    """)
    assert out.stdout == "30 0 0\n", out


def test_fork():
    """In the child every call says that there is no runtime; the parent goes on."""
    out = script("""
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore")
        import treadle

        shared = treadle.SharedChan(2)

        async def main():
            ch = treadle.Chan(2)
            await ch.send("before")
            pid = os.fork()
            if pid == 0:
                said = 0
                for call in (lambda: ch.try_recv(), lambda: treadle.go(never()),
                             lambda: treadle.sleep(1).send(None), lambda: shared.try_send(1),
                             lambda: shared.recv_sync(), lambda: ch.recv().send(None),
                             lambda: treadle.Mutex().try_lock()):
                    try:
                        call()
                        print("no error", call.__code__.co_firstlineno, file=sys.stderr)
                    except RuntimeError as error:
                        said += "fork" in str(error)
                    except MemoryError:
                        said += 1
                os._exit(said)
            _, status = os.waitpid(pid, 0)
            print("child", os.waitstatus_to_exitcode(status))
            await treadle.sleep(0.01)
            return await ch.recv()

        async def never():
            pass

        print(treadle.run(main()))

        pid = os.fork()
        if pid == 0:
            async def fresh():
                await treadle.sleep(0.01)
            said = 0
            for run in (treadle.run, asyncio.run):
                try:
                    run(fresh())
                except RuntimeError as error:
                    said += "fork" in str(error)
            async def plain():
                await asyncio.sleep(0.001)
                return 4
            os._exit(said + asyncio.run(plain()))
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(treadle.run(main()))
    """)
    assert out.stdout.splitlines() == ["child 7", "before", "child 6", "child 7", "before"], out


def test_a_program_for_asyncio_goes_on_in_the_child_of_a_fork():
    """Servers that fork after their program has run a loop: the child's loops are asyncio's own."""
    out = script("""
        import asyncio, os, socket, sys, treadle, warnings

        async def talk():
            server = await asyncio.start_server(lambda r, w: w.write(b"hello\\n"), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            line = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            server.close()
            return line.decode().strip(), type(asyncio.get_running_loop()) is treadle.Loop

        def run(main):
            with asyncio.Runner(loop_factory=treadle.new_event_loop) as runner:
                return runner.run(main)

        async def forks():
            return in_child()

        async def starts():
            treadle.go(talk())

        def in_child():
            if pid := os.fork():
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    print(run(talk()), [
                        (w.category.__name__, "fork" in str(w.message)) for w in caught if w.category is not ResourceWarning])
                if sys.version_info < (3, 14):
                    warnings.simplefilter("ignore")
                    treadle.install()
                    print(asyncio.run(talk()))
                warnings.simplefilter("ignore")
                run(starts())
            except RuntimeError as error:
                print(str(error)[:45], flush=True)
                os._exit(3)
            finally:
                os._exit(4)

        print(run(talk()), flush=True)
        print(in_child(), flush=True)
        print(run(forks()), flush=True)
    """)
    child = ["('hello', False) [('RuntimeWarning', True)]", "('hello', False)", "treadle cannot be used in the child of a fork", "3"]
    if sys.version_info >= (3, 14):
        del child[1]
    assert out.stdout.splitlines() == ["('hello', True)", *child, *child], out


def test_subprocesses_of_asyncio(drive):
    """asyncio's subprocesses beside goroutines (they fork, and exec)."""

    async def main():
        async def child(n):
            p = await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"print({n})", stdout=asyncio.subprocess.PIPE)
            out, _ = await p.communicate()
            return int(out)

        gs = [treadle.go(child(n)) for n in range(2)]
        return [await g for g in gs]

    assert drive(main) == [0, 1]


def test_development_mode_is_quiet():
    """-X dev, PYTHONASYNCIODEBUG: no warning, no complaint."""
    program = """
        import asyncio, gc, treadle
        async def serve(l):
            async for c in l:
                async with c:
                    await c.write(await c.readline())
        async def main():
            ch = treadle.Chan(1)
            async with await treadle.listen("tcp", "127.0.0.1:0") as l:
                treadle.go(serve(l))
                async with await treadle.dial("tcp", l.address) as c:
                    await c.write(b"x\\n")
                    await ch.send(await c.readline())
            async with treadle.scope() as s:
                s.go(treadle_sleep())
            await asyncio.sleep(0.001)
            print(await ch.recv())
        async def treadle_sleep():
            await treadle.sleep(0.001)
        treadle.run(main(), debug=True)
        treadle.run(main())
        asyncio.run(main())
        gc.collect()
    """
    env = {**os.environ, "PYTHONASYNCIODEBUG": "1"}
    out = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
                         capture_output=True, text=True, timeout=20, env=env)
    assert (out.returncode, out.stdout, out.stderr) == (0, "b'x\\n'\n" * 3, ""), out


def test_run_with_debug():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert treadle.run(main(), debug=True) is True
    assert treadle.run(main(), debug=False) is False


def test_the_loop_of_run():
    async def main():
        loop = asyncio.get_running_loop()
        assert isinstance(loop, treadle.Loop) and isinstance(loop, asyncio.AbstractEventLoop)
        assert asyncio.current_task().get_name() == "main"
        return loop

    loop = treadle.run(main())
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()


def test_stop_and_run_again():
    loop = treadle.new_event_loop()
    log = []

    async def ticker():
        while True:
            log.append(1)
            await treadle.sleep(0.001)

    async def start():
        return treadle.go(ticker())

    g = loop.run_until_complete(start())
    for _ in range(3):
        loop.call_later(0.01, loop.stop)
        before = len(log)
        loop.run_forever()
        assert len(log) > before

    async def stop_from_a_goroutine():
        treadle.go(stopper())
        await treadle.sleep(100)

    async def stopper():
        await treadle.yield_()
        loop.stop()

    task = loop.create_task(stop_from_a_goroutine())
    loop.run_forever()
    task.cancel()
    g.cancel()
    loop.run_until_complete(asyncio.wait([g, task]))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_call_soon_threadsafe(drive):
    async def main():
        loop, got = asyncio.get_running_loop(), asyncio.Event()
        threading.Timer(0.02, loop.call_soon_threadsafe, [got.set]).start()
        start = time.monotonic()
        await got.wait()
        assert time.monotonic() - start < 2

    drive(main)


def test_a_loop_made_here_and_run_there():
    async def main():
        await treadle.sleep(0.001)
        return threading.get_ident()

    loop = treadle.new_event_loop()
    ran = []
    t = threading.Thread(target=lambda: (ran.append(loop.run_until_complete(main())), loop.close()))
    t.start()
    t.join()
    assert ran == [t.ident]


def test_a_loop_that_another_thread_closes():
    """Its host waits for its own thread, and takes nothing down."""
    loop = asyncio.new_event_loop()

    async def main():
        treadle.go(sleeper())
        await treadle.sleep(0.001)

    async def sleeper():
        await treadle.sleep(100)

    loop.run_until_complete(main())
    loop.set_exception_handler(lambda loop, context: None)
    t = threading.Thread(target=loop.close)
    t.start()
    t.join()
    treadle.run(quick())  # this thread's next host closes the other
    del loop


async def quick():
    await treadle.sleep(0.001)


@pytest.mark.parametrize("first", list(DRIVERS))
@pytest.mark.parametrize("second", list(DRIVERS))
def test_one_after_another(first, second):
    async def main():
        ch = treadle.Chan()
        treadle.go(send(ch))
        return await ch.recv()

    async def send(ch):
        await ch.send("x")

    for how in (first, second, first):
        assert DRIVERS[how](main) == "x"


def test_loops_in_many_threads():
    results = []

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async def serve():
                async with await listener.accept() as c:
                    await c.write(await c.readline())

            treadle.go(serve())
            async with await treadle.dial("tcp", listener.address) as c:
                await c.write(b"x\n")
                results.append(await c.readline())

    threads = [threading.Thread(target=f, args=(main,))
               for f in (drive_run, drive_loop, drive_guest) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [b"x\n"] * 12


def test_signal_handlers_of_asyncio(drive):
    async def main():
        loop, got = asyncio.get_running_loop(), treadle.Chan(1)
        loop.add_signal_handler(signal.SIGUSR1, lambda: got.try_send("signal"))
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        try:
            async with treadle.timeout(5):
                return await got.recv()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    assert drive(main) == "signal"
    assert signal.set_wakeup_fd(-1) == -1


def test_the_wakeup_descriptor_is_given_back():
    r, w = os.pipe()
    os.set_blocking(w, False)
    before = signal.set_wakeup_fd(w)
    try:
        treadle.run(quick())
        assert signal.set_wakeup_fd(w) == w
    finally:
        signal.set_wakeup_fd(before)
        os.close(r)
        os.close(w)


def test_loops_without_readers():
    """A loop that cannot watch descriptors is refused clearly."""

    class Bare(asyncio.SelectorEventLoop):
        def add_reader(self, *args):
            raise NotImplementedError

    async def main():
        with pytest.raises(RuntimeError, match="no add_reader"):
            await treadle.sleep(1)
        return "alive"

    loop = Bare()
    assert loop.run_until_complete(main()) == "alive"
    loop.close()


def test_documentation():
    """help() has something to say about everything."""
    for name in treadle.__all__:
        thing = getattr(treadle, name)
        assert thing.__doc__, name
        if isinstance(thing, type):
            for attribute, value in vars(thing).items():
                if not attribute.startswith("_") and (callable(value) or hasattr(value, "__get__")):
                    assert value.__doc__, f"{name}.{attribute}"


def test_workers_example_on_asyncio_run():
    path = os.path.join(os.path.dirname(__file__), "../../examples/python")
    out = script("""
        import asyncio, sys
        sys.path.insert(0, sys.argv[1])
        import treadle, workers
        treadle.run(workers.main())
        if sys.version_info >= (3, 12):
            asyncio.run(workers.main(), loop_factory=treadle.new_event_loop)
        asyncio.run(workers.main())
    """, path)
    lines = 3 if sys.version_info >= (3, 12) else 2
    assert out.stdout == "338350\n" * lines, out


@pytest.mark.parametrize("how", ["asyncio", "treadle"])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_interpreter_ends_with_things_left(how, where):
    """Loops never closed, goroutines waiting, finally blocks that still call
    treadle: no crash."""
    out = script("""
        import asyncio, sys, threading, time
        import treadle

        async def forever(keep=[]):
            ch = treadle.Chan(1)
            try:
                await ch.send(ch)
                keep.append(ch)
                await treadle.select(treadle.Chan().recv_op(), treadle.Chan().send_op(ch))
            finally:
                for f in (lambda: treadle.sleep(1).send(None), lambda: treadle.go(forever()),
                          lambda: ch.try_recv(), treadle.Chan, treadle.SharedChan):
                    try:
                        f()
                    except BaseException:
                        pass

        async def main():
            treadle.go(forever())
            loop.kept = asyncio.create_task(forever())
            await treadle.sleep(0.001)
            m = treadle.Mutex()
            await m.lock()
            treadle.go(lock(m))
            if sys.argv[2] == "thread":
                print("ready", flush=True)
                await treadle.sleep(100)

        async def lock(m):
            await m.lock()

        make = asyncio.new_event_loop if sys.argv[1] == "asyncio" else treadle.new_event_loop
        loop = make()
        if sys.argv[2] == "main":
            loop.run_until_complete(main())
            print("ready", flush=True)
        else:
            threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True).start()
            time.sleep(0.2)
    """, how, where)
    assert (out.returncode, out.stdout) == (0, "ready\n"), out
