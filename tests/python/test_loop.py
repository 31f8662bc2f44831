# SPDX-License-Identifier: MIT
"""The loop itself: handles, timers, wake-ups by threads, debug mode, stopping, interrupts,
forks, and misuse. (What CPython's own tests of loops look at is left to those: see
conformance/.)"""

import asyncio
import contextvars
import gc
import logging
import os
import signal
import threading
import time
import weakref

import pytest
import treadle
from conftest import run_once, script, sockets

# -- Handles ----------------------------------------------------------------------------


def test_handles_are_asyncios(loop):
    def named(*args):
        pass

    handle = loop.call_soon(named, 1, 2)
    timer = loop.call_later(5, named, 1, 2, 3, 4)
    assert isinstance(handle, asyncio.Handle) and isinstance(timer, asyncio.TimerHandle)
    assert "named(" in repr(handle)
    assert "named(" in repr(timer) and f"when={timer.when()}" in repr(timer)
    assert handle._args == (1, 2) and timer._args == (1, 2, 3, 4)
    assert weakref.ref(handle)() is handle
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled() and handle._callback is None and handle._args is None
    assert repr(handle) == "<Handle cancelled>"
    timer.cancel()
    with pytest.raises(TypeError):
        type(handle)()


def test_timer_handles_compare(loop):
    when = loop.time() + 100
    a, b = loop.call_at(when, print), loop.call_at(when + 1, print)
    same = loop.call_at(when, print)
    assert a < b and b > a and a <= same and a == same and a != b
    assert hash(a) == hash(when)
    assert a.when() == when
    assert loop.call_at(10, print).when() == 10
    assert len(loop._scheduled) == 4
    for handle in list(loop._scheduled):
        handle.cancel()
    assert len(loop._scheduled) == 0  # none is kept until it is due


def test_callbacks_run_in_order_and_in_their_context(loop):
    var = contextvars.ContextVar("var", default=0)
    seen = []
    for i in range(100):
        context = contextvars.copy_context()
        context.run(var.set, i)
        loop.call_soon(lambda *args: seen.append((var.get(), len(args))), *range(i % 6), context=context)
    cancelled = loop.call_soon(seen.append, "cancelled")
    cancelled.cancel()
    run_once(loop)
    assert seen == [(i, i % 6) for i in range(100)]


def test_what_a_callback_calls_for_comes_in_the_next_turn(loop):
    seen = []
    loop.call_soon(lambda: (seen.append(1), loop.call_soon(seen.append, 3)))
    loop.call_soon(seen.append, 2)
    run_once(loop)
    assert seen == [1, 2]
    run_once(loop)
    assert seen == [1, 2, 3]


def test_timers_run_in_order_of_time_and_many_are_cancelled(loop):
    now, seen, handles = loop.time(), [], []
    for i in range(1000):
        k = i * 7919 % 1000
        handles.append((k, loop.call_at(now + k * 1e-6, seen.append, k)))
    for k, handle in handles:
        if k % 3:
            handle.cancel()
    loop.call_at(now + 0.01, loop.stop)
    loop.run_forever()
    assert seen == list(range(0, 1000, 3))


def test_equal_times_keep_their_order(loop):
    now, seen = loop.time(), []
    for i in range(50):
        loop.call_at(now, seen.append, i)
    loop.call_at(now, loop.stop)
    loop.run_forever()
    assert seen == list(range(50))


@pytest.mark.parametrize("delay", [float("nan"), -1, 0, -float("inf"), False])
def test_times_that_are_due(loop, delay):
    loop.call_later(delay, loop.stop)
    loop.call_later(float("inf"), print)
    loop.run_forever()


def test_a_timer_is_never_early_and_needs_no_millisecond(loop):
    late = []

    async def main():
        for delay in (1e-5, 1e-4, 3e-4):
            begin = loop.time()
            await asyncio.sleep(delay)
            late.append(loop.time() - begin - delay)

    for _ in range(20):
        loop.run_until_complete(main())
    assert min(late) >= 0


def test_bad_arguments(loop):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'callback'"):
        loop.call_soon()
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        loop.call_soon(print, nonsense=1)
    with pytest.raises(TypeError, match="delay must not be None"):
        loop.call_later(None, print)
    with pytest.raises(TypeError, match="when cannot be None"):
        loop.call_at(None, print)
    with pytest.raises(TypeError, match="context"):
        loop.call_soon(print, context=1)
    with pytest.raises(TypeError):
        loop.call_later("soon", print)
    assert loop.call_soon(callback=print) is not None


