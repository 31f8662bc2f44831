# SPDX-License-Identifier: MIT
"""workers(): coroutine functions in interpreters of their own, or where there is no lock in
threads of this one."""

import gc
import os
import pathlib
import socket
import sys
import traceback

import pytest
import treadle
from conftest import fds, script

HERE = str(pathlib.Path(__file__).parent)
sys.path.insert(0, HERE)
import worker_functions as f  # noqa: E402

able = sys.version_info >= (3, 12, 4)
threads = not getattr(sys, "_is_gil_enabled", lambda: True)()
needs_interpreters = pytest.mark.skipif(threads or not able, reason="workers are threads here, or nothing")
needs = pytest.mark.skipif(not able, reason="this Python has no workers")


@pytest.mark.skipif(able, reason="this Python has workers")
def test_not_able():
    with pytest.raises(RuntimeError, match="workers need Python 3.12.4"):
        treadle.workers(2, f.add, 1)


def test_bad_input():
    for n in (0, -1, 1025):
        with pytest.raises(ValueError, match="workers: 1 to 1024"):
            treadle.workers(n, f.add, 1)
    with pytest.raises(TypeError, match="an async function"):
        treadle.workers(1, 3)


@needs
def test_results():
    assert treadle.workers(2, f.add, 1, b=2).join() == [3, 3]


@needs
def test_at_the_same_time():
    """Two that wait for each other through channels of the core."""
    a, b = treadle.SharedChan(1), treadle.SharedChan(1)
    with treadle.workers(1, f.meet, a, b) as one, treadle.workers(1, f.meet, b, a) as two:
        pass
    assert one.join() == two.join() == [55]


@needs
def test_shared_channels(drive):
    async def main():
        work, done = treadle.SharedChan(), treadle.SharedChan()
        workers = treadle.workers(2, f.double, work, done)
        total = 0

        async def feed():
            for i in range(200):
                await work.send(i)
            work.close()

        feeding = treadle.go(feed())
        for _ in range(200):
            total += await done.recv()
        await feeding
        assert sum(await workers) == 200
        return total

    assert drive(main) == 2 * sum(range(200))


@needs
def test_error_where_joined():
    workers = treadle.workers(1, f.fail, "lost")
    with pytest.raises(LookupError, match="lost") as caught:
        workers.join()
    if threads:
        assert "worker_functions.py" in "".join(traceback.format_exception(caught.value))
    else:
        assert isinstance(caught.value.__cause__, treadle.WorkerTraceback)
        assert "worker_functions.py" in str(caught.value.__cause__)

    async def main():
        with pytest.raises(LookupError, match="lost"):
            async with treadle.workers(1, f.fail, "lost"):
                pass

    treadle.run(main())


@needs
def test_error_stops_the_others():
    turns = treadle.SharedChan(2)
    turns.send_sync(0)
    turns.send_sync(1)
    with pytest.raises(LookupError, match="first"):
        treadle.workers(2, f.fail_or_wait, turns).join(20)


@needs
def test_several_errors():
    with pytest.raises(BaseExceptionGroup) as caught:
        treadle.workers(3, f.fail, "all").join()
    assert [str(e) for e in caught.value.exceptions] == ["all"] * 3


@pytest.mark.skipif(not threads, reason="workers are not threads here")
def test_threads_share():
    """What is passed to threads is the same object; descriptors are not."""
    before = fds()
    shared = []

    async def local(i, sock, listeners):
        assert isinstance(listeners["any"][0], treadle.Listener)
        listeners["any"][0].close()
        shared.append(sock.fileno())
        sock.close()
        return i

    given = object()

    async def main():
        listener = await treadle.listen("tcp", "127.0.0.1:0")
        with socket.socket() as one:
            got = await treadle.workers(2, local, given, one, {"any": [listener]})
            assert one.fileno() >= 0 and one.fileno() not in shared
        listener.close()
        return got

    assert treadle.run(main()) == [given, given]
    assert len(shared) == 2
    with pytest.raises(TypeError, match="a Chan belongs to one loop"):
        treadle.workers(1, local, treadle.Chan())
    with socket.socket() as one, pytest.raises(TypeError, match="a Chan belongs"):
        treadle.workers(1, local, [one, treadle.Chan()])
    assert fds() == before


