# SPDX-License-Identifier: MIT
"""What is used wrongly, on asyncio's own loop and on treadle's: the same exceptions with the
same texts, the same warnings, the same reports to the exception handler."""

import asyncio
import errno
import gc
import re
import signal
import socket
import ssl
import sys
import threading
import warnings
import weakref

import pytest
import treadle

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def plain(text):
    """Without what differs between two runs: addresses, descriptors, reprs, ports, names of classes."""
    text = re.sub(r"<[^<>]*(<[^<>]*>[^<>]*)*>", "<>", str(text))
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"Task-\d+", "Task-N", text)
    text = text.replace("_SelectorSocketTransport", "SocketTransport")
    text = re.sub(r"(fd=|File descriptor )\d+", r"\1N", text)
    return re.sub(r"\('(127\.0\.0\.1|::1)', \d+\)", "(address)", text)


def error_of(error):
    if error is None:
        return None
    said = [type(error).__name__, plain(error)]
    if isinstance(error, OSError):
        said.append(errno.errorcode.get(error.errno, error.errno))
    return said


class Seen:
    """What one run of a case shows."""

    def __init__(self, loop):
        self.loop, self.said = loop, []
        loop.set_exception_handler(
            lambda loop, context: self.said.append(
                ["reported", plain(context["message"]), error_of(context.get("exception")), sorted(set(context) - {"asyncgen"})]
            )
        )

    def call(self, function, *args, **kwargs):
        """One observation: what the call raises, or None; the result is closed or dropped."""
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.said.append(error_of(error))
        else:
            self.said.append(None)
            if asyncio.iscoroutine(result):
                result.close()

    async def acall(self, awaitable):
        try:
            result = await awaitable
        except BaseException as error:
            self.said.append(error_of(error))
        else:
            self.said.append(None)
            return result

    def run(self, coro):
        return self.loop.run_until_complete(coro)


def observe(factory, function, **kwargs):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loop = factory()
        seen = Seen(loop)
        try:
            function(seen, **kwargs)
        finally:
            if seen.loop is not None and not loop.is_closed():
                loop.close()
        loop = seen.loop = None
        gc.collect()
    return seen.said, sorted([w.category.__name__, plain(w.message)] for w in warned
                             if "never awaited" in str(w.message) or w.category is ResourceWarning)


async def nothing():
    pass


# -- A closed loop ------------------------------------------------------------------------


@case
def closed(seen):
    loop = seen.loop
    a, b = socket.socketpair()
    a.setblocking(False)
    with a, b:
        loop.run_until_complete(nothing())
        future = loop.create_future()
        loop.close()
        seen.call(loop.run_forever)
        for what in (nothing(), future):
            seen.call(loop.run_until_complete, what)
            if asyncio.iscoroutine(what):
                what.close()
        seen.call(loop.call_soon, print)
        seen.call(loop.call_later, 0, print)
        seen.call(loop.call_at, 0, print)
        seen.call(loop.call_soon_threadsafe, print)
        seen.call(loop.add_reader, a, print)
        seen.call(loop.add_writer, a, print)
        seen.call(loop.remove_reader, a)
        seen.call(loop.remove_writer, a)
        seen.call(loop.run_in_executor, None, print)
        coro = nothing()
        seen.call(loop.create_task, coro)
        coro.close()
        seen.call(loop.add_signal_handler, signal.SIGUSR1, print)
        seen.call(loop.remove_signal_handler, signal.SIGUSR1)
        seen.call(future.set_result, 1)
        seen.call(future.add_done_callback, print)
        seen.call(loop.close)
        seen.call(loop.stop)
        seen.call(loop.is_running)


@case
def never_awaited(seen):
    loop = seen.loop
    nothing()
    loop.close()
    with pytest.raises(RuntimeError):
        loop.run_until_complete(nothing())
    with pytest.raises(RuntimeError):
        loop.create_task(nothing())


@case
def unclosed(seen):
    seen.loop.run_until_complete(nothing())
    seen.loop = None  # and so observe() drops it


@case
def pending_at_the_end(seen):
    async def wait():
        await asyncio.get_running_loop().create_future()

    async def main():
        asyncio.create_task(wait())
        await asyncio.sleep(0)

    seen.run(main())
    gc.collect()


# -- A loop that runs -----------------------------------------------------------------------