def test_what_raises_goes_to_the_handler(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fails(x):
        raise ZeroDivisionError(x)

    handle = loop.call_soon(fails, 1)
    loop.call_soon(None)
    run_once(loop)
    first, second = contexts
    assert first["message"].startswith("Exception in callback") and "fails(" in first["message"]
    assert isinstance(first["exception"], ZeroDivisionError) and first["handle"] is handle
    assert isinstance(second["exception"], TypeError)


def test_handles_of_others_run_too(loop):
    seen = []
    loop._add_callback(asyncio.Handle(seen.append, (1,), loop, None))
    cancelled = asyncio.Handle(seen.append, (2,), loop, None)
    loop._ready.append(cancelled)
    cancelled.cancel()
    run_once(loop)
    assert seen == [1]


def test_an_abandoned_loop_is_collected():
    def make():
        loop = treadle.new_event_loop()
        loop.call_soon(loop.stop)
        loop.call_later(1000, lambda: loop)
        loop.run_forever()
        future = loop.create_future()
        future.add_done_callback(lambda f: loop)
        loop.call_soon(future.set_result, loop)
        return weakref.ref(loop)

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        ref = make()
        gc.collect()
    for _ in range(3):  # the warning, which has been looked at, has the loop, too
        gc.collect()
    assert ref() is None


# -- Threads ----------------------------------------------------------------------------


def test_threads_wake_the_loop_and_none_is_lost(loop):
    count, done = 0, 0

    def hit():
        nonlocal count
        count += 1

    def ended():
        nonlocal done
        done += 1
        if done == 4:
            loop.stop()

    def calls():
        for i in range(500):
            loop.call_soon_threadsafe(hit)
            if i % 50 == 0:
                time.sleep(0.0005)
        loop.call_soon_threadsafe(ended)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert count == 2000


def test_one_thread_wakes_a_loop_that_sleeps_for_ever(loop):
    timer = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(loop.stop))
    timer.start()
    loop.run_forever()
    timer.join()


def test_a_loop_in_a_thread_has_no_signals_to_mind():
    results = []

    def other():
        loop = treadle.new_event_loop()
        results.append(loop.run_until_complete(asyncio.sleep(0.001, "done")))
        loop.close()

    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert results == ["done"]


# -- Running, stopping, closing -----------------------------------------------------------


def test_texts_of_misuse(loop):
    async def second():
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()
        other = treadle.new_event_loop()
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            other.run_forever()
        other.close()
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(second())
    loop.close()
    loop.close()
    assert loop.is_closed()
    for call in (loop.run_forever, lambda: loop.call_soon(print), lambda: loop.call_later(1, print),
                 lambda: loop.call_at(1, print), lambda: loop.call_soon_threadsafe(print),
                 lambda: loop.add_reader(0, print)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()
    assert loop.remove_reader(0) is False


def test_stop_before_run_is_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.stop()
    loop.run_forever()
    loop.call_soon(seen.append, 2)
    assert seen == [1] and not loop.is_running()


def test_somebody_may_count_the_turns(loop):
    turns = 0
    original = loop._run_once

    def counted():
        nonlocal turns
        turns += 1
        original()

    loop._run_once = counted

    async def main():
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert turns >= 5


def test_the_wakeup_descriptor_is_given_back(loop):
    a, b = sockets()
    before = signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False)
    try:
        run_once(loop)
        assert signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False) == a.fileno()
    finally:
        signal.set_wakeup_fd(before)
        a.close()
        b.close()


def test_signal_handlers(loop):
    seen = []

    def caught():
        seen.append(1)
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, caught)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    loop.run_forever()
    assert seen == [1, 1] and loop.remove_signal_handler(signal.SIGUSR1)


def test_sigchld_is_the_programs(loop):
    seen = []
    loop.add_signal_handler(signal.SIGCHLD, lambda: (seen.append(1), loop.stop()))
    pid = os.posix_spawn("/bin/true", ["true"], {})
    loop.run_forever()
    os.waitpid(pid, 0)
    assert seen
    loop.remove_signal_handler(signal.SIGCHLD)


