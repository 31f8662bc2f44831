"""A chat room: for each client a reader goroutine, a writer goroutine and a
channel between the room and the writer.  Try it with `nc 127.0.0.1 7000`.

chat.py [host:port [idle_seconds]]     default 127.0.0.1:7000 300
"""

import sys

import treadle
from server import run

MAX_LINE = 1024
MAX_NICK = 32
OUTBOX = 256  # messages that a client may lag behind

idle = 300.0


class Client:
    def __init__(self, conn: treadle.Conn) -> None:
        self.conn = conn
        self.nick = b""
        self.outbox: treadle.Chan[bytes] = treadle.Chan(OUTBOX)

    async def read_line(self) -> bytes:
        """The next line, without its end. EOFError where there is none."""
        self.conn.set_read_deadline(treadle.now() + idle)
        line = await self.conn.readline(MAX_LINE)
        if not line:
            raise EOFError
        return line.rstrip(b"\r\n")

    async def write(self) -> None:
        """Sends what comes through the outbox, several messages at once when
        they are there, until it is closed and empty."""
        try:
            async for message in self.outbox:
                while len(self.outbox) and len(message) < 4096:
                    message += await self.outbox.recv()
                await self.conn.write(message)
        except OSError:
            self.conn.close()  # wakes the reader

    def tell(self, message: bytes) -> None:
        """Waits for nobody: who lags too far behind is cut off, which ends its
        reader."""
        if not self.outbox.try_send(message):
            self.conn.close()


room: set[Client] = set()


def tell_others(client: Client, message: bytes) -> None:
    for other in room:
        if other is not client:
            other.tell(message)


async def talk(client: Client) -> None:
    while not 0 < len(client.nick) <= MAX_NICK:
        await client.conn.write(b"name?\n")
        client.nick = await client.read_line()
    tell_others(client, b"* %b joined\n" % client.nick)
    room.add(client)
    try:
        while (line := await client.read_line()) != b"/quit":
            tell_others(client, b"%b: %b\n" % (client.nick, line))
    finally:
        room.discard(client)
        tell_others(client, b"* %b left\n" % client.nick)


async def serve(conn: treadle.Conn) -> None:
    async with conn:
        client = Client(conn)
        writer = treadle.go(client.write())
        try:
            await talk(client)
        except TimeoutError:
            client.tell(b"* idle, bye\n")
        except ValueError:
            client.tell(b"* line too long, bye\n")
        except (OSError, EOFError):
            pass
        finally:
            conn.set_write_deadline(treadle.now() + 5)
            client.outbox.close()  # the writer sends what is left, and ends
        await writer


if __name__ == "__main__":
    if len(sys.argv) > 2:
        try:
            idle = float(sys.argv[2])
        except ValueError:
            idle = 0
        if not 0 < idle < 1e9:
            sys.exit("usage: chat.py [host:port [idle_seconds]]")
    run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7000", serve)
