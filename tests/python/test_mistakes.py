# SPDX-License-Identifier: MIT
"""What a newcomer gets wrong: the error names what was given and says what to do, the traceback
ends in the program's own line, nothing hangs and nothing is lost without a word."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from pathlib import Path

import pytest
import treadle
import treadle.sim
from treadle import fs


def said(kind, function, *args, **kwargs):
    """The text of the error that the call, or the wait for its result, raises in treadle.run."""

    async def main():
        result = function(*args, **kwargs)
        if hasattr(result, "__await__"):
            await result

    with pytest.raises(kind) as caught:
        treadle.run(main())
    assert type(caught.value) is kind
    return str(caught.value)


def lines_of(error):
    return [frame.line for frame in traceback.extract_tb(error.__traceback__)]


def plain():
    return 3


async def coroutine_function(*args):
    return args


# -- Goroutines --------------------------------------------------------------------


@pytest.mark.parametrize("start", [treadle.go, lambda f: treadle.WaitGroup().go(f)], ids=["go", "WaitGroup.go"])
def test_a_function_instead_of_its_coroutine(start):
    text = said(TypeError, start, coroutine_function)
    assert text.startswith("a coroutine was expected, got <function coroutine_function at")
    assert text.endswith("; call it to get one")
    assert said(TypeError, start, plain()) == "a coroutine was expected, got 3"


def test_a_function_with_its_arguments():
    text = said(TypeError, treadle.go, coroutine_function, 1, 2)
    assert text.startswith("go() takes a coroutine, not <function coroutine_function at")
    assert text.endswith("and its arguments; call it to get one")
    with pytest.raises(ValueError, match="got <function .*; call it to get one"):
        treadle.run(coroutine_function)


def test_one_operation_awaited_by_two(drive):
    async def main():
        channel = treadle.Chan()
        receiving = channel.recv()

        async def wait():
            return await receiving

        first, second = treadle.go(wait()), treadle.go(wait())
        with pytest.raises(RuntimeError, match="^recv is being awaited already, by another"):
            await second
        await channel.send(1)
        assert await first == 1
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited recv$"):
            await receiving

    drive(main)


def test_a_missing_await_is_named_where_the_result_is_used(drive):
    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            connecting = treadle.dial("tcp", listener.address)
            with pytest.raises(AttributeError, match=r"^<treadle dial, not started> has no attribute 'write': dial\(\) is to be awaited$"):
                connecting.write(b"x")
            conn = await connecting
            with pytest.raises(AttributeError, match="'treadle.Op' object has no attribute 'write'$"):
                connecting.write(b"x")  # not what is missing here
            conn.close()
        opening = treadle.listen("tcp", "127.0.0.1:0")
        with pytest.raises(AttributeError, match="has no attribute 'port': an `await` is missing"):
            opening.port
        (await opening).close()

    drive(main)


def test_async_with_what_is_to_be_awaited_first(drive):
    async def main():
        listening = treadle.listen("tcp", "127.0.0.1:0")
        with pytest.raises(TypeError, match=r"^<treadle result, done> is no context manager: an `await` is missing"):
            async with listening:
                pass
        with pytest.raises(TypeError, match=r"^<treadle dial, not started> is no context manager: dial\(\) is to be awaited"):
            async with treadle.dial("tcp", "127.0.0.1:1"):
                pass
        async with contextlib.AsyncExitStack() as stack:
            connecting = treadle.dial("tcp", "127.0.0.1:1")
            with pytest.raises(TypeError, match=r"dial\(\) is to be awaited"):
                await stack.enter_async_context(connecting)
            connecting.close()
        for acquire in (treadle.Mutex().lock, treadle.Semaphore(1).acquire):
            with pytest.raises(TypeError, match=r"^`async with` takes what is locked itself, and calls (lock|acquire)\(\)$"):
                async with acquire():
                    pass
        (await listening).close()

    drive(main)


def test_unpacked_instead_of_awaited(drive):
    """The wait that this began is given up: it takes nothing from those that come after it."""

    async def main():
        channel = treadle.Chan()
        for wait in (lambda: treadle.select(channel.recv_op()), channel.recv_ok):
            with pytest.raises(RuntimeError, match=r"^(select|recv_ok)\(\) is to be awaited: it cannot be iterated or unpacked$"):
                _, _ = wait()
            await treadle.sleep(0.001)
            assert not channel.try_send(0)
            sending = treadle.go(channel.send(1))
            assert await channel.recv() == 1
            await sending

    drive(main)


def test_a_generator_instead_of_a_coroutine(drive):
    def generator():
        yield

    async def asynchronous():
        yield

    async def main():
        for made in (generator(), asynchronous()):
            with pytest.raises(TypeError, match="^a coroutine was expected, got <.*generator object"):
                treadle.go(made)
        async with treadle.scope() as s:
            with pytest.raises(TypeError, match="is `async def` meant[?]$"):
                s.go(generator())

    drive(main)


def test_a_call_instead_of_the_function(drive):
    async def main():
        begun = treadle.background().with_cancel()
        for call in (
            lambda coro: treadle.after_func(10, coro),
            begun.after_func,
            lambda coro: treadle.Once().do(coro),
            lambda coro: treadle.SingleFlight().do("key", coro),
        ):
            coro = coroutine_function()
            with pytest.raises(TypeError, match="^a function was expected, got <coroutine .*; give the function itself, and its arguments"):
                await call(coro)
            coro.close()
        with pytest.raises(TypeError, match="^after_func: the seconds come first, then the function, got <built-in function print>$"):
            treadle.after_func(print, 10)

    drive(main)


def test_who_is_forgotten_has_a_name():
    async def main():
        async with await treadle.listen_udp("127.0.0.1:0") as u:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                u.recvfrom()
            assert [str(w.message) for w in caught] == ["recvfrom() was never awaited"]

    treadle.run(main())


def test_the_traceback_of_a_cancellation_leads_to_the_program(drive):
    async def inner():
        asyncio.current_task().cancel()
        await treadle.sleep(10)  # here

    async def main():
        await treadle.go(inner())  # and here

    with pytest.raises(asyncio.CancelledError) as caught:
        drive(main)
    lines = lines_of(caught.value)
    assert lines[-1] == "await treadle.sleep(10)  # here"
    assert "await treadle.go(inner())  # and here" in lines


def test_a_cancelled_goroutine_is_asked_more_than_once(drive):
    async def main():
        g = treadle.go(treadle.sleep(10))
        g.cancel("enough")
        for ask in (g.__await__, g.__await__):
            with pytest.raises(asyncio.CancelledError):
                await asyncio.shield(g) if ask is None else await g
        with pytest.raises(asyncio.CancelledError, match="enough"):
            g.result()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            g.exception()

    drive(main)


def test_a_goroutine_is_cancelled_from_its_own_thread_only():
    async def main():
        g = treadle.go(treadle.sleep(10))
        caught = []

        def elsewhere():
            try:
                g.cancel()
            except RuntimeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert caught == ["Non-thread-safe operation invoked on an event loop other than the current one"]
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(g.cancel,))
        thread.start()
        with pytest.raises(asyncio.CancelledError):
            await g
        thread.join()

    treadle.run(main())


def test_the_repr_of_a_goroutine_names_its_function():
    async def waits():
        await treadle.sleep(10)

    async def main():
        g = treadle.go(waits())
        assert repr(g).startswith("<G 'goroutine-") and ".waits() waiting for <treadle sleep, waiting>>" in repr(g)
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g

    treadle.run(main())


# -- Channels, times -----------------------------------------------------------------


def test_capacities():
    for kind in (treadle.Chan, treadle.SharedChan):
        name = kind.__name__
        with pytest.raises(TypeError, match=f"^{name}: cap must be an int, not str$"):
            kind("3")
        with pytest.raises(TypeError, match=f"^{name}: cap must be an int, not NoneType$"):
            kind(None)
        for n in (-1, 2**26 + 1, 2**70, -(2**70)):
            with pytest.raises(ValueError, match=rf"^{name}: cap must be 0 to 2\*\*26, not {n}$"):
                kind(n)


def test_what_was_done_to_a_closed_channel_is_said(drive):
    async def main():
        for kind in (treadle.Chan, treadle.SharedChan):
            ch = kind(1)
            ch.close()
            for call in (lambda: ch.send(1), ch.recv, lambda: ch.try_send(1), ch.try_recv, ch.close):
                with pytest.raises(treadle.ChannelClosed) as caught:
                    result = call()
                    await result
                assert caught.value.args[0].endswith(": the channel is closed")
            with pytest.raises(treadle.ChannelClosed, match="^close: "):
                ch.close()
            with pytest.raises(treadle.ChannelClosed, match="^send: "):
                await ch.send(1)
            with pytest.raises(treadle.ChannelClosed, match="^select: the channel of case 1 is closed") as caught:
                await treadle.select(treadle.after_op(10), ch.recv_op())
            assert caught.value.index == 1

    drive(main)


@pytest.mark.parametrize(
    "make", [lambda s: treadle.timeout(s), lambda s: treadle.scope(timeout=s)], ids=["timeout", "scope"]
)
def test_times_that_are_none(make):
    assert said(TypeError, make, "1") == "timeout must be a number of seconds, not str"
    assert said(ValueError, make, float("nan")) == "timeout must not be NaN"
    assert said(TypeError, treadle.scope, 1.5) == "scope: the parent is a Scope or a Context, not float"


# -- Connections, servers -------------------------------------------------------------


def test_what_a_shared_channel_does_not_carry(drive):
    async def main():
        channel = treadle.SharedChan(1)
        with pytest.raises(TypeError, match="^a shared channel carries None, bool, .* not set$"):
            await channel.send({1})
        pytest.importorskip("msgpack")
        for value in ((1, channel), [{1}], {"a": object()}):
            with pytest.raises(TypeError, match=f"^a {type(value).__name__} crosses a shared channel as MessagePack: "):
                await channel.send(value)
        await channel.send((1, "a"))
        assert await channel.recv() == [1, "a"]

    drive(main)


def test_a_shared_channel_without_msgpack(tmp_path):
    done = run_program(
        tmp_path,
        """
        import sys
        sys.modules["msgpack"] = None

        async def main():
            await treadle.SharedChan(1).send((1, 2))

        treadle.run(main())
        """,
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: dicts, lists and tuples cross shared channels as MessagePack: install the msgpack package (pip install msgpack)"
    )


def test_addresses():
    assert said(TypeError, treadle.dial, "127.0.0.1", 80).startswith('dial: an address ("host:port", or a path)')
    assert said(TypeError, treadle.dial, "tcp", ("127.0.0.1", 80)) == (
        "dial: an address is \"host:port\", not the pair ('127.0.0.1', 80)"
    )
    assert said(ValueError, treadle.dial, "127.0.0.1:80", "tcp").endswith(
        '(the network comes first, "tcp" or "unix", then the address; datagrams have listen_udp and dial_udp)'
    )
    assert said(ValueError, treadle.listen, "tcp", "127.0.0.1").endswith('the port is missing or out of range ("host:port")')


def test_an_option_is_no_text(drive):
    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            async with await treadle.dial("tcp", listener.address) as conn:
                with pytest.raises(TypeError, match="^the option is on or off, True or False, not str$"):
                    conn.set_option("nodelay", "no")
                conn.set_option("nodelay", False)
                assert conn.option("nodelay") is False

    drive(main)


def test_what_is_no_handler():
    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        coro = coroutine_function(None)
        with pytest.raises(TypeError, match="^serve: the handler must be an async function, not <coroutine"):
            treadle.serve(listener, coro)
        coro.close()
        opening = treadle.listen("tcp", "127.0.0.1:0")
        with pytest.raises(TypeError, match=r"^serve: a Listener is required; listen\(\) is to be awaited$"):
            treadle.serve(opening, coroutine_function)
        (await opening).close()
        with pytest.raises(TypeError, match="^serve: a Listener is required: await treadle.listen"):
            treadle.serve("127.0.0.1:0", coroutine_function)
        listener.close()

    treadle.run(main())


def test_a_handler_that_is_no_coroutine_function(drive):
    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        async with treadle.serve(listener, lambda conn: None):
            async with await treadle.dial("tcp", listener.address) as conn:
                await conn.write(b"x")
                try:
                    assert await conn.read(1) == b""
                except ConnectionResetError:
                    pass
        gc.collect()
        (report,) = reports
        assert "serve: the handler returned None, which cannot be awaited: <function" in str(report["exception"])

    try:
        drive(main)
    except TypeError as error:  # treadle.run raises what nobody awaited
        assert "serve: the handler returned None" in str(error)


def test_a_servers_listener_tells_its_address(drive):
    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        before = listener.address, listener.port
        async with treadle.serve(listener, coroutine_function):
            assert (listener.address, listener.port) == before
            assert repr(listener) == f"<Listener on {before[0]}, of a server>"
            for call in (listener.accept, lambda: listener.option("nodelay"), listener.fileno):
                with pytest.raises(treadle.Closed, match=before[0]):
                    await call()
        listener.close()
        assert listener.closed

    drive(main)


# -- Files, processes -----------------------------------------------------------------


def test_files(tmp_path):
    async def main():
        path = tmp_path / "f"
        with pytest.raises(TypeError, match="^write_text: a str is required, not bytes$"):
            await fs.write_text(path, b"x")
        await fs.write_text(path, "x")
        with pytest.raises(ValueError, match=r"invalid mode: 'rt' \(files are of bytes"):
            await treadle.open_file(path, "rt")
        f = await treadle.open_file(path)
        with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
            await f.read("1")
        with pytest.raises(OSError, match=r"cannot be polled \(a regular file\? treadle.open_file"):
            treadle.fd(f)
        f.close()
        with pytest.raises(treadle.Closed, match=f"use of a closed file: '{path}'"):
            await f.read()
        f = await treadle.open_file(path)
        with pytest.warns(ResourceWarning, match=f"unclosed file <treadle.fs.File '{path}'>"):
            del f
            gc.collect()

    treadle.run(main())


def test_processes():
    text = said(TypeError, treadle.process, "ls -l")
    assert text.startswith("process: a list of the program and its arguments is required, not 'ls -l'")
    assert "'pipe'" in said(ValueError, treadle.process, ["true"], stdin="pip")
    assert "'pipe'" in said(ValueError, treadle.process, ["true"], stdout=subprocess.PIPE)

    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            treadle.process(["true"], cwd="/nowhere")
        assert caught.value.filename == "/nowhere"
        async with treadle.process(["true"]) as p:
            with pytest.raises(ValueError, match='without stdin="pipe"'):
                await p.communicate(b"x")
            with pytest.raises(TypeError, match="bytes-like object is required, not str"):
                await p.communicate("x")
            assert await p.communicate() == (b"", b"")

    treadle.run(main())


# -- Workers --------------------------------------------------------------------------

can_have_workers = pytest.mark.skipif(
    sys.version_info < (3, 12, 4) or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="workers with interpreters of their own",
)


def run_program(tmp_path, text):
    program = tmp_path / "program.py"
    program.write_text("import treadle\n" + textwrap.dedent(text))
    where = Path(treadle.__file__).parents[1]
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(where)}
    )


@can_have_workers
def test_workers_of_a_program_without_a_guard(tmp_path):
    done = run_program(
        tmp_path,
        """
        async def work(): return 1
        with treadle.workers(1, work) as w:
            print(w.join())
        """,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert 'put what is to run once behind `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


@can_have_workers
def test_the_traceback_of_a_worker_begins_in_the_program(tmp_path):
    done = run_program(
        tmp_path,
        """
        async def work():
            await treadle.sleep(0)
            raise ValueError("bad")

        if __name__ == "__main__":
            try:
                treadle.workers(1, work).join()
            except ValueError as error:
                print(error.__cause__)
        """,
    )
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "Traceback (most recent call last):" and ", in work" in lines[1], done.stdout + done.stderr
    assert lines[-1] == "ValueError: bad"


INTERRUPTED = """
    import os, signal, threading, time

    async def work(began):
        await began.send(True)
        await treadle.sleep(100)

    def interrupt(began):
        for _ in range(2):
            began.recv_sync()
        time.sleep(0.1)  # until the main thread waits; before that it would do as well
        os.kill(os.getpid(), signal.SIGINT)

    async def main(began):
        async with treadle.workers(2, work, began):
            pass

    if __name__ == "__main__":
        began = treadle.SharedChan(2)
        threading.Thread(target=interrupt, args=(began,)).start()
        try:
            BODY
        except KeyboardInterrupt:
            print("interrupted", threading.active_count())
