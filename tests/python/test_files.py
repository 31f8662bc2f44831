# SPDX-License-Identifier: MIT
"""Files, names, processes and signals."""

import asyncio
import errno
import os
import signal

import pytest
import treadle
from treadle import fs


def test_file(drive, tmp_path):
    path = tmp_path / "a"

    async def main():
        async with await treadle.open_file(path, "w+b", perm=0o640) as f:
            assert await f.write(b"hello, file") == 11
            assert await f.pwrite(b"F", 7) == 1
            assert await f.read(5) == b""
            assert f.seek(7) == 7
            assert await f.read(2) == b"Fi"
            assert await f.read() == b"le"
            assert await f.pread(5, 0) == b"hello"
            assert f.tell() == 11
            await f.sync()
            await f.sync(data_only=True)
            await f.truncate(5)
            st = await f.stat()
            assert (st.size, st.type, st.mode, st.is_file) == (5, "file", 0o640 & ~umask(), True)
            assert st.mtime_ns == os.stat(path).st_mtime_ns
            assert f.fileno() > 2
        assert f.closed
        f.close()
        with pytest.raises(treadle.Closed):
            await f.read(1)
        with pytest.raises(ValueError):
            await f.pread(1, -1)

    drive(main)


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_lines(drive, tmp_path):
    path = tmp_path / "lines"
    lines = [b"one\n", b"\n", b"x\r" * 100_000 + b"\n", b"last"]
    path.write_bytes(b"".join(lines))

    async def main():
        async with await treadle.open_file(path) as f:
            assert [line async for line in f] == lines

    drive(main)


def test_failures(drive, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError) as e:
            await treadle.open_file(tmp_path / "none")
        assert (e.value.errno, e.value.filename) == (errno.ENOENT, str(tmp_path / "none"))
        assert str(e.value) == f"[Errno 2] No such file or directory: '{tmp_path}/none'"
        with pytest.raises(FileNotFoundError) as e:
            await fs.rename(tmp_path / "none", tmp_path / "other")
        assert (e.value.filename, e.value.filename2) == (str(tmp_path / "none"), str(tmp_path / "other"))
        with pytest.raises(IsADirectoryError):
            await treadle.open_file(tmp_path, "w")
        with pytest.raises(FileNotFoundError):
            await fs.stat("")
        with pytest.raises(ValueError):
            await fs.stat("a\0b")
        with pytest.raises(ValueError):
            await treadle.open_file(tmp_path, "q")
        with pytest.raises(TypeError):
            await fs.stat(3)  # type: ignore[arg-type]
        async with await treadle.open_file(tmp_path / "x", "x") as f:
            with pytest.raises(TypeError):
                await f.write("text")  # type: ignore[arg-type]
            with pytest.raises(OSError) as e:
                await f.read(1)
            assert e.value.errno == errno.EBADF
        with pytest.raises(FileExistsError):
            await treadle.open_file(tmp_path / "x", "x")

    drive(main)


def test_paths(drive, tmp_path):
    async def main():
        d = await fs.mkdtemp(tmp_path / "d-XXXXXX")
        os.chdir(d)
        await fs.write_text("b", "bytes")
        await fs.mkdir("a/deep/one", parents=True)
        await fs.mkdir("a", exist_ok=True)
        with pytest.raises(FileExistsError):
            await fs.mkdir("b", exist_ok=True)
        await fs.symlink("b", "c")
        await fs.link("b", "d")
        assert await fs.scandir() == [("a", "directory"), ("b", "file"), ("c", "link"), ("d", "file")]
        assert await fs.listdir(d) == ["a", "b", "c", "d"]
        assert await fs.readlink("c") == "b"
        assert await fs.realpath("c") == os.path.realpath("b")
        assert (await fs.lstat("c")).type == "link"
        await fs.chmod("b", 0o400)
        await fs.utime("b", 1_000_000_001, -1)
        await fs.chown("b", -1, os.getgid())
        st = await fs.stat("c")
        assert (st.mode, st.nlink, st.atime_ns, st.mtime_ns) == (0o400, 2, 1_000_000_001, -1)
        await fs.copy("b", "e", exclusive=True)
        with pytest.raises(FileExistsError):
            await fs.copy("b", "e", exclusive=True)
        assert await fs.access("e", os.R_OK) and not await fs.access("f")
        await fs.rename("e", "f")
        assert await fs.exists("f") and not await fs.exists("e")
        await fs.remove("f")
        await fs.rmdir("a/deep/one")
        with pytest.raises(OSError) as e:
            await fs.rmdir("a")
        assert e.value.errno == errno.ENOTEMPTY
        async with await fs.open_temp("t-XXXXXX") as t:
            assert os.path.exists(t.name)
        await fs.write_bytes("w", b"one", atomic=True)
        await fs.write_bytes("w", b"two", append=True)
        assert await fs.read_bytes("w") == b"onetwo"
        assert await fs.read_text("w") == "onetwo"
        with pytest.raises(FileExistsError):
            await fs.write_bytes("w", b"", exclusive=True)

    here = os.getcwd()
    try:
        drive(main)
    finally:
        os.chdir(here)


def test_many_at_once(drive, tmp_path):
    async def one(i):
        await fs.write_bytes(tmp_path / str(i), b"%d" % i * 1000)
        return await fs.read_bytes(tmp_path / str(i))

    async def main():
        work = [treadle.go(one(i)) for i in range(50)]
        for i, g in enumerate(work):
            assert await g == b"%d" % i * 1000

    drive(main)


