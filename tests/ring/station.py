# SPDX-License-Identifier: MIT
"""The Python station: a goroutine between two shared channels."""

import treadle


async def pass_on(source, target, ready, mark):
    which, _ = await treadle.select(source.recv_op(), treadle.after_op(0.005))
    assert which == 1, "something came before the start"
    await ready.send(1)
    while True:
        try:
            which, value = await treadle.select(source.recv_op(), treadle.after_op(30))
        except treadle.ChannelClosed:
            break
        assert which == 0, "nothing came for half a minute"
        if isinstance(value, int):
            await target.send(value + mark)
        else:
            which, _ = await treadle.select(treadle.after_op(30), target.send_op(value))
            assert which == 1, "nobody took it for half a minute"
    target.close()


async def main(*args):
    await treadle.go(pass_on(*args))


def station(source, target, ready, mark):
    channels = [treadle.SharedChan._from_address(a) for a in (source, target, ready)]
    treadle.run(main(*channels, mark))
