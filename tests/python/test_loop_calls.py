# SPDX-License-Identifier: MIT
"""The short ways between asyncio's C and the loop: calls without handles, bound
methods that are kept, futures that are used again."""

import asyncio
import gc
import inspect
import socket
import weakref

import pytest
import treadle


@pytest.fixture
def loop():
    loop = treadle.new_event_loop()
    yield loop
    loop.close()


def test_the_queue_shows_handles_of_what_tasks_ask_for(loop):
    async def main():
        task = loop.create_task(asyncio.sleep(0, "slept"))
        await asyncio.sleep(0)  # the task has asked for its next step
        future = loop.create_future()
        told = []
        future.add_done_callback(told.append)
        future.set_result(1)
        assert len(loop._ready) >= 2
        assert all(isinstance(handle, asyncio.Handle) for handle in loop._ready)
        assert [h for h in loop._ready] == [h for h in loop._ready]  # they stay what they are
        last = list(loop._ready)[-1]
        assert last._callback == told.append and last._args == (future,)
        last.cancel()
        assert await task == "slept"
        await asyncio.sleep(0)
        return told

    assert loop.run_until_complete(main()) == []


def test_popleft_gives_a_handle(loop):
    future = loop.create_future()
    told = []
    future.add_done_callback(told.append)
    future.set_result(None)
    handle = loop._ready.popleft()
    handle._run()
    assert told == [future] and len(loop._ready) == 0


def test_a_failing_callback_of_a_future_is_reported_with_a_handle(loop):
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context))

    def fails(future):
        raise ZeroDivisionError

    async def main():
        future = loop.create_future()
        future.add_done_callback(fails)
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    (context,) = told
    assert context["message"].startswith("Exception in callback ")
    assert "fails" in context["message"]
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["handle"], asyncio.Handle)


def test_an_exit_in_a_callback_of_a_future_leaves_the_loop(loop):
    def leaves(future):
        raise SystemExit(3)

    future = loop.create_future()
    future.add_done_callback(leaves)
    future.set_result(None)
    with pytest.raises(SystemExit):
        loop.run_forever()


def test_debug_mode_may_begin_with_calls_in_the_queue(loop):
    told = []
    future = loop.create_future()
    future.add_done_callback(told.append)
    future.set_result(None)
    loop.set_debug(True)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert told == [future]


class Counting(treadle.Loop):
    calls = 0

    def call_soon(self, *args, **kwargs):
        self.calls += 1
        return super().call_soon(*args, **kwargs)


def test_call_soon_of_a_subclass_is_called():
    loop = Counting()
    try:
        loop.run_until_complete(asyncio.sleep(0))
        before = loop.calls
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.calls > before >= 2
    finally:
        loop.close()


