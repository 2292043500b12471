"""The connection of this process to who does for it on HDFS what it asks: the `maniple` binary beside it, or its node's agent.

A frame is two numbers of four bytes, little-endian, the lengths of a text of JSON and of the bytes behind it, then both. One request at a
time is under way on a connection.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

VERSION = 1
MOST = 8 << 20  # bytes of a frame
_HEAD = struct.Struct("<II")
# What of this process says where HDFS is and who it is there: paths and names, no secrets.
_VARIABLES = (
    "HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_HOME", "HADOOP_USER_NAME", "HADOOP_TOKEN_FILE_LOCATION", "CONTAINER_ID", "USER",
    "KRB5_CONFIG", "KRB5CCNAME", "MANIPLE_PRINCIPAL", "MANIPLE_KEYTAB",
)  # fmt: skip
_IDLE = 4  # connections that wait for the next request, of each file system


class Entry(NamedTuple):
    """A file or a directory: name is its last part, mtime seconds since 1970, id its own for as long as it is there."""

    name: str
    size: int
    mtime: float
    is_dir: bool
    mode: int
    owner: str
    group: str
    replication: int
    block_size: int
    id: int


def _entry(said: Dict[str, Any]) -> Entry:
    return Entry(
        said["name"], said["size"], said["mtime"] / 1000, bool(said.get("dir")), said["mode"], said["owner"], said["group"],
        said["replication"], said["block_size"], said["id"],
    )  # fmt: skip


class Connection:
    """One connection. It is of the process that made it: a forked child makes its own.

    server: of the paths, as after hdfs://; "": Hadoop's configuration says. user: instead of this process's, on a cluster without Kerberos.
    """

    def __init__(self, server: str, user: Optional[str]):
        self.pid, self.broken = os.getpid(), False
        self._busy = False  # with a request whose answer was not read to its end
        self._socket = _channel.connect()
        env = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        if user:
            env["HADOOP_USER_NAME"] = user
        try:
            self.call(f"hdfs://{server}/", op="hello", version=VERSION, server=server, env=env)
        except BaseException:
            self.close()
            raise

    def call(self, name: str, data: Any = b"", /, **ask: Any) -> Dict[str, Any]:
        """The answer to a request about the file called name. Raises the OSError that it may be, with that name, and ConnectionError when the connection is over."""
        said, size = self._ask(name, data, ask)
        if size:
            raise self._over(ConnectionError("maniple: an answer from HDFS's server that nobody asked for"))
        self._busy = bool(said.get("more"))
        return said

    def read_into(self, name: str, at: int, into: memoryview) -> int:
        """Bytes of the open file from a place on, as many as there are and fit. Raises as call."""
        _, size = self._ask(name, b"", {"op": "read", "at": at, "size": len(into)})
        if size > len(into):
            raise self._over(ConnectionError("maniple: more of a file than was asked for"))
        self._fill(into[:size])
        self._busy = False
        return size

    def list(self, name: str, path: str) -> Iterator[Entry]:
        """What is in a directory. Raises as call."""
        said = self.call(name, op="list", path=path)
        while True:
            yield from map(_entry, said.get("list") or ())
            if not said.get("more"):
                self._busy = False
                return
            said, _ = self._answer(name)

    def _ask(self, name: str, data: Any, ask: Dict[str, Any]) -> Tuple[Dict[str, Any], int]:
        if not self.usable():
            raise self._over(ConnectionError("maniple: the connection to HDFS's server is over"))
        text = json.dumps(ask).encode()
        self._busy = True
        try:
            self._socket.sendall(_HEAD.pack(len(text), len(data)) + text)
            if data:
                self._socket.sendall(data)
        except BaseException as e:
            raise self._over(e)
        return self._answer(name)

    def _answer(self, name: str) -> Tuple[Dict[str, Any], int]:
        text, size = _HEAD.unpack(self._exactly(_HEAD.size))
        said = json.loads(self._exactly(text))
        if said.get("errno"):
            self._busy = False
            raise OSError(said["errno"], said.get("error") or os.strerror(said["errno"]), name or None)
        return said, size

    def _exactly(self, size: int) -> bytes:
        made = bytearray(size)
        self._fill(memoryview(made))
        return bytes(made)

    def _fill(self, into: memoryview) -> None:
        try:
            while into:
                n = self._socket.recv_into(into)
                if n == 0:
                    raise ConnectionError("maniple: what serves HDFS to this process has ended")
                into = into[n:]
        except BaseException as e:  # an interrupt, too: nobody knows what comes next
            raise self._over(e)

    def _over(self, why: BaseException) -> BaseException:
        self.close()
        return ConnectionError(f"maniple: {why}") if isinstance(why, OSError) and not isinstance(why, ConnectionError) else why

    def usable(self) -> bool:
        """It is this process's, and no answer is under way."""
        return not (self.broken or self._busy) and self.pid == os.getpid()

    def close(self) -> None:
        self.broken = True
        self._socket.close()


class _Channel:
    """How this process gets connections: by a socket whose other end the binary has, which passes each of them on. Forked children share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: Optional[socket.socket] = None
        self._process: Optional[subprocess.Popen] = None

    def connect(self) -> socket.socket:
        for again in (False, True):
            ours, theirs = socket.socketpair()
            try:
                with self._lock:
                    if self._control is None or again:
                        self._start()
                    assert self._control is not None
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                return ours
            except OSError:  # it has ended
                ours.close()
                if again:
                    raise
            finally:
                theirs.close()
        raise AssertionError

    def _start(self) -> None:
        from maniple import _binary

        binary = _binary.find_binary()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([binary, "hdfs-server"], stdin=theirs, stdout=subprocess.DEVNULL, close_fds=True)
        if self._control is not None:
            self._control.close()
        self._control = ours

    def forked(self) -> None:
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.returncode = 0  # it is no child of this process
            self._process = None


_channel = _Channel()
_idle: Dict[Tuple[str, Optional[str]], List[Connection]] = {}
_lock = threading.Lock()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    for connections in _idle.values():
        for connection in connections:
            connection.close()
    _idle.clear()
    _channel.forked()


os.register_at_fork(after_in_child=_forked)


def take(server: str, user: Optional[str]) -> Connection:
    """A connection that nobody uses, for give or to keep."""
    with _lock:
        waiting = _idle.get((server, user))
        if waiting:
            return waiting.pop()
    return Connection(server, user)


def give(connection: Connection, server: str, user: Optional[str]) -> None:
    """Has a connection be used by others."""
    with _lock:
        waiting = _idle.setdefault((server, user), [])
        if len(waiting) < _IDLE and connection.usable():
            waiting.append(connection)
            return
    connection.close()


def call(server: str, user: Optional[str], path: str, /, **ask: Any) -> Any:
    """A request by itself. One that met a server that had ended is made again, if it may be."""
    for again in (ask["op"] in ("remove", "rename"), True):
        connection = take(server, user)
        try:
            if ask["op"] == "list":
                return list(connection.list(f"hdfs://{server}{path}", path))
            said = connection.call(f"hdfs://{server}{path}", path=path, **ask)
            return _entry(said["info"]) if "info" in said else None
        except ConnectionError:
            if again:
                raise
        finally:
            give(connection, server, user)
    raise AssertionError