def test_an_interrupt_leaves_the_loop_and_nothing_is_lost(loop):
    seen = []

    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(seen.append, 1)
    loop.call_soon(interrupt)
    loop.call_soon(seen.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == [1]
    run_once(loop)
    assert seen == [1, 2]


def test_interrupts_at_any_moment():
    """SIGINT again and again, while timers, threads and descriptors keep a loop busy: each
    ends run_forever by KeyboardInterrupt, and the loop goes on."""
    out = script(
        """
        import asyncio, os, random, signal, socket, threading, time, treadle
        loop = treadle.new_event_loop()
        a, b = socket.socketpair()
        a.setblocking(False); b.setblocking(False)
        ticks = 0
        def tick():
            global ticks
            ticks += 1
            loop.call_later(random.random() * 1e-3, tick)
            b.send(b"x")
        loop.add_reader(a, lambda: a.recv(100))
        done = False
        inside = False  # the loop runs: not on the way in or out, which is asyncio's own code
        def interrupt(signum, frame):
            global inside
            if inside:
                inside = False
                raise KeyboardInterrupt
        signal.signal(signal.SIGINT, interrupt)
        def enter():
            global inside
            inside = True
        def leave():
            global inside
            inside = False
            loop.stop()
        def kill():
            for _ in range(60):
                time.sleep(random.random() * 4e-3)
                os.kill(os.getpid(), signal.SIGINT)
            global done
            time.sleep(0.05)
            done = True
            loop.call_soon_threadsafe(leave)
        thread = threading.Thread(target=kill)
        caught = 0
        thread.start()
        while not done:
            try:
                if not loop._timer_list():
                    loop.call_soon(tick)
                loop.call_soon(enter)
                loop.run_forever()
            except KeyboardInterrupt:
                caught += 1
        thread.join()
        before = ticks
        loop.call_soon(tick)
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        assert ticks > before
        loop.remove_reader(a)
        loop.close()
        print("caught" if caught > 0 else caught)
        """
    )
    assert out.stdout.strip() == "caught", out.stderr


def test_a_child_of_fork_is_told(loop):
    out = script(
        """
        import asyncio, os, sys, treadle
        async def main():
            pid = os.fork()
            if pid == 0:
                while True:
                    await asyncio.sleep(0)  # which does not ask asyncio for a running loop
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status))
            await asyncio.sleep(0.001)
            print("parent goes on")
        loop = treadle.new_event_loop()
        try:
            loop.run_until_complete(main())
        except RuntimeError as e:
            os.write(1, f"child: {e}\\n".encode())
            os._exit(7)
        loop.close()
        """
    )
    assert "fork" in out.stdout.lower() and "parent goes on" in out.stdout, (out.stdout, out.stderr)


# -- Debug mode --------------------------------------------------------------------------


def test_debug_checks(loop):
    loop.set_debug(True)
    assert loop.get_debug()

    async def coro():
        pass

    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
        loop.call_soon(coro)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with call_at\(\)"):
        loop.call_later(1, coro)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_soon\(\), got 1"):
        loop.call_soon(1)
    errors = []

    def other():
        for call in (loop.call_soon, lambda f: loop.call_later(1, f)):
            try:
                call(print)
            except RuntimeError as e:
                errors.append(str(e))
        loop.call_soon_threadsafe(errors.append, "safe")

    async def main():
        thread = threading.Thread(target=other)
        thread.start()
        while len(errors) < 3:
            await asyncio.sleep(0.001)
        thread.join()

    loop.run_until_complete(main())
    text = "Non-thread-safe operation invoked on an event loop other than the current one"
    assert sorted(errors) == [text, text, "safe"]


def test_debug_traces_and_slow_callbacks(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01

    def slow():
        time.sleep(0.02)

    def fails():
        raise ValueError

    handle = loop.call_soon(slow)
    timer = loop.call_later(1, slow)
    for h in (handle, timer):
        assert h._source_traceback[-1].filename == __file__
        assert f"created at {__file__}" in repr(h)
    timer.cancel()
    assert "slow" in repr(timer)  # what it was, for reports
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.call_soon(fails)
    with caplog.at_level(logging.WARNING, logger="asyncio"):
        run_once(loop)
    assert "Executing <Handle" in caplog.text and "seconds" in caplog.text and "slow" in caplog.text
    assert contexts[0]["source_traceback"][-1].filename == __file__


# -- With goroutines ------------------------------------------------------------------------


def test_goroutines_and_callbacks_take_turns(loop):
    """Neither starves the other."""
    order = []

    async def main():
        async def gives_way():
            for _ in range(50):
                order.append("g")
                await treadle.yield_()

        def again():
            order.append("c")
            if order.count("c") < 50:
                loop.call_soon(again)

        g = treadle.go(gives_way())
        loop.call_soon(again)
        await g
        while order.count("c") < 50:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    first = order[:60]
    assert first.count("g") > 10 and first.count("c") > 10


def test_stop_by_a_goroutine(loop):
    async def stops():
        await treadle.sleep(0.001)
        loop.stop()

    async def main():
        treadle.go(stops())

    loop.run_until_complete(main())
    loop.run_forever()


def test_debug_mode_keeps_no_failed_task():
    """The traceback of its error leads to the frame that ran its step."""

    async def fail():
        raise LookupError

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        gc.disable()
        try:
            del task
            await asyncio.sleep(0)
            assert [type(e) for e in told] == [LookupError]
        finally:
            gc.enable()

    with asyncio.Runner(debug=True, loop_factory=treadle.new_event_loop) as runner:
        runner.run(main())