def test_call_soon_may_be_replaced_while_the_loop_runs(loop, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return type(loop).call_soon(loop, *args, **kwargs)

    async def main():
        for _ in range(3):
            await asyncio.sleep(0)
        loop.call_soon = counted
        await asyncio.sleep(0)
        assert len(calls) == 1
        del loop.call_soon
        await asyncio.sleep(0)
        assert len(calls) == 1
        original = treadle.Loop.call_soon
        with monkeypatch.context() as patch:
            patch.setattr(treadle.Loop, "call_soon",
                          lambda *args, **kwargs: [calls.append(args), original(*args, **kwargs)][1],
                          raising=False)
            await asyncio.sleep(0)
            assert len(calls) == 2
        await asyncio.sleep(0)
        assert len(calls) == 2

    loop.run_until_complete(main())


def test_attributes_are_as_of_any_object(loop):
    async def main():
        assert loop.call_soon == loop.call_soon and loop.create_task == loop.create_task
        with pytest.raises(AttributeError, match="nothing"):
            loop.nothing
        loop.nothing = 1
        assert loop.nothing == 1
        del loop.nothing
        assert not hasattr(loop, "nothing")
        assert getattr(loop, "".join(["call_", "soon"])) == loop.call_soon

    loop.run_until_complete(main())


def test_a_closed_loop_is_free_without_the_collector():
    loop = treadle.new_event_loop()
    there, here = socket.socketpair()
    there.setblocking(False)

    async def main():
        for _ in range(3):
            loop.call_later(0, here.send, b"x")
            assert await loop.sock_recv(there, 1) == b"x"

    loop.run_until_complete(main())
    loop.close()
    there.close()
    here.close()
    gc.collect()
    gone = weakref.ref(loop)
    del loop, main
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("tasks", [1, 2, 9])
def test_waits_of_sockets_do_not_mix(loop, tasks):
    """Futures are used again: each wait ends for its own socket alone."""

    async def reader(sock, n):
        return [await loop.sock_recv(sock, 1) for _ in range(n)]

    async def main():
        pairs = [socket.socketpair() for _ in range(tasks)]
        for a, b in pairs:
            a.setblocking(False)
        reading = [loop.create_task(reader(a, 20)) for a, _ in pairs]
        for i in range(20):
            for k, (_, b) in enumerate(pairs):
                if (i + k) % 3 == 0:
                    await asyncio.sleep(0)
                b.send(bytes([i]))
        for task in reading:
            assert await task == [bytes([i]) for i in range(20)]
        cancelled = [loop.create_task(loop.sock_recv(a, 1)) for a, _ in pairs]
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        for task in cancelled:
            with pytest.raises(asyncio.CancelledError):
                await task
        again = [loop.create_task(reader(a, 1)) for a, _ in pairs]
        await asyncio.sleep(0)
        for _, b in pairs:
            b.send(b"!")
        assert [await task for task in again] == [[b"!"]] * tasks
        for a, b in pairs:
            a.close()
            b.close()

    loop.run_until_complete(main())


def test_a_waiter_that_somebody_kept_is_not_used_again(loop):
    there, here = socket.socketpair()
    there.setblocking(False)

    async def main():
        task = loop.create_task(loop.sock_recv(there, 1))
        await asyncio.sleep(0)
        kept = task._fut_waiter
        here.send(b"a")
        assert await task == b"a"
        for letter in (b"b", b"c", b"d", b"e", b"f", b"g"):
            task = loop.create_task(loop.sock_recv(there, 1))
            await asyncio.sleep(0)
            assert task._fut_waiter is not kept
            assert kept.done() and kept.result() is None
            here.send(letter)
            assert await task == letter

    loop.run_until_complete(main())
    there.close()
    here.close()


@pytest.mark.parametrize(
    "name",
    "call_soon call_soon_threadsafe call_later call_at time stop get_debug is_running is_closed create_future "
    "sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall sock_sendto sock_accept".split(),
)
def test_arguments_are_asyncios(name):
    """What help() and inspect say, and what may be given by name."""
    theirs, ours = (inspect.signature(getattr(loop, name)) for loop in (asyncio.SelectorEventLoop, treadle.Loop))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


def test_times_by_name(loop):
    order = []
    loop.call_at(when=loop.time() + 0.002, callback=lambda: (order.append("at"), loop.stop()))
    loop.call_later(context=None, callback=lambda: order.append("later"), delay=0.001)
    loop.call_later(0, callback=lambda: order.append("now"))
    loop.run_forever()
    assert order == ["now", "later", "at"]
    for call, named, text in (
        (loop.call_later, {}, r"missing 2 required positional arguments: 'delay' and 'callback'"),
        (loop.call_later, {"callback": print}, r"missing 1 required positional argument: 'delay'"),
        (loop.call_later, {"delay": 1}, r"missing 1 required positional argument: 'callback'"),
        (loop.call_at, {"callback": print}, r"missing 1 required positional argument: 'when'"),
        (loop.call_at, {"when": 1, "callback": print, "then": 2}, r"unexpected keyword argument 'then'"),
        (loop.call_later, {"delay": None, "callback": print}, "delay must not be None"),
    ):
        with pytest.raises(TypeError, match=text):
            call(**named)
