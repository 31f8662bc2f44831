# SPDX-License-Identifier: MIT
"""Files and directories: await treadle.fs.stat(path), treadle.open_file(path) …

Each call waits as every other one does, in a goroutine or an asyncio task, while
service threads of the core's do the work. Cancelled, it ends at once; what the
system is already at goes on, and touches nothing of the caller's. Failures are
OSError with the filename, as Python's own calls raise them.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import index
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, Union

from . import _treadle
from ._closing import Closing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "Change", "DirEntry", "File", "Stat", "Watch", "access", "chmod", "chown", "copy", "exists", "link", "listdir", "lstat", "mkdir",
    "mkdtemp", "open_file", "open_temp", "read_bytes", "read_text", "readlink", "realpath", "remove", "rename", "rmdir", "scandir",
    "stat", "symlink", "utime", "watch", "write_bytes", "write_text",
]

T = TypeVar("T")
Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Type = Literal["unknown", "file", "directory", "link", "fifo", "socket", "character", "block"]

_TYPES: tuple[Type, ...] = ("unknown", "file", "directory", "link", "fifo", "socket", "character", "block")
(_OPEN, _TEMP, _STAT, _ACCESS, _MKDIR, _RMDIR, _UNLINK, _RENAME, _LINK, _SYMLINK, _CHMOD, _CHOWN, _UTIME, _COPY,
 _READLINK, _REALPATH, _MKDTEMP, _READ, _SCAN) = range(19)
_APPEND, _EXCLUSIVE, _ATOMIC = 1, 2, 4
_R, _W, _A, _NEW, _ALONE, _CUT = 1, 2, 4, 8, 16, 32
_MODES = {
    "r": _R, "r+": _R | _W, "w": _W | _NEW | _CUT, "w+": _R | _W | _NEW | _CUT, "a": _W | _A | _NEW,
    "a+": _R | _W | _A | _NEW, "x": _W | _NEW | _ALONE, "x+": _R | _W | _NEW | _ALONE,
}
_CHUNK = 1 << 16
_MOST = 1 << 30


class Stat(NamedTuple):
    """What the system knows about a file; times are nanoseconds since 1970."""

    type: Type
    mode: int  # permissions alone
    size: int
    dev: int
    ino: int
    rdev: int
    nlink: int
    uid: int
    gid: int
    block_size: int
    blocks: int  # of 512 bytes
    atime_ns: int  # read
    mtime_ns: int  # written
    ctime_ns: int  # changed
    btime_ns: int  # born; 0: unknown

    @property
    def is_file(self) -> bool:
        """Is it a regular file?"""
        return self.type == "file"

    @property
    def is_dir(self) -> bool:
        """Is it a directory?"""
        return self.type == "directory"

    @property
    def mtime(self) -> float:
        """When it was last written, in seconds since 1970."""
        return self.mtime_ns / 1e9


class DirEntry(NamedTuple):
    """A name in a directory, and of what type it is."""
    name: str
    type: Type


async def _named(op: Awaitable[T], path: Path, other: Path | None = None) -> T:
    """The result, or the OSError with the names of the files."""
    try:
        return await op
    except TimeoutError:
        raise
    except _treadle.Closed:
        raise _treadle.Closed(errno.EBADF, "use of a closed file", os.fsdecode(path)) from None
    except OSError as e:
        if e.errno is None or e.filename is not None:
            raise
        names = (os.fsdecode(path),) if other is None else (os.fsdecode(path), None, os.fsdecode(other))
        raise OSError(e.errno, os.strerror(e.errno), *names) from None


def _not_empty(path: Path) -> bytes:
    name = os.fsencode(path)
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "")
    return name


async def _path(kind: int, path: Path, a: int = 0, b: int = 0, c: int = 0) -> object:
    return await _named(_treadle._fs(kind, _not_empty(path), None, a, b, c), path)


async def _paths(kind: int, path: Path, other: Path, a: int = 0) -> None:
    await _named(_treadle._fs(kind, _not_empty(path), _not_empty(other), a), path, other)


def _text(name: object) -> str:
    assert isinstance(name, bytes)
    return os.fsdecode(name)


# -- Files ---------------------------------------------------------------------


class File(Closing):
    """An open file, of bytes, from open_file. ``async with`` closes it; ``async for``
    has its lines, with their ends, from where its position is, and reads ahead."""

    def __init__(self, core: _treadle._File, name: str) -> None:
        self._core = core
        self._closed = False
        self.name = name

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._closed

    async def read(self, n: int = -1) -> bytes:
        """Up to n bytes at the position; -1: all that is left. b"" at the end."""
        n = index(n)
        if n >= 0:
            return await _named(self._core.read(min(n, _MOST)), self.name)
        parts = []
        while data := await _named(self._core.read(_CHUNK), self.name):
            parts.append(data)
        return b"".join(parts)

    async def pread(self, n: int, offset: int) -> bytes:
        """Up to n bytes at the offset; the position stays."""
        if offset < 0:
            raise ValueError("pread: a negative offset")
        return await _named(self._core.read(n, offset), self.name)

    async def write(self, data: ReadableBuffer) -> int:
        """All of it at the position (or the end, for a file opened to append)."""
        return await _named(self._core.write(data), self.name)

    async def pwrite(self, data: ReadableBuffer, offset: int) -> int:
        """All of it at the offset; the position stays."""
        if offset < 0:
            raise ValueError("pwrite: a negative offset")
        return await _named(self._core.write(data, offset), self.name)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; the new one. Does not wait."""
        return self._core.seek(offset, whence)

    def tell(self) -> int:
        """Where the next read or write begins."""
        return self._core.seek(0, os.SEEK_CUR)

    async def sync(self, data_only: bool = False) -> None:
        """Until what was written is on the disk."""
        await _named(self._core.sync(data_only), self.name)

    async def truncate(self, size: int) -> None:
        """Cuts or stretches the file to a size."""
        await _named(self._core.truncate(size), self.name)

    async def stat(self) -> Stat:
        """What the system knows of the file."""
        return _stat(await _named(self._core.stat(), self.name))

    def fileno(self) -> int:
        """The number of its descriptor."""
        return self._core.fileno()

    def close(self) -> None:
        """Operations in progress and later ones raise treadle.Closed. May be repeated."""
        self._closed = True
        self._core.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""
        while data := await self.read(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed:  # the descriptor goes with _core
            _warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<treadle.fs.File {self.name!r}{' closed' if self._closed else ''}>"


def _stat(t: tuple[int, ...]) -> Stat:
    kind, mode, *rest = t
    return Stat(_TYPES[kind], mode, *rest)


async def open_file(path: Path, mode: str = "r", *, perm: int = 0o666) -> File:
    """A file of bytes: mode "r", "w", "a", "x", each with "+" or not, as open() has them.

    perm: the permissions of a new one, less the umask.
    """
    flags = _MODES.get(mode.replace("b", ""))
    if flags is None:
        raise ValueError(f"invalid mode: {mode!r} (files are of bytes: r, w, a or x, with + or without)")
    core = await _path(_OPEN, path, flags, perm)
    assert isinstance(core, _treadle._File)
    return File(core, os.fsdecode(path))


async def open_temp(template: Path) -> File:
    """A new file that nobody else has; the template ends in "XXXXXX", its name is .name."""
    result = await _path(_TEMP, template)
    assert isinstance(result, tuple)
    core, name = result
    return File(core, os.fsdecode(name))


# -- Paths ---------------------------------------------------------------------


async def stat(path: Path, *, follow_symlinks: bool = True) -> Stat:
    """What the system knows of a file; of a link's target, unless told otherwise."""
    result = await _path(_STAT, path, int(follow_symlinks))
    assert isinstance(result, tuple)
    return _stat(result)


async def lstat(path: Path) -> Stat:
    """What the system knows of a symbolic link itself."""
    return await stat(path, follow_symlinks=False)


async def exists(path: Path) -> bool:
    """Is there a file of this name? False for a link whose target is not there."""
    try:
        await stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


async def access(path: Path, mode: int = os.F_OK) -> bool:
    """Whether this process may do so: os.R_OK, os.W_OK, os.X_OK."""
    try:
        await _path(_ACCESS, path, mode)
    except OSError:
        return False
    return True


async def mkdir(path: Path, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
    """Makes a directory; with parents also those above it. exist_ok: it may be there already."""
    try:
        await _path(_MKDIR, path, mode)
    except FileNotFoundError:
        parent = os.path.dirname(os.fsencode(path))
        if not parents or not parent:
            raise
        await mkdir(parent, parents=True, exist_ok=True)
        await mkdir(path, mode, exist_ok=exist_ok)
    except FileExistsError:
        if not exist_ok or not (await stat(path)).is_dir:
            raise


async def rmdir(path: Path) -> None:
    """Removes an empty directory."""
    await _path(_RMDIR, path)


async def remove(path: Path) -> None:
    """Removes a file, or a symbolic link itself."""
    await _path(_UNLINK, path)


async def rename(path: Path, to: Path) -> None:
    """Gives a file another name; what was at `to` is replaced, without a moment in between."""
    await _paths(_RENAME, path, to)


async def link(to: Path, path: Path) -> None:
    """Makes path another name of the file `to`: a hard link."""
    await _paths(_LINK, to, path)


async def symlink(to: Path, path: Path) -> None:
    """Makes path a symbolic link that says `to`, which need not exist."""
    await _paths(_SYMLINK, to, path)


async def chmod(path: Path, mode: int) -> None:
    """Changes the permissions."""
    await _path(_CHMOD, path, mode)


async def chown(path: Path, uid: int = -1, gid: int = -1, *, follow_symlinks: bool = True) -> None:
    """Changes the owner and the group; -1 leaves one as it is."""
    await _path(_CHOWN, path, uid, gid, int(follow_symlinks))


async def utime(path: Path, atime_ns: int, mtime_ns: int, *, follow_symlinks: bool = True) -> None:
    """Sets when it was last read and written, in nanoseconds since 1970."""
    await _path(_UTIME, path, atime_ns, mtime_ns, int(follow_symlinks))


async def copy(path: Path, to: Path, *, exclusive: bool = False) -> None:
    """Copies a file with its permissions; exclusive: FileExistsError when `to` is there."""
    await _paths(_COPY, path, to, int(exclusive))


async def readlink(path: Path) -> str:
    """What a symbolic link says."""
    return _text(await _path(_READLINK, path))


async def realpath(path: Path) -> str:
    """The absolute path without symbolic links; all of it must exist."""
    return _text(await _path(_REALPATH, path))


async def mkdtemp(template: Path) -> str:
    """A new directory that nobody else has; the template ends in "XXXXXX"."""
    return _text(await _path(_MKDTEMP, template))


async def scandir(path: Path = ".") -> list[DirEntry]:
    """What is in a directory, sorted by name, without "." and ".."."""
    result = await _path(_SCAN, path)
    assert isinstance(result, list)
    return [DirEntry(os.fsdecode(name), _TYPES[kind]) for name, kind in result]


async def listdir(path: Path = ".") -> list[str]:
    """The names in a directory, sorted, without "." and ".."."""
    return [entry.name for entry in await scandir(path)]


# -- Whole files -----------------------------------------------------------------


async def read_bytes(path: Path) -> bytes:
    """All of a file."""
    result = await _path(_READ, path)
    assert isinstance(result, bytes)
    return result


async def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """All of a file, decoded."""
    return (await read_bytes(path)).decode(encoding, errors)


async def write_bytes(
    path: Path,
    data: ReadableBuffer,
    *,
    append: bool = False,
    exclusive: bool = False,
    atomic: bool = False,
    perm: int = 0o666,
) -> None:
    """Makes data the file's content, or its end (append).

    atomic: by a file beside it that is synced and renamed, so that others see the old
    one or the new; exclusive: FileExistsError when there is one.
    """
    flags = _APPEND * append | _EXCLUSIVE * exclusive | _ATOMIC * atomic
    await _named(_treadle._fs_write(_not_empty(path), data, perm, flags), path)


async def write_text(
    path: Path,
    text: str,
    encoding: str = "utf-8",
    *,
    append: bool = False,
    exclusive: bool = False,
    atomic: bool = False,
    perm: int = 0o666,
) -> None:
    """As write_bytes, of text."""
    if not isinstance(text, str):
        raise TypeError(f"write_text: a str is required, not {type(text).__name__}")
    await write_bytes(
        path, text.encode(encoding), append=append, exclusive=exclusive, atomic=atomic, perm=perm
    )


# -- Changes ---------------------------------------------------------------------


class Change(NamedTuple):
    """What has changed, as a Watch tells it."""
    kind: Literal["rename", "change", "lost"]  # rename: it came, went or has another name; lost: some are not told
    name: str  # of the entry


class Watch(Closing):
    """Changes of a file, or of a directory's entries, from watch(): ``async for change in w``;
    ``async with`` closes it."""

    def __init__(self, core: _treadle._Watch) -> None:
        self._core = core

    async def next(self) -> Change:
        """The next one. treadle.Closed once it is closed."""
        what, name = await self._core.next()
        return Change("lost" if what & 4 else "rename" if what & 1 else "change", os.fsdecode(name))

    def close(self) -> None:
        """Whoever waits gets treadle.Closed. May be repeated."""
        self._core.close()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Change:
        try:
            return await self.next()
        except _treadle.Closed:
            raise StopAsyncIteration from None


async def watch(path: Path) -> Watch:
    """Watches a file, or the entries of a directory (not of those below it)."""
    return Watch(await _named(_treadle._watch(_not_empty(path)), path))
