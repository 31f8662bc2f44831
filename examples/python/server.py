"""What the example servers share: the listener, the accept loop, a clean end."""

import asyncio
import errno
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import treadle

Serve = Callable[[treadle.Conn], Coroutine[Any, Any, None]]


async def serve_forever(address: str, serve: Serve) -> None:
    """One goroutine per connection, until SIGTERM or SIGINT closes the listener."""
    async with await treadle.listen("tcp", address) as listener:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, listener.close)
        print(f"listening on 127.0.0.1:{listener.port}", flush=True)
        while True:
            try:
                conn = await listener.accept()
            except treadle.Closed:
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                await treadle.sleep(0.01)  # until somebody hangs up
                continue
            treadle.go(serve(conn))


def run(address: str, serve: Serve) -> None:
    try:
        treadle.run(serve_forever(address, serve))
    except (OSError, ValueError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")