"""


@can_have_workers
@pytest.mark.parametrize(
    "body",
    ["with treadle.workers(2, work, began): pass", "treadle.run(main(began))", "treadle.workers(2, work, began).join()"],
    ids=["with", "async with", "join"],
)
def test_an_interrupt_stops_the_workers(tmp_path, body):
    done = run_program(tmp_path, INTERRUPTED.replace("BODY", body))
    assert done.returncode == 0 and done.stdout.startswith("interrupted"), done.stdout + done.stderr
    if "join" not in body:
        assert done.stdout == "interrupted 1\n"  # the with has waited for them


@can_have_workers
def test_workers_are_awaited_in_a_loop(tmp_path):
    done = run_program(
        tmp_path,
        """
        async def work(go):
            await go.recv()

        async def main():
            go = treadle.SharedChan()
            workers = treadle.workers(2, work, go)
            try:
                workers.join()
            except RuntimeError as error:
                print(error)
            try:
                with treadle.workers(1, work, go):
                    print("entered")
            except RuntimeError as error:
                print(error)
            go.close()
            try:
                await workers
            except BaseExceptionGroup as group:
                print([type(error).__name__ for error in group.exceptions])
            else:
                print("none")

        if __name__ == "__main__":
            treadle.run(main())
        """,
    )
    assert done.returncode == 0 and done.stdout.splitlines() == [
        "join would block the event loop of this thread: await the workers instead",
        "the end of this `with` would block the event loop of this thread: `async with` waits for workers there",
        "['ChannelClosed', 'ChannelClosed']",
    ], done.stdout + done.stderr


@can_have_workers
def test_workers_want_an_async_function(tmp_path):
    done = run_program(
        tmp_path,
        """
        def work(): return 5

        if __name__ == "__main__":
            treadle.workers(1, work).join()
        """,
    )
    assert done.stderr.splitlines()[-1] == "TypeError: workers: the function returned 5: it must be an async function"


def test_workers_want_a_number_and_a_function():
    with pytest.raises(TypeError, match="^workers: a number from 1 to 1024 is required, not '2'$"):
        treadle.workers("2", coroutine_function)
    with pytest.raises(TypeError, match="^workers: the async function itself is required, and its arguments after it"):
        treadle.workers(2, coroutine_function(1))


# -- Groups, readers, signals, TLS -----------------------------------------------------


def test_groups(drive):
    async def fail(text):
        await treadle.sleep(0)
        raise ValueError(text)

    async def main():
        with pytest.raises(TypeError, match="^ErrGroup: a Context is required, not int$"):
            treadle.ErrGroup(3)
        with pytest.raises(ValueError) as caught:
            async with treadle.ErrGroup() as group:
                await group.go(fail("first"))
                await group.go(fail("second"))
        assert caught.value.args == ("first",)
        assert caught.value.__notes__ == ["also failed in this group: ValueError: second"]

    drive(main)


def test_readers_and_writers(tmp_path):
    async def main():
        with open(tmp_path / "f", "wb") as blocking:
            assert "is a file that blocks; treadle.open_file" in said_here(lambda: treadle.copy(blocking, treadle.io.BytesReader(b"x")))
        assert said_here(lambda: treadle.copy(treadle.io.discard, b"x")) == "copy: 'bytes' object has no read()"
        assert said_here(lambda: treadle.io.read_all(3)) == "read_all: 'int' object has no read()"
        for make in (treadle.io.BufferedReader, treadle.io.BufferedWriter, treadle.io.Scanner, treadle.io.MultiReader, treadle.io.MultiWriter):
            with pytest.raises(TypeError, match="object has no (read|write)"):
                make(3)

    def said_here(call):
        coro = call()
        with pytest.raises(TypeError) as caught:
            coro.send(None)
        return str(caught.value)

    treadle.run(main())


def test_a_scope_that_nobody_has_entered():
    text = said(RuntimeError, lambda: treadle.scope().go(coroutine_function()))
    assert text == "the scope is not entered (async with treadle.scope() as s): it cannot start a goroutine"


def test_a_context_without_an_end_is_not_entered(drive):
    async def main():
        for endless in (treadle.background(), treadle.background().with_cancel().without_cancel()):
            with pytest.raises(ValueError, match="^with: this context has no end; derive one by with_cancel or with_timeout$"):
                with endless:
                    pytest.fail("entered")
            with pytest.raises(ValueError, match="^with: this context has no end"):
                async with endless:
                    pytest.fail("entered")
        async with treadle.background().with_value("a", 1) as with_value:
            assert with_value.err() is None
        assert with_value.err() is not None

    drive(main)


def test_an_error_that_nobody_awaits_is_told_of_when_its_handle_goes():
    """Without a collection: nothing of treadle's ties the exception to the goroutine that raised it."""

    async def fail():
        await treadle.sleep(0)
        await treadle.yield_()
        raise ValueError("mine")

    async def in_scope():
        async with treadle.scope() as s:
            s.go(fail())

    async def in_group():
        async with treadle.ErrGroup() as group:
            await group.go(fail())

    async def in_context():
        async with treadle.background().with_cancel() as context:
            context.cancel(ValueError("mine"))
            await treadle.sleep(10)

    async def once_in_itself():
        once = treadle.Once()
        await once.do(lambda: once.do(fail))

    async def flight_in_itself():
        flight = treadle.SingleFlight()
        await flight.do("key", lambda: flight.do("key", fail))

    async def waits_for_its_own_group():
        group = treadle.ErrGroup()

        async def wait():
            await group.wait()

        await (await group.go(wait()))

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))
        ways = (
            in_scope, in_group, in_context, once_in_itself, flight_in_itself, waits_for_its_own_group,
            lambda: treadle.Once().do(fail), lambda: treadle.SingleFlight().do("key", fail),
        )  # fmt: skip
        for way in ways:
            g = treadle.go(way())
            await asyncio.wait([g])
            del g
            await asyncio.sleep(0)
            assert len(reports) == 1, way
            assert isinstance(reports.pop(), (ValueError, treadle.DeadlockError))

        async def handler(conn):
            await conn.readline()
            raise ValueError("a request's")

        listener = await treadle.listen("tcp", "127.0.0.1:0")
        async with treadle.serve(listener, handler):
            async with await treadle.dial("tcp", listener.address) as conn:
                await conn.write(b"x\n")
                assert await conn.read(1) == b""  # closed: the handler's goroutine ends in the same turn
            await treadle.yield_()
            assert [str(error) for error in reports] == ["a request's"]

    gc.collect()
    gc.disable()
    try:
        with pytest.raises((ValueError, treadle.DeadlockError)):  # the first of them
            treadle.run(main())
    finally:
        gc.enable()


