# SPDX-License-Identifier: MIT
"""select and try_select."""

import asyncio

import pytest
import treadle
from treadle import Chan, ChannelClosed, SharedChan, after_op, select, try_select


async def blocked(coro, seconds=0.02):
    """Whether it is still waiting after a while; it is cancelled then."""
    g = treadle.go(coro)
    await treadle.sleep(seconds)
    if g.done():
        await g
        return False
    g.cancel()
    await asyncio.wait([g])
    return g.cancelled()


async def wait_for(*cases):
    return await select(*cases)


def test_table(drive):
    """A7: what is ready and what is not."""

    async def main():
        ch, full, empty, closed = Chan(), Chan(1), Chan(1), Chan()
        await full.send(1)
        closed.close()
        assert await blocked(wait_for())
        assert await blocked(wait_for(ch.recv_op()))
        assert await blocked(wait_for(ch.send_op(1)))
        assert await blocked(wait_for(full.send_op(2)))
        assert await blocked(wait_for(empty.recv_op()))
        # both ends of one unbuffered channel: nobody talks to itself
        assert await blocked(wait_for(ch.recv_op(), ch.send_op(1)))
        assert await select(empty.send_op(5)) == (0, None)
        assert await select(ch.recv_op(), full.recv_op()) == (1, 1)
        for case in (closed.recv_op(), closed.send_op(1)):
            for _ in range(2):
                with pytest.raises(ChannelClosed) as raised:
                    await select(ch.recv_op(), case)
                assert raised.value.index == 1
        assert try_select(ch.recv_op(), ch.send_op(1)) == (None, None)
        assert try_select() == (None, None)
        assert try_select(ch.recv_op(), empty.recv_op()) == (1, 5)
        assert try_select(empty.send_op(6)) == (0, None)
        with pytest.raises(ChannelClosed) as raised:
            try_select(ch.recv_op(), closed.recv_op())
        assert raised.value.index == 1

    drive(main)


@pytest.mark.parametrize("receiver", range(3))
@pytest.mark.parametrize("sender", range(3))
def test_all_combinations(sender, receiver, drive):
    """A11: plain, 1-case and 2-case on both sides."""

    async def main():
        ch, never, other = Chan(), Chan(), Chan()
        got = []

        async def send():
            for i in range(100):
                if sender == 0:
                    await ch.send(i)
                elif sender == 1:
                    assert await select(ch.send_op(i)) == (0, None)
                else:
                    assert await select(never.recv_op(), ch.send_op(i)) == (1, None)

        async def recv():
            for _ in range(100):
                if receiver == 0:
                    got.append(await ch.recv())
                elif receiver == 1:
                    got.append((await select(ch.recv_op()))[1])
                else:
                    got.append((await select(other.send_op(0), ch.recv_op()))[1])

        async with treadle.scope() as s:
            s.go(send())
            s.go(recv())
        return got

    assert drive(main) == list(range(100))


def test_a_closed_channel_wakes_a_select(drive):
    async def main():
        a, b = Chan(), Chan()
        g = treadle.go(wait_for(a.recv_op(), b.send_op(1), after_op(10)))
        await treadle.yield_()
        b.close()
        with pytest.raises(ChannelClosed) as raised:
            await g
        assert raised.value.index == 1

    drive(main)


def test_timers(drive):
    async def main():
        ch = Chan()
        start = treadle.now()
        assert await select(ch.recv_op(), after_op(0.05), after_op(0.02)) == (2, None)
        assert 0.02 <= treadle.now() - start < 0.05 + 0.2
        assert await select(after_op(0)) == (0, None)
        assert await select(after_op(-1), ch.recv_op()) == (0, None)
        # a ready case wins over a time that has passed
        ready = Chan(1)
        await ready.send("x")
        assert await select(after_op(0), ready.recv_op()) == (1, "x")
        assert await blocked(wait_for(after_op(1e300), ch.recv_op()))
        assert try_select(after_op(0)) == (0, None)
        assert try_select(after_op(1)) == (None, None)
        again = after_op(0.01)  # counts from the select on, each time
        for _ in range(3):
            start = treadle.now()
            assert await select(again, ch.recv_op()) == (0, None)
            assert treadle.now() - start >= 0.01

    drive(main)


