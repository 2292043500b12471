"""Files on HDFS, without Java: paths are ``hdfs://namenode:8020/path``, ``hdfs://nameservice/path``, or ``hdfs:///path`` on the file
system that Hadoop's configuration names first.

    from maniple import fs

    with fs.open("hdfs:///data/words.txt") as f: ...
    with fs.open("hdfs:///user/me/model.pt", "wb") as f:
        torch.save(model.state_dict(), f)

A file that is written is there under its name when it is closed, all at once: until then, and when the block ends by an exception, the file before it stays.
In an application of YARN a program is its user by the application's token; elsewhere as Hadoop's programs are, by kinit or HADOOP_USER_NAME. Where fsspec
is installed this is its ``hdfs``, so that pandas, torch and others take such paths (docs/guide/hdfs.md).
"""

from __future__ import annotations

import io
import os
import posixpath
import warnings
from typing import Any, List, Optional, Tuple

from maniple import _hdfs
from maniple._hdfs import Entry

__all__ = ["Entry", "exists", "listdir", "makedirs", "open", "remove", "rename", "stat"]

_BLOCK = 1 << 20  # bytes that are read and written at once
_SCHEME = "hdfs://"
_MODES = ("rb", "wb", "xb")
_MODE = "a file of HDFS is opened for reading (r), writing (w) or writing a new one (x), not {!r}: it can't be changed or appended to"


def split(path: Any) -> Tuple[str, str]:
    """The file system and the path in it. Raises ValueError for what is no path of HDFS."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text.startswith(_SCHEME):
        raise ValueError(f"{text!r} is no path of HDFS: one looks like hdfs:///user/me/file")
    server, slash, rest = text[len(_SCHEME) :].partition("/")
    if not slash:
        raise ValueError(f"{text!r} names no file: write a slash and the path after the NameNode")
    return server, "/" + rest


class _Raw(io.RawIOBase):
    """A file of HDFS, under the buffer that open puts over it."""

    def __init__(self, server: str, user: Optional[str], path: str):
        self._of, self._path, self.name = (server, user), path, f"{_SCHEME}{server}{path}"
        self._connection: Optional[_hdfs.Connection] = None


class _Reader(_Raw):
    """One that is read. A connection that broke is made anew, and goes on in the same file."""

    def __init__(self, server: str, user: Optional[str], path: str):
        super().__init__(server, user, path)
        self._at = self._id = self.size = 0
        self._opened()

    def _opened(self) -> _hdfs.Connection:
        if self._connection is None or not self._connection.usable():
            self._connection = _hdfs.take(*self._of)
            try:
                info = self._connection.call(self.name, op="open", path=self._path, id=self._id)["info"]
            except BaseException:
                self._connection.close()
                raise
            if not self._id:
                self._id, self.size = info["id"], info["size"]
        return self._connection

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.closed:
            raise ValueError("the file is closed")
        at = offset + (0, self._at, self.size)[whence]
        if at < 0:
            raise OSError(22, os.strerror(22), self.name)
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        if self.closed:
            raise ValueError("the file is closed")
        with memoryview(into).cast("B") as view:
            some = view[: max(0, min(len(view), _hdfs.MOST, self.size - self._at))]
            if not some:
                return 0
            for again in (False, True):
                try:
                    n = self._opened().read_into(self.name, self._at, some)
                    break
                except ConnectionError:
                    if again:
                        raise
            self._at += n
            return n

    def close(self) -> None:
        if not self.closed and self._connection is not None:
            self._connection.close()
        super().close()


def unclosed(file: Any) -> None:
    """Ends one that is written and goes without having been closed: it is half a file, as a rule."""
    name = file.name
    file.discard()
    file.close()
    warnings.warn(f"{name} was not closed: nothing of it is written", ResourceWarning, source=file)


class _Writer(_Raw):
    """One that is written. It takes its place when it is closed, if it commits by itself."""

    def __init__(self, server: str, user: Optional[str], path: str, exclusive: bool, commits: bool):
        super().__init__(server, user, path)
        self._commits, self._at = commits, 0
        connection = _hdfs.take(server, user)
        try:
            connection.call(self.name, op="create", path=path, exclusive=exclusive)
        except BaseException:
            _hdfs.give(connection, server, user)
            raise
        self._connection = connection

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def _go_on(self, data: Any = b"", **ask: Any) -> None:
        if self._connection is None:
            raise ValueError(f"{self.name} was discarded or is in its place")
        if self._connection.pid != os.getpid():
            raise OSError(9, "it is written by the process that opened it", self.name)
        self._connection.call(self.name, data, **ask)

    def write(self, data: Any) -> int:
        with memoryview(data).cast("B") as view:
            some = view[: _hdfs.MOST]
            if some:
                self._go_on(some, op="write")
            self._at += len(some)
            return len(some)

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self._connection is not None and self._connection.pid == os.getpid():
                self._go_on(op="finish")
                if self._commits:
                    self.commit()
        except BaseException:
            self.discard()
            raise
        finally:
            super().close()

    def __del__(self) -> None:
        """In a cycle that is collected it may be the first of those that are one file."""
        if not self.closed and self._connection is not None:
            unclosed(self)

    def commit(self) -> None:
        """Has it take its place."""
        self._go_on(op="commit")
        self._done()

    def discard(self) -> None:
        """Leaves what is in its place as it is."""
        if self._connection is not None and self._connection.usable():
            try:
                self._go_on(op="discard")
            except OSError:  # it goes with its connection
                self._connection.close()
        self._done()

    def _done(self) -> None:
        if self._connection is not None:
            _hdfs.give(self._connection, *self._of)
        self._connection = None


class _Written(io.BufferedWriter):
    """What open gives for writing: a block that ends by an exception leaves the file before it in its place."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.discard()
        super().__exit__(kind, value, trace)

    def close(self) -> None:
        if self.raw is not None and not self.raw.closed and self.raw._connection is None:  # discarded: what is in the buffer goes nowhere
            self.raw.close()
            return
        super().close()

    def __del__(self) -> None:
        if not self.closed:
            unclosed(self)

    def commit(self) -> None:
        self.raw.commit()

    def discard(self) -> None:
        self.raw.discard()