def test_a_signal_that_cannot_be_caught():
    assert said(TypeError, treadle.signals, "SIGTERM") == "signals: numbers such as signal.SIGTERM are required, not 'SIGTERM'"
    assert said(ValueError, treadle.signals, 9) == "signals: 9 is no signal that can be caught"


def test_the_other_sides_tls():
    import ssl

    client, server = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for call, context, purpose in ((treadle.listen, client, "CLIENT_AUTH"), (treadle.dial, server, "SERVER_AUTH")):
        text = said(ValueError, call, "tcp", "127.0.0.1:0", ssl=context)
        assert text.endswith(f"create_default_context(ssl.Purpose.{purpose})")

    async def main():
        a, b = treadle.pipe()
        with pytest.raises(TypeError, match=r"^an ssl.SSLContext is required, not True \(ssl.create_default_context"):
            await treadle.start_tls(a, True)
        assert a.closed
        b.close()
        async with await treadle.listen("tcp", "127.0.0.1:0", ssl=server) as listener:
            assert repr(listener) == f"<TLSListener on {listener.address}>"
            with pytest.raises(TypeError, match="^serve: takes plain connections; accept those of a TLSListener"):
                treadle.serve(listener, coroutine_function)

    treadle.run(main())


def test_the_end_says_for_whom_it_waits(monkeypatch, caplog):
    monkeypatch.setattr("treadle._loop.PATIENCE", 0.05)

    async def stubborn():
        end = treadle.now() + 0.2
        while treadle.now() < end:
            try:
                await treadle.sleep(0.2)  # where it is
            except asyncio.CancelledError:
                pass

    async def main():
        treadle.go(stubborn(), name="stubborn")

    treadle.run(main())
    (record,) = [r for r in caplog.records if r.name == "asyncio"]
    text = record.getMessage()
    assert text.startswith("The end waits for goroutines that were cancelled 0.05 seconds ago and have not ended:")
    assert "'stubborn'" in text and "await treadle.sleep(0.2)  # where it is" in text


