"""A small HTTP/1.1 server: keep-alive, pipelining, limits, an idle deadline.

http_server.py [host:port]     default 127.0.0.1:8080
"""

import re
import sys

import treadle
from server import run

IDLE = 30.0
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_BODY = 1 << 20

BODY = b"Hello, World!\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n" + BODY
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}

# token SP target SP HTTP-version
REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (\S+) (HTTP/\d\.\d)")
HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")


class Rejected(Exception):
    """The request cannot be answered otherwise, nor what follows it be read."""

    def __init__(self, status: int) -> None:
        self.status = status


class Request:
    """What the answer depends on."""

    def __init__(self, head: bytes) -> None:
        line, *headers = head.replace(b"\r\n", b"\n").split(b"\n")
        match = REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Rejected(400)
        method, target, version = match.groups()
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Rejected(505)
        if len(headers) > MAX_HEADERS:
            raise Rejected(431)
        self.status = 405 if method != b"GET" else 200 if target == b"/" else 404
        self.http_1_0 = version == b"HTTP/1.0"
        self.keep_alive = not self.http_1_0
        self.body: int | None = None
        for header in headers:
            self._header(header)

    def _header(self, header: bytes) -> None:
        match = HEADER.fullmatch(header)
        if match is None:
            raise Rejected(400)
        name, value = match[1].lower(), match[2]
        if name == b"connection":
            for option in value.lower().split(b","):
                if option.strip() == b"close":
                    self.keep_alive = False
                elif option.strip() == b"keep-alive" and self.http_1_0:
                    self.keep_alive = True
        elif name == b"content-length":
            if not value.isdigit() or self.body not in (None, int(value[:20])):
                raise Rejected(400)
            self.body = int(value[:20])
            if self.body > MAX_BODY:
                raise Rejected(413)
        elif name == b"transfer-encoding":
            raise Rejected(501)

    def answer(self) -> bytes:
        if self.status == 200 and self.keep_alive and not self.http_1_0:
            return HELLO
        if not self.keep_alive:
            connection = "close"
        else:
            connection = "keep-alive" if self.http_1_0 else ""
        return answer(self.status, connection)


def answer(status: int, connection: str) -> bytes:
    text = f"{status} {REASONS[status]}"
    body = BODY if status == 200 else text.encode() + b"\n"
    head = f"HTTP/1.1 {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    if status == 405:
        head += "Allow: GET\r\n"
    if connection:
        head += f"Connection: {connection}\r\n"
    return head.encode() + b"\r\n" + body


HEAD_END = re.compile(rb"\r?\n\r?\n")


async def converse(conn: treadle.Conn) -> None:
    """Answers requests until the client leaves or asks to close. What one read
    brings is answered by one write."""
    data = b""
    while True:
        conn.set_read_deadline(treadle.now() + IDLE)
        more = await conn.read(65536)
        if not more:
            return
        data += more
        answers: list[bytes] = []
        skip = 0
        while end := HEAD_END.search(data):
            if end.start() > MAX_HEAD:
                break
            try:
                request = Request(data[: end.start()].lstrip(b"\r\n"))
            except Rejected:
                await conn.write(b"".join(answers))  # those before it
                raise
            data = data[end.end() :]
            answers.append(request.answer())
            if not request.keep_alive:
                await conn.write(b"".join(answers))
                return
            skip = request.body or 0
            if skip > len(data):
                skip -= len(data)
                data = b""
                break
            data = data[skip:]
            skip = 0
        if answers:
            await conn.write(b"".join(answers))
        if len(data) > MAX_HEAD:
            raise Rejected(431)
        while skip:  # nobody here wants a body
            skip -= len(await conn.readexactly(min(skip, 65536)))


async def serve(conn: treadle.Conn) -> None:
    async with conn:
        try:
            await converse(conn)
        except Rejected as rejected:
            conn.set_deadline(treadle.now() + 5)
            try:
                await conn.write(answer(rejected.status, "close"))
                conn.shutdown_write()
                while await conn.read(65536):  # or the client would see a reset first
                    pass
            except OSError:
                pass
        except (OSError, EOFError):
            pass  # hung up, or silent for too long


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080", serve)