@case
def second_loop(seen):
    async def main():
        loop = asyncio.get_running_loop()
        seen.call(loop.run_forever)
        for call in (loop.run_until_complete, asyncio.run):
            coro = nothing()
            seen.call(call, coro)
            coro.close()
        seen.call(loop.close)
        other = type(loop)()
        seen.call(other.run_forever)
        coro = nothing()
        seen.call(other.run_until_complete, coro)
        coro.close()
        other.close()

    seen.run(main())


@case
def stopped_before_the_end(seen):
    async def main():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)

    task = seen.loop.create_task(main())
    seen.call(seen.loop.run_until_complete, task)
    task.cancel()
    seen.call(seen.loop.run_until_complete, task)


@case
def future_of_another_loop(seen):
    other = type(seen.loop)()
    future = other.create_future()
    seen.call(seen.loop.run_until_complete, future)

    async def main():
        await future

    seen.call(seen.run, main())
    other.close()


@case
def wrong_thread(seen):
    loop = seen.loop
    loop.set_debug(True)
    a, b = socket.socketpair()

    def there():
        seen.call(loop.call_soon, print)
        seen.call(loop.call_later, 1, print)
        seen.call(loop.call_at, 1, print)
        seen.call(loop.call_soon_threadsafe, done.set_result, None)

    with a, b:

        async def main():
            nonlocal done
            done = loop.create_future()
            thread = threading.Thread(target=there)
            thread.start()
            await done
            thread.join()

        done = None
        seen.run(main())


@case
def coroutines_as_callbacks(seen):
    seen.loop.set_debug(True)
    for call in (seen.loop.call_soon, lambda f: seen.loop.call_later(1, f), seen.loop.call_soon_threadsafe,
                 lambda f: seen.loop.run_in_executor(None, f)):
        seen.call(call, nothing)
        seen.call(call, 3)


# -- Arguments -------------------------------------------------------------------------------


@case
def arguments(seen):
    loop = seen.loop
    seen.call(loop.run_until_complete, 1)
    seen.call(loop.set_exception_handler, 1)
    seen.call(loop.set_task_factory, 1)
    seen.call(loop.set_default_executor, 1)
    seen.call(loop.call_at, None, print)
    seen.call(loop.call_later, None, print)
    seen.call(loop.call_exception_handler, {"message": "told"})
    seen.call(loop.add_signal_handler, signal.SIGKILL, print)
    seen.call(loop.add_signal_handler, 9999, print)
    seen.call(loop.add_signal_handler, "x", print)
    seen.call(loop.add_signal_handler, signal.SIGUSR1, nothing)
    seen.call(loop.remove_signal_handler, signal.SIGUSR2)
    for fd in (-1, "x", None, object()):
        seen.call(loop.add_reader, fd, print)
        seen.call(loop.remove_writer, fd)


@case
def a_socket_that_was_closed(seen):
    """It is found by itself, though it has no number any more; and it is kept while it is registered."""
    loop = seen.loop
    for add, remove in ((loop.add_reader, loop.remove_reader), (loop.add_writer, loop.remove_writer)):
        a, b = socket.socketpair()
        a.setblocking(False)
        with b:
            seen.call(remove, a)
            seen.call(add, a, print)
            seen.said.append(loop._selector.get_key(a).fileobj is a)
            a.close()
            seen.call(remove, a)
            seen.call(remove, a)
            seen.call(add, a, print)
    a, b = socket.socketpair()
    with b:
        loop.add_reader(a, print)
        number = a.fileno()
        kept = weakref.ref(a)
        del a
        seen.said.append(kept() is not None)
        b.send(b"x")
        seen.call(loop.remove_reader, number)
        seen.said.append(kept() is None)
    loop.close()


