# SPDX-License-Identifier: MIT
"""The HTTP server that is measured: a constant answer to each request."""

import treadle

ANSWER = (b"HTTP/1.1 200 OK\r\nServer: treadle\r\nContent-Type: text/plain\r\n"
          b"Content-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n")


async def hello(conn: treadle.Conn) -> None:
    while (line := await conn.readline()) not in (b"\r\n", b""):
        pass
    if line:
        await conn.write(ANSWER)
    else:
        conn.close()


async def main() -> None:
    listener = await treadle.listen("tcp", "127.0.0.1:0")
    print("listening on", listener.address, flush=True)
    async with treadle.serve(listener, hello):
        await treadle.sleep(3600)


treadle.run(main())
