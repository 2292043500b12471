"""HDFS for fsspec: what pandas, torch and others open hdfs:// with where this package is installed."""

from __future__ import annotations

import errno
import io
import posixpath
from typing import Any, Callable, Dict, List, Optional

from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem
from fsspec.utils import infer_storage_options

from maniple import _hdfs, fs
from maniple._hdfs import Entry


class _Packed(io.BufferedIOBase):
    """What compresses a file, or the other way around: by itself it does not close that, and a file that nobody closes is not written."""

    def __init__(self, packed: Any, file: Any):
        self._packed, self._file, self._dropped = packed, file, False

    def readable(self) -> bool:
        return self._packed.readable()

    def writable(self) -> bool:
        return self._packed.writable()

    def seekable(self) -> bool:
        return self._packed.seekable()

    def read(self, size: Optional[int] = -1) -> bytes:
        return self._packed.read(size)

    def read1(self, size: int = -1) -> bytes:
        return self._packed.read(size)

    def readline(self, size: Optional[int] = -1) -> bytes:
        return self._packed.readline(size)

    def write(self, data: Any) -> int:
        return self._packed.write(data)

    def flush(self) -> None:
        if not self._packed.closed:
            self._packed.flush()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._packed.seek(offset, whence)

    def tell(self) -> int:
        return self._packed.tell()

    @property
    def name(self) -> str:
        return self._file.name

    def discard(self) -> None:
        """Leaves what is in its place as it is."""
        self._dropped = True
        self._file.discard()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._packed.close()
        except ValueError:
            if not self._dropped:
                raise
        except BaseException:
            self._file.discard()
            raise
        finally:
            self._file.close()
            super().close()

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None and self.writable():
            self.discard()
        self.close()

    def __del__(self) -> None:
        if self.closed or not hasattr(self, "_dropped"):  # it was not made to its end
            return
        if self._file.writable():
            fs.unclosed(self)
        else:
            self.close()


_COPIES = 3  # how often a file is copied until it is given up


def _whole(copy: Callable[[], None]) -> None:
    """Copies again where the machines that had a part of it are lost: what is copied is there to be read again."""
    for _ in range(_COPIES - 1):
        try:
            return copy()
        except OSError as e:
            if e.errno != errno.EIO:
                raise
    return copy()


class HDFSFileSystem(AbstractFileSystem):
    """hdfs:// by maniple.fs. host, port: of the NameNode, or the name of a nameservice; "", "default": as Hadoop's configuration says. user: who this is, on a
    cluster without Kerberos."""

    protocol = "hdfs"
    root_marker = "/"

    def __init__(self, host: str = "", port: Any = 0, user: Optional[str] = None, **other: Any):
        super().__init__(host=host, port=port, user=user, **other)
        host = "" if host == "default" else host
        self._of = (f"{host}:{port}" if host and port else host), user
        self._url = f"hdfs://{self._of[0]}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = str(path)
        if path.startswith("hdfs://"):
            path = "/" + path[len("hdfs://") :].partition("/")[2]
        return path.rstrip("/") or "/"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> Dict[str, Any]:
        found = infer_storage_options(path)
        given = {"host": found.get("host"), "port": found.get("port"), "user": found.get("username")}
        return {name: value for name, value in given.items() if value}

    @property
    def fsid(self) -> str:
        return "hdfs_" + self._of[0]

    def _call(self, path: str, **ask: Any) -> Any:
        return _hdfs.call(*self._of, self._strip_protocol(path), **ask)

    def _info(self, path: str, entry: Entry) -> Dict[str, Any]:
        kind = "directory" if entry.is_dir else "file"
        return {**entry._asdict(), "name": path, "type": kind}

    def info(self, path: str, **other: Any) -> Dict[str, Any]:
        path = self._strip_protocol(path)
        return self._info(path, self._call(path, op="stat"))

    def exists(self, path: str, **other: Any) -> bool:
        try:
            self.info(path)
            return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    def ls(self, path: str, detail: bool = True, **other: Any) -> List[Any]:
        path = self._strip_protocol(path)
        try:
            found = [self._info(posixpath.join(path, entry.name), entry) for entry in self._call(path, op="list")]
        except NotADirectoryError:
            found = [self.info(path)]
        return found if detail else [one["name"] for one in found]

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True, cache_options: Any = None, **other: Any) -> Any:
        size = block_size if isinstance(block_size, int) else -1
        return fs.open_at(*self._of, self._strip_protocol(path), mode, size, commits=autocommit)

    def open(self, path: str, mode: str = "rb", block_size: Any = None, cache_options: Any = None, compression: Optional[str] = None, **options: Any) -> Any:
        text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        file = super().open(path, mode.replace("t", "").replace("b", "") + "b", block_size, cache_options, **options)
        method = get_compression(path, compression)
        if method is not None:
            file = _Packed(compr[method](file, mode="r" if "r" in mode else "w"), file)
        return file if "b" in mode else fs._Text(file, **{"encoding": "utf-8", **text})

    def mkdir(self, path: str, create_parents: bool = True, **other: Any) -> None:
        self._call(path, op="mkdir", parents=create_parents, exclusive=True)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._call(path, op="mkdir", parents=True, exclusive=not exist_ok)

    def rmdir(self, path: str) -> None:
        self._call(path, op="remove", recursive=False)

    def _rm(self, path: str) -> None:
        self._call(path, op="remove", recursive=False)

    def rm(self, path: Any, recursive: bool = False, maxdepth: Optional[int] = None) -> None:
        paths = path if isinstance(path, list) else [path]
        if maxdepth is not None or any(mark in one for one in paths for mark in "*?["):
            super().rm(path, recursive, maxdepth)
            return
        for one in paths:
            self._call(one, op="remove", recursive=recursive)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: Optional[int] = None, **other: Any) -> None:
        self._call(path1, op="rename", to=self._strip_protocol(path2))

    def cp_file(self, path1: str, path2: str, **other: Any) -> None:
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        _whole(lambda: self._copy(path1, path2))

    def _copy(self, path1: str, path2: str) -> None:
        with self.open(path1, "rb") as source, self.open(path2, "wb") as to:
            while True:
                data = source.read(_hdfs.MOST)
                if not data:
                    return
                to.write(data)

    def put_file(self, lpath: str, rpath: str, *more: Any, **other: Any) -> None:
        put = super().put_file
        _whole(lambda: put(lpath, rpath, *more, **other))

    def created(self, path: str) -> Any:
        return self.modified(path)

    def modified(self, path: str) -> Any:
        import datetime

        return datetime.datetime.fromtimestamp(self.info(path)["mtime"], tz=datetime.timezone.utc)

    def unstrip_protocol(self, name: str) -> str:
        return self._url + self._strip_protocol(name)