@case
def connecting(seen):
    async def main():
        loop = asyncio.get_running_loop()
        made = asyncio.Protocol
        with socket.socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dgram:
            await seen.acall(loop.create_connection(made))
            await seen.acall(loop.create_connection(made, "127.0.0.1", 1, sock=sock))
            await seen.acall(loop.create_connection(made, sock=dgram))
            await seen.acall(loop.create_connection(made, "127.0.0.1", 1, server_hostname="x"))
            await seen.acall(loop.create_connection(made, ssl=True, sock=sock))
            await seen.acall(loop.create_connection(made, "127.0.0.1", 1, ssl_handshake_timeout=1))
            await seen.acall(loop.create_connection(made, "127.0.0.1", 1))
            await seen.acall(loop.create_connection(made, "127.0.0.1", 1, local_addr=("127.0.0.2", -1)))
            await seen.acall(loop.create_server(made))
            await seen.acall(loop.create_server(made, "127.0.0.1", 0, sock=sock))
            await seen.acall(loop.create_server(made, "127.0.0.1", 0, ssl=True))
            await seen.acall(loop.create_server(made, sock=dgram))
            await seen.acall(loop.create_unix_connection(made))
            await seen.acall(loop.create_unix_connection(made, "/nowhere/at/all"))
            await seen.acall(loop.create_unix_connection(made, sock=sock))
            await seen.acall(loop.create_unix_server(made))
            await seen.acall(loop.create_unix_server(made, "/nowhere/at/all"))
            await seen.acall(loop.create_datagram_endpoint(asyncio.DatagramProtocol))
            await seen.acall(loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock))
            await seen.acall(loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0), sock=dgram))
            await seen.acall(loop.connect_accepted_socket(made, dgram))
            await seen.acall(loop.connect_accepted_socket(made, sock, ssl_handshake_timeout=1))
            await seen.acall(loop.getaddrinfo("127.0.0.1", "no such service"))
            server = await loop.create_server(made, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            seen.said.append(None)
            try:
                await loop.create_server(made, "127.0.0.1", port)
            except OSError as error:
                seen.said.append([type(error).__name__, plain(error).replace(str(port), "N"), error.errno])
            server.close()
            await server.wait_closed()
            await seen.acall(server.start_serving())
            await seen.acall(server.serve_forever())

    seen.run(main())


@case
def sockets(seen):
    seen.loop.set_debug(True)

    async def main():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            await seen.acall(loop.sock_recv(a, 1))
            await seen.acall(loop.sock_sendall(a, b""))
            a.setblocking(False)
            await seen.acall(loop.sock_sendall(a, "text"))
            await seen.acall(loop.sock_recv(a, "x"))
            await seen.acall(loop.sock_recv(1, 1))
            await seen.acall(loop.sock_connect(a, "/nowhere/at/all"))
            with open(__file__) as text, open(__file__, "rb") as file:
                await seen.acall(loop.sock_sendfile(a, text))
                await seen.acall(loop.sock_sendfile(a, file, -1))
                await seen.acall(loop.sock_sendfile(a, file, 0, "x"))
                await seen.acall(loop.sock_sendfile(a, file, 0, -1))
        await seen.acall(loop.sock_recv(a, 1))

    seen.run(main())


async def connection(loop, factory=asyncio.Protocol):
    ours, theirs = socket.socketpair()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    return transport, protocol, theirs


@case
def transports(seen):
    async def main():
        loop = asyncio.get_running_loop()
        transport, _, peer = await connection(loop)
        with peer:
            seen.call(transport.write, "text")
            seen.call(transport.write, None)
            seen.call(transport.write, 3)
            seen.call(transport.set_write_buffer_limits, 1, 2)
            seen.call(transport.set_write_buffer_limits, low=-1)
            seen.call(transport.resume_reading)
            seen.call(transport.pause_reading)
            seen.call(transport.pause_reading)
            seen.call(transport.get_extra_info, "nothing")
            with open(__file__) as text, open(__file__, "rb") as file:
                await seen.acall(loop.sendfile(transport, text))
                await seen.acall(loop.sendfile(transport, file, -1))
            await seen.acall(loop.start_tls(transport, asyncio.Protocol(), None))
            await seen.acall(loop.start_tls(object(), asyncio.Protocol(), ssl.create_default_context()))
            seen.call(loop.add_reader, transport.get_extra_info("socket").fileno(), print)
            transport.write_eof()
            seen.call(transport.write_eof)
            seen.call(transport.write, b"after the end")
            transport.close()
            seen.call(transport.write, b"closed")
            seen.call(transport.pause_reading)
            seen.call(transport.close)
            await asyncio.sleep(0)
            with open(__file__, "rb") as file:
                await seen.acall(loop.sendfile(transport, file))
        await asyncio.sleep(0)

    seen.run(main())


def raising(method):
    class Raises(asyncio.Protocol):
        pass

    def fails(self, *args):
        raise ZeroDivisionError(method)

    setattr(Raises, method, fails)
    return Raises


@case
def protocols_that_raise(seen):
    async def main():
        loop = asyncio.get_running_loop()
        for method in ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing",
                       "resume_writing"):
            seen.said.append(method)
            transport, _, peer = await connection(loop, raising(method))
            with peer:
                if method in ("pause_writing", "resume_writing"):
                    transport.set_write_buffer_limits(0)
                    transport.write(b"x" * 5_000_000)
                    peer.setblocking(False)
                    left = 5_000_000
                    while left:
                        try:
                            left -= len(peer.recv(1 << 20))
                        except BlockingIOError:
                            await asyncio.sleep(0)
                else:
                    peer.send(b"x")
                    await asyncio.sleep(0.01)
                    peer.shutdown(socket.SHUT_WR)
                    await asyncio.sleep(0.01)
                transport.close()
                await asyncio.sleep(0.01)

    seen.run(main())