# -- Names -------------------------------------------------------------------------------


def test_a_report_names_things_as_their_reprs_do(tmp_path):
    done = run_program(
        tmp_path,
        """
        m, ch = treadle.Mutex(), treadle.Chan()

        async def receive():
            await ch.recv()

        async def main():
            g = treadle.go(receive())
            await m.lock()
            print(repr(m), repr(ch), flush=True)
            try:
                await m.lock()
            except treadle.DeadlockError:
                await g

        try:
            treadle.run(main())
        except treadle.DeadlockError:
            pass
        """,
    )
    mutex, channel = (word.rstrip(">") for word in done.stdout.split() if word.startswith("0x"))
    assert f"waits for mutex {mutex} " in done.stderr and f"[chan receive, {channel}," in done.stderr, done.stderr


def test_reprs():
    async def main():
        for thing in (treadle.RWMutex(), treadle.Semaphore(1), treadle.WaitGroup(), treadle.Cond(treadle.Mutex())):
            assert repr(thing) == f"<{type(thing).__name__} at {thing._address:#x}>"
        scope = treadle.scope()
        assert repr(scope) == "<Scope not entered, 0 running>"
        async with scope:
            scope.go(treadle.sleep(0.01))
            assert repr(scope) == "<Scope active, 1 running>"
        assert repr(scope) == "<Scope ended, 0 running>"
        async with treadle.serve(await treadle.listen("tcp", "127.0.0.1:0"), coroutine_function) as server:
            assert repr(server).endswith(": 0 connections, 0 busy>")

    treadle.run(main())