class _Text(io.TextIOWrapper):
    """The same of text."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None and self.buffer.writable():
            self.buffer.discard()
            self.buffer.close()
            return
        super().__exit__(kind, value, trace)

    def __del__(self) -> None:
        try:
            half = not self.closed and self.buffer.writable()
        except (AttributeError, ValueError):  # it was not made to its end, or detached
            return
        if half:
            unclosed(self.buffer)
        else:
            super().__del__()


def open_at(server: str, user: Optional[str], path: str, mode: str, buffering: int = -1, commits: bool = True) -> Any:
    """A binary file for reading (rb), writing (wb) or writing what must not be there (xb)."""
    block = buffering if buffering > 1 else _BLOCK
    if mode == "rb":
        return io.BufferedReader(_Reader(server, user, path), block)
    if mode in ("wb", "xb"):
        return _Written(_Writer(server, user, path, mode == "xb", commits), block)
    raise ValueError(_MODE.format(mode))


def open(
    path: Any, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None, errors: Optional[str] = None, newline: Optional[str] = None
) -> Any:
    """Opens a file as the builtin open does, for reading ("r", "rb"), writing ("w", "wb") or writing what is not there ("x", "xb"): neither now
    nor when it is closed. Directories that are missing are made. Raises what that raises: FileNotFoundError, PermissionError, IsADirectoryError, FileExistsError, OSError."""
    server, name = split(path)
    if not isinstance(mode, str):
        raise TypeError(f"a file's mode is a text such as \"rb\", not {mode!r}")
    binary = "b" in mode
    if binary and (encoding, errors, newline) != (None, None, None):
        raise ValueError("a binary file has no encoding, errors or newline")
    plain = mode.replace("t", "").replace("b", "") + "b"
    if plain not in _MODES or len(mode) > 2:
        raise ValueError(_MODE.format(mode))
    file = open_at(server, None, name, plain, buffering)
    return file if binary else _Text(file, encoding or "utf-8", errors, newline)


def stat(path: Any) -> Entry:
    """What is known of a file or directory. Raises FileNotFoundError."""
    server, name = split(path)
    return _hdfs.call(server, None, name, op="stat")


def exists(path: Any) -> bool:
    """There is such a file or directory."""
    try:
        stat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def listdir(path: Any) -> List[Entry]:
    """What is in a directory, by name. Raises FileNotFoundError, NotADirectoryError."""
    server, name = split(path)
    return _hdfs.call(server, None, name, op="list")


def makedirs(path: Any, exist_ok: bool = False) -> None:
    """Makes a directory, and those that it lies in. Raises FileExistsError."""
    server, name = split(path)
    _hdfs.call(server, None, name, op="mkdir", parents=True, exclusive=not exist_ok)


def remove(path: Any, recursive: bool = False) -> None:
    """Removes a file, or a directory: one that has something in it with recursive only. Nothing goes to the trash."""
    server, name = split(path)
    _hdfs.call(server, None, name, op="remove", recursive=recursive)


def rename(old: Any, new: Any) -> None:
    """Moves a file or directory within one file system; a file that is there already is replaced, at once."""
    (server, name), (there, to) = split(old), split(new)
    if there != server:
        raise ValueError(f"{old} and {new} are on two file systems: copy it")
    _hdfs.call(server, None, name, op="rename", to=posixpath.normpath(to))