@case
def factories_that_raise(seen):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with socket.socketpair()[0] as sock:
            await seen.acall(loop.create_connection(lambda: 1 / 0, sock=sock))
        server = await loop.create_server(lambda: 1 / 0, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address[:2])
            while not seen.said[1:]:
                await asyncio.sleep(0.001)
            gc.collect()
            await seen.acall(reader.read())
            writer.close()

    seen.run(main())


factories_that_raise.tidier = True  # asyncio leaves the socket to the collector, which warns


@case
def streams(seen):
    async def main():
        a, b = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=a, limit=10)
        with b:
            seen.call(asyncio.StreamReader, 0)
            await seen.acall(reader.readexactly(-1))
            await seen.acall(reader.readuntil(b""))
            b.send(b"0123456789012345\n01")
            await seen.acall(reader.readline())
            b.send(b"0123456789012345678901234567890")
            await seen.acall(reader.readuntil(b";"))
            waiting = asyncio.create_task(reader.readexactly(1000))
            await asyncio.sleep(0)
            await seen.acall(reader.read(1))
            b.shutdown(socket.SHUT_WR)
            await seen.acall(waiting)
            seen.call(writer.write, "text")
            seen.call(writer.writelines, [1])
            writer.close()
            await writer.wait_closed()
            await seen.acall(writer.drain())
            seen.call(reader.feed_data, b"")
            reader.feed_eof()
            seen.call(reader.feed_data, b"more")

    seen.run(main())


@case
def processes(seen):
    async def main():
        await seen.acall(asyncio.create_subprocess_exec("/no/such/program"))
        await seen.acall(asyncio.create_subprocess_exec("/etc/passwd"))
        loop = asyncio.get_running_loop()
        protocol = asyncio.SubprocessProtocol
        await seen.acall(loop.subprocess_exec(protocol, "true", universal_newlines=True))
        await seen.acall(loop.subprocess_exec(protocol, "true", shell=True))
        await seen.acall(loop.subprocess_exec(protocol, "true", bufsize=1))
        await seen.acall(loop.subprocess_exec(protocol, "true", text=True))
        await seen.acall(loop.subprocess_exec(protocol, "true", encoding="utf-8"))
        await seen.acall(loop.subprocess_shell(protocol, 3))
        done = await asyncio.create_subprocess_exec("true")
        await done.wait()
        await asyncio.sleep(0)
        seen.call(done.kill)
        seen.call(done.send_signal, 9)
        seen.call(done.terminate)

    seen.run(main())


@case
def callbacks_that_raise(seen):
    loop = seen.loop
    loop.call_soon(lambda: 1 / 0)
    loop.call_later(0.001, lambda: 1 / 0)
    loop.call_soon_threadsafe(int, "x")
    future = loop.create_future()
    future.add_done_callback(lambda f: 1 / 0)
    future.set_result(None)
    a, b = socket.socketpair()
    with a, b:

        def fails():
            loop.remove_reader(a)
            raise LookupError

        loop.add_reader(a, fails)
        b.send(b"x")
        seen.run(asyncio.sleep(0.02))
    loop.call_soon(exec, "raise SystemExit(3)")
    seen.call(loop.run_forever)

    def interrupted():  # by exec it would be the interpreter's exit status, too
        raise KeyboardInterrupt

    loop.call_soon(interrupted)
    seen.call(loop.run_forever)

    def handler(loop, context):
        raise ValueError("the handler's")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    seen.run(asyncio.sleep(0))
    seen.said.sort(key=str)


@pytest.mark.parametrize("name", CASES)
def test_as_asyncio(name):
    if name == "second_loop" and (3, 13) <= sys.version_info < (3, 13, 3):
        pytest.skip("asyncio's own loop forgets that it runs when it is told to run again")
    theirs, their_warnings = observe(asyncio.SelectorEventLoop, CASES[name])
    ours, our_warnings = observe(treadle.new_event_loop, CASES[name])
    assert ours == theirs
    if not hasattr(CASES[name], "tidier"):
        assert our_warnings == their_warnings
    assert len(theirs) + len(their_warnings) > 0
