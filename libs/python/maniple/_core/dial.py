"""Opens a connection: the socket, and the first two exchanges on it."""

from __future__ import annotations

import os
import select
import socket
import struct
from time import monotonic
from typing import Any, Dict, Tuple

from maniple._core import frames, wire
from maniple._core.patience import SLICE
from maniple._core.wire import HEADER, HEADER_SIZE, ProtocolError

CLIENT, DRIVER, WORKER, TEMPLATE = frames.ATTACH_KIND_CLIENT, frames.ATTACH_KIND_DRIVER, frames.ATTACH_KIND_WORKER, frames.ATTACH_KIND_TEMPLATE
_MAX_HANDSHAKE = 16 << 10
_MAX_PATH = 107  # bytes that the kernel takes for the path of a socket


def dial(path: str, timeout: float = 10.0) -> socket.socket:
    """A connected socket to the agent at path, of any length; the peer is proved to be this user or root.

    timeout: seconds for this and the handshake. Raises ConnectionError with what to do.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    directory = -1
    try:
        name = path
        if len(os.fsencode(path)) > _MAX_PATH:
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            name = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        sock.connect(name)
        _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (os.getuid(), 0):
            raise ConnectionError(f"maniple: {path} belongs to user {uid}; unset MANIPLE_ADDRESS, or give another address")
        return sock
    except OSError as e:
        sock.close()
        if type(e) is ConnectionError:
            raise
        raise ConnectionError(f"maniple: no agent at {path}: {e.strerror or e}; its cluster is gone, `maniple status` shows which are up") from e
    finally:
        if directory >= 0:
            os.close(directory)


def attach(sock: socket.socket, build: str, fields: Dict[str, Any]) -> Dict[str, Any]:
    """Shakes hands and attaches; fields are those of Attach. Returns the fields of Attached.

    Raises ConnectionError: refused, another version, or an answer that can't be read. The socket keeps the
    timeout it has until the end of it, then blocks.
    """
    hello = {"wire_version": frames.VERSION, "build": build, "role": frames.ROLE_CLIENT, "purpose": frames.PURPOSE_WORK}
    try:
        sock.sendall(wire.table("Hello", hello))
        kind, body = _frame(sock)
        if kind == frames.REFUSE:
            refused = wire.untable("Refuse", body)
            raise ConnectionError(f"maniple: the agent refuses this process: {refused.get('text') or refused}")
        if kind != frames.WELCOME:
            raise ProtocolError(f"type {kind} in place of a Welcome")
        version = wire.untable("Welcome", body).get("wire_version")
        if version != frames.VERSION:
            raise ConnectionError(f"maniple: the agent speaks wire version {version}, this package {frames.VERSION}: install the same maniple everywhere")
        sock.sendall(wire.table("Attach", fields))
        kind, body = _frame(sock)
        if kind == frames.GOODBYE:
            raise ConnectionError(f"maniple: the agent refuses this process: {wire.untable('Goodbye', body).get('reason')}")
        if kind != frames.ATTACHED:
            raise ProtocolError(f"type {kind} in place of an Attached")
        attached = wire.untable("Attached", body)
    except ProtocolError as e:
        raise ConnectionError(f"maniple: what answers is no agent, or one of another version: {e}") from e
    except ConnectionError:
        raise
    except OSError as e:
        raise ConnectionError(f"maniple: the agent does not answer: {e.strerror or e}; its log is in the node's directory") from e
    sock.settimeout(None)
    return attached


def _frame(sock: socket.socket) -> Tuple[int, bytes]:
    """Reads one frame and nothing behind it."""
    length, body, kind, _, flags, _, _, _ = HEADER.unpack(exactly(sock, HEADER_SIZE))
    if length > _MAX_HANDSHAKE or body != length or flags:
        raise ProtocolError(f"type {kind} of {length} bytes is no frame of a handshake")
    return kind, exactly(sock, length)


def exactly(sock: socket.socket, size: int) -> bytes:
    """Reads so many bytes. Raises ConnectionError at the end of the stream."""
    parts = b""
    while len(parts) < size:
        _await(sock)
        data = sock.recv(size - len(parts))
        if not data:
            raise ConnectionError("maniple: the agent closed the connection")
        parts += data
    return parts


def _await(sock: socket.socket) -> None:
    """Waits for something to read, as long as the socket's timeout says, by slices: see patience."""
    timeout = sock.gettimeout()
    if timeout is None:
        return
    ready, deadline = select.poll(), monotonic() + timeout
    ready.register(sock, select.POLLIN)
    while not ready.poll(max(min(deadline - monotonic(), SLICE), 0) * 1000):
        if monotonic() >= deadline:
            raise socket.timeout("timed out")