def test_fairness():
    """A19: two ready cases are chosen alike."""

    async def main():
        a, b, c, d = Chan(1), Chan(1), Chan(), Chan()
        a.try_send(0)
        b.try_send(0)
        wins = [0, 0, 0, 0]
        for _ in range(10_000):
            i, _ = await select(c.recv_op(), a.recv_op(), d.recv_op(), b.recv_op())
            wins[i] += 1
            (a if i == 1 else b).try_send(0)
        return wins

    wins = treadle.run(main())
    assert wins[0] == wins[2] == 0
    assert abs(wins[1] / 10_000 - 0.5) < 0.0245


def test_random_send():
    """A20."""

    async def main():
        ch = Chan(1)
        sent = []
        for _ in range(200):
            await select(ch.send_op(0), ch.send_op(1))
            sent.append(await ch.recv())
        return sent

    sent = treadle.run(main())
    assert 20 < sum(sent) < 180


def test_stress(drive):
    """A18: four channels, plain and selecting goroutines, exact counts."""
    rounds = 400

    async def main():
        chans = [Chan(0), Chan(0), Chan(2), Chan(3)]
        received = [0] * 4

        async def sender(i):
            for _ in range(rounds):
                await chans[i].send(i)

        async def receiver(i):
            for _ in range(rounds):
                assert await chans[i].recv() == i
                received[i] += 1

        async def select_sender():
            left = [rounds] * 4
            while any(left):
                live = [i for i in range(4) if left[i]]
                k, _ = await select(*(chans[i].send_op(i) for i in live))
                left[live[k]] -= 1

        async def select_receiver():
            left = [rounds] * 4
            while any(left):
                live = [i for i in range(4) if left[i]]
                k, v = await select(*(chans[i].recv_op() for i in live))
                assert v == live[k]
                left[live[k]] -= 1
                received[live[k]] += 1

        async with treadle.scope() as s:
            for i in range(4):
                s.go(sender(i))
                s.go(receiver(i))
            s.go(select_sender())
            s.go(select_receiver())
        return received

    assert drive(main) == [2 * rounds] * 4


def test_timer_is_not_starved():
    """B7: two senders saturate a channel; the timer is still seen."""

    async def main():
        ch = Chan()

        async def saturate():
            while True:
                await ch.send(1)

        gs = [treadle.go(saturate()) for _ in range(2)]
        start, n = treadle.now(), 0
        end = treadle.now() + 0.02
        while True:
            i, _ = await select(ch.recv_op(), after_op(end - treadle.now()))
            if i == 1:
                break
            n += 1
            assert treadle.now() - start < 1
            if treadle.now() > end:
                break
        for g in gs:
            g.cancel()
        return n

    assert treadle.run(main()) > 0


def test_local_and_shared_together(drive):
    async def main():
        local, shared = Chan(), SharedChan()
        g = treadle.go(wait_for(local.recv_op(), shared.recv_op()))
        await shared.send("s")
        assert await g == (1, "s")
        g = treadle.go(wait_for(local.recv_op(), shared.recv_op()))
        await local.send("l")
        assert await g == (0, "l")
        g = treadle.go(wait_for(shared.send_op({"a": [1, None]}), local.send_op(object())))
        assert await shared.recv() == {"a": [1, None]}
        assert await g == (0, None)

    drive(main)


def test_cancelled_select_carries_nothing_out(drive):
    async def main():
        a, b = Chan(1), Chan()
        await a.send("full")
        g = treadle.go(wait_for(a.send_op("lost"), b.recv_op()))
        await treadle.yield_()
        g.cancel()
        await asyncio.wait([g])
        assert g.cancelled()
        assert await a.recv() == "full"
        assert a.try_recv() == (None, False)
        assert b.try_send(1) is False

    drive(main)


def test_many_cases(drive):
    async def main():
        chans = [Chan() for _ in range(300)]
        g = treadle.go(wait_for(*(c.recv_op() for c in chans)))
        await chans[217].send("x")
        return await g

    assert drive(main) == (217, "x")


@pytest.mark.filterwarnings("ignore:.* never awaited")
def test_bad_arguments():
    async def main():
        ch = Chan()
        for bad in (ch, 1, None, ch.recv()):
            with pytest.raises(TypeError):
                await select(ch.recv_op(), bad)
            with pytest.raises(TypeError):
                try_select(bad)
        for bad in ("1", None, [], True):
            with pytest.raises(TypeError):
                after_op(bad)
        with pytest.raises(ValueError):
            after_op(float("nan"))
        with pytest.raises(ValueError):
            await select(*([ch.recv_op()] * 65_536))
        with pytest.raises(TypeError, match="shared channel carries"):
            await select(SharedChan(1).send_op(object()), ch.send_op(object()))

    treadle.run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        try_select(Chan().recv_op())
