"""An echo server: one goroutine per connection.  echo.py [host:port]"""

import sys

import treadle
from server import run


async def serve(conn: treadle.Conn) -> None:
    async with conn:
        conn.settimeout(30)
        try:
            async for line in conn.lines():
                await conn.write(line + b"\n")
        except (OSError, ValueError):
            pass  # hung up, silent for 30 s, or a line beyond the limit


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7000", serve)