@needs_interpreters
def test_what_cannot_be_sent():
    with pytest.raises(RuntimeError, match="Odd: 1 2"):
        treadle.workers(1, f.fail_oddly).join()
    with pytest.raises(RuntimeError, match="what the worker returned cannot be sent"):
        treadle.workers(1, f.unsendable).join()
    before = fds()

    async def local():
        pass

    with pytest.raises(ValueError, match="finds its function by its name"):
        treadle.workers(1, local)
    with pytest.raises(TypeError, match="a Chan belongs to one loop"):
        treadle.workers(1, f.add, treadle.Chan())
    with socket.socket() as one, pytest.raises(TypeError, match="a Chan belongs"):
        treadle.workers(1, f.add, one, treadle.Chan())
    assert fds() == before


@needs
def test_stop_in_any_order():
    before = fds()
    first, second, third = (treadle.workers(2, f.wait) for _ in range(3))
    with pytest.raises(TimeoutError):
        second.join(0.01)
    second.stop()
    second.stop()
    assert second.join(20) == [None, None]
    with pytest.raises(ZeroDivisionError), first:
        1 / 0
    assert first.join(0) == [None, None]
    third.stop()
    third.join(20)
    assert fds() == before


@needs
def test_shared_listener():
    """Workers that accept from one socket."""
    ready = treadle.SharedChan(2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        workers = treadle.workers(2, f.serve, listener, ready)
    for _ in range(2):
        ready.recv_sync(20)
    assert [f.ask(port) for _ in range(20)] == [b"HELLO\n"] * 20
    workers.stop()
    workers.join(20)


@needs
@pytest.mark.parametrize("native", [True, False])
def test_listener_of_treadle(native):
    ready = treadle.SharedChan(2)

    async def main():
        async with await treadle.listen("tcp", "127.0.0.1:0") as listener:
            workers = treadle.workers(2, f.serve_listener, listener, native, ready)
            for _ in range(2):
                await ready.recv()
            return workers, listener.port

    before = fds()
    workers, port = treadle.run(main())
    assert [f.ask(port) for _ in range(20)] == [b"HELLO\n"] * 20
    workers.stop()
    workers.join(20)
    assert fds() == before


@needs
def test_shards():
    """A listener of each worker, at one address."""
    ready = treadle.SharedChan(2)
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        workers = treadle.workers(2, f.serve_native, port, ready)
        for _ in range(2):
            ready.recv_sync(20)
        assert [f.ask(port) for _ in range(20)] == [b"HELLO\n"] * 20
    workers.stop()
    workers.join(20)


@needs
def test_no_leak():
    def rounds(n):
        for _ in range(n):
            treadle.workers(2, f.add, 1).join()
        gc.collect()
        return fds(), [treadle.metric(name) for name in ("goroutines", "tasks", "descriptors")]

    assert rounds(1) == rounds(3)


@needs
def test_program(tmp_path):
    """The function of the program itself, which is not a module; Python's exit waits."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, treadle\n"
        "class Mine(Exception): pass\n"
        "async def main(n):\n"
        "    await asyncio.sleep(0.05)\n"
        "    if n == 0: raise Mine(7)\n"
        "    print('worked\\n', end='', flush=True)\n"
        "if __name__ == '__main__':\n"
        "    try: treadle.workers(1, main, 0).join()\n"
        "    except Mine as e: print('mine', e.args, flush=True)\n"
        "    treadle.workers(2, main, 1)\n"
    )
    done = script(f"import os, sys; os.execv(sys.executable, [sys.executable, {str(program)!r}])")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "mine (7,)", "worked", "worked"]
