# SPDX-License-Identifier: MIT
"""The echo server that is measured, in Python."""

import treadle


async def serve(conn: treadle.Conn) -> None:
    async with conn:
        try:
            while data := await conn.read(4096):
                await conn.write(data)
        except ConnectionError:
            pass  # the load hangs up in the middle


async def main() -> None:
    listener = await treadle.listen("tcp", "127.0.0.1:0")
    print(f"listening on 127.0.0.1:{listener.port}", flush=True)
    async for conn in listener:
        treadle.go(serve(conn))


treadle.run(main())