def test_reprs_of_what_has_a_state(drive):
    async def main():
        timer, ticker = treadle.Timer(100), treadle.Ticker(2.5)
        assert repr(timer).startswith("<Timer due in ") and repr(ticker).startswith("<Ticker every 2.5 s at 0x")
        timer.reset(0)
        while "has fired" not in repr(timer):
            await treadle.sleep(0.001)
        await timer.recv()
        assert repr(timer).startswith("<Timer past its time at ")
        for it in (timer, ticker):
            it.stop()
            assert repr(it).startswith(f"<{type(it).__name__} stopped at 0x")

        async def look(thing, text):
            assert text in repr(thing)

        once = treadle.Once()
        assert repr(once).startswith("<Once to be done at ")
        await once.do(look, once, "<Once under way at ")
        assert repr(once).startswith("<Once done at ")
        failed = treadle.Once()
        with pytest.raises(AssertionError):
            await failed.do(look, failed, "nothing like it")
        assert repr(failed).startswith("<Once done, failed: AssertionError(")
        flight = treadle.SingleFlight()
        await flight.do("key", look, flight, "<SingleFlight 1 under way at ")
        assert repr(flight).startswith("<SingleFlight 0 under way at ")
        later = treadle.after_func(100, plain)
        assert repr(later) == f"<AfterFunc of {plain!r}: to be started>"
        later.stop()
        assert repr(later) == f"<AfterFunc of {plain!r}: started or stopped>"
        with pytest.raises(AssertionError):
            async with treadle.ErrGroup(limit=2) as group:
                await group.go(treadle.sleep(0.001))
                assert repr(group).startswith("<ErrGroup 1 at work, limit 2 at ")
                group.try_go(look(group, "nothing like it"))
        assert repr(group).startswith("<ErrGroup 0 at work, limit 2, failed: AssertionError(")

    drive(main)


def test_a_simulation_wants_the_function():
    coro = coroutine_function()
    with pytest.raises(TypeError, match="^sim.run: the async function itself is required"):
        treadle.sim.run(coro)
    with pytest.raises(TypeError, match="^sim.run: the function returned 3: it must be an async function"):
        treadle.sim.run(plain)


def test_a_misspelt_name():
    with pytest.raises(AttributeError) as caught:
        treadle.Semaphor
    assert (caught.value.name, caught.value.obj) == ("Semaphor", treadle)  # "Did you mean: 'Semaphore'?"


def test_a_package_without_its_extension(tmp_path):
    """A checkout that was not built, or was for another Python."""
    package = tmp_path / "treadle"
    package.mkdir()
    for file in Path(treadle.__file__).parent.glob("*.py"):
        (package / file.name).write_text(file.read_text())
    done = run_program(tmp_path, "")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: treadle has no extension module for {sys.implementation.cache_tag} in {package}"), last
    assert "(pip install .)" in last