def test_cancelled(drive, tmp_path):
    """A read that the system keeps waiting ends with the goroutine's cancellation."""

    async def main():
        r, w = os.pipe()
        f = await treadle.open_file(f"/proc/self/fd/{r}")  # not to be waited for
        with pytest.raises(BlockingIOError):
            await f.read(1)
        f.close()
        os.close(r)
        os.close(w)
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.01):
                await treadle.sleep(0)
                while True:
                    await fs.stat(tmp_path)

    drive(main)


def test_lookup(drive):
    async def main():
        assert await treadle.lookup("10.1.2.3") == ["10.1.2.3"]
        assert await treadle.lookup("::1", port=80) == ["[::1]:80"]
        assert await treadle.lookup("localhost", network="udp4", port=1) == ["127.0.0.1:1"]
        with pytest.raises(ValueError):
            await treadle.lookup("127.1")
        with pytest.raises(ValueError):
            await treadle.lookup("localhost", port=65536)
        with pytest.raises(ValueError):
            await treadle.lookup_name("no number")
        with pytest.raises(TypeError):
            await treadle.lookup(7)  # type: ignore[arg-type]

    drive(main)


def test_process(drive):
    async def main():
        p = treadle.process(["sh", "-c", "exit 7"])
        assert p.pid > 1 and await p.wait() == 7 == p.returncode
        with pytest.raises(ProcessLookupError):
            p.kill()
        p = treadle.process(["sleep", "1000"])
        with pytest.raises(TimeoutError):
            async with treadle.timeout(0.01):
                await p.wait()
        p.terminate()
        assert await p.wait() == -signal.SIGTERM
        async with treadle.process(
            ["sh", "-c", "cat; pwd; echo $ONE; echo oops >&2"],
            stdin="pipe", stdout="pipe", stderr="pipe", cwd="/", env={"ONE": "1", "PATH": "/usr/bin:/bin"},
        ) as p:
            data = b"x" * 300_000
            assert await p.communicate(data + b"\n") == (data + b"\n/\n1\n", b"oops\n")
        assert p.returncode == 0
        async with treadle.process(["sh", "-c", "echo a; echo b >&2"], stdout="pipe", stderr="out") as p:
            assert p.stdout is not None
            assert [line async for line in p.stdout.lines()] == [b"a", b"b"]

    drive(main)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_process_failures(drive):
    async def main():
        with pytest.raises(FileNotFoundError) as e:
            treadle.process(["no-such-program"])
        assert e.value.filename == "no-such-program"
        for bad in ([], [""]):
            with pytest.raises(ValueError):
                treadle.process(bad)
        with pytest.raises(ValueError):
            treadle.process(["true"], stdout="out")
        with pytest.raises(ValueError):
            treadle.process(["true"], stdin=-1)
        with pytest.raises(ValueError):
            treadle.process(["tr\0ue"])
        with pytest.raises(ZeroDivisionError):
            async with treadle.process(["sleep", "1000"]) as p:
                raise ZeroDivisionError
        assert p.returncode == -signal.SIGKILL

        async def hold():
            async with treadle.process(["sleep", "1000"]) as q:
                started.append(q)
                await treadle.sleep(1000)

        started: list[treadle.Process] = []
        g = treadle.go(hold())
        while not started:
            await treadle.sleep(0.001)
        g.cancel()
        with pytest.raises(asyncio.CancelledError):
            await g
        assert await started[0].wait() == -signal.SIGKILL

    drive(main)


def test_signals(drive):
    calls = []
    before = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))

    async def main():
        async with treadle.signals(signal.SIGUSR1, signal.SIGUSR2) as a:
            with treadle.signals(signal.SIGUSR1) as b:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert await a.recv() == signal.SIGUSR1 == await b.recv()
            os.kill(os.getpid(), signal.SIGUSR2)
            async for number in a:
                assert number == signal.SIGUSR2
                break
            assert calls == []
        with pytest.raises(treadle.ChannelClosed):
            await a.recv()
        os.kill(os.getpid(), signal.SIGUSR1)
        while not calls:
            await treadle.sleep(0.001)
        for bad in (signal.SIGKILL, 0, 1000):
            with pytest.raises(ValueError):
                treadle.signals(bad)
        with pytest.raises(ValueError):
            treadle.signals()

    try:
        drive(main)
        assert calls == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_watch(drive, tmp_path):
    async def make():
        await fs.write_bytes(tmp_path / "entry", b"x")
        await fs.remove(tmp_path / "entry")

    async def main():
        async with await fs.watch(tmp_path) as w:
            g = treadle.go(make())
            kinds = []
            async for change in w:
                assert change.name == "entry"
                kinds.append(change.kind)
                if len(kinds) > 1 and change.kind == "rename":
                    break
            assert kinds[0] == "rename"
            await g
        with pytest.raises(treadle.Closed):
            await w.next()
        assert [change async for change in w] == []
        with pytest.raises(FileNotFoundError) as e:
            await fs.watch(tmp_path / "none")
        assert e.value.filename == str(tmp_path / "none")

    drive(main)


def test_terminal():
    import pty
    import termios

    master, tty = pty.openpty()
    before = termios.tcgetattr(tty)
    with treadle.raw_mode(tty):
        assert not termios.tcgetattr(tty)[3] & termios.ICANON
    assert termios.tcgetattr(tty) == before
    os.close(tty)
    os.close(master)
    with open("/dev/null") as null, pytest.raises(OSError) as e, treadle.raw_mode(null.fileno()):
        pass
    assert e.value.errno == errno.ENOTTY
