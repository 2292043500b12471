"""One connection to an agent: a thread that reads, and one that writes many frames at once.

Frames that are sent gather until there are 64 of them, until somebody is about to wait, or for a
millisecond. Nobody but the writing thread writes, so that neither a KeyboardInterrupt nor what a signal's handler sends
can come into the middle of a frame (PY-1, PY-6).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections import deque
from struct import Struct
from typing import Any, Callable, Deque, List, Tuple

from maniple._core import frames
from maniple._core.arenas import Descriptor
from maniple._core.patience import SLICE
from maniple._core.wire import HEADER, HEADER_SIZE, ProtocolError

Frame = Tuple[int, int, bytes, Any]  # type, corr, body, payload: bytes, or the descriptor that came along

FLUSH_AT = 64  # frames
CROWDED = 8  # times FLUSH_AT, at which who sends waits until they are written
FLUSH_AFTER = 0.001  # seconds that a frame nobody waits for may stay here
PATIENCE = 20  # times FLUSH_AFTER without a frame, after which the next one has to wake the writer
LOOK_AFTER = 0.25  # seconds after which dropped references are looked for though nothing was sent
CHUNK = 65536  # bytes asked of the socket at once: more would be mapped and unmapped each time
MAX_LENGTH = frames.MAX_MESSAGE
_GATE = type(threading.Lock())
AGENT_CLOSED = "the agent closed the connection"
_ROOM = socket.CMSG_SPACE(16 * 4)  # descriptors that may come with one read: the kernel gives those of one write


class Connection:
    """Frames over a stream socket.

    batch: called on the reader thread with each list of frames that came together. closed: called once, on
    that thread or the writer, with the reason. before: called by the writer before each write, may send. The socket is owned: close()
    ends it.
    """

    def __init__(self, sock: socket.socket, batch: Callable[[List[Frame]], None], closed: Callable[[str], None], before: Callable[[], None]):
        self._sock, self._batch, self._on_closed, self._before = sock, batch, closed, before
        self._out: Deque[Any] = deque()  # frames, and gates of those who wait until what is before them is written
        self.enqueue = self._out.append  # sends a frame with the next flush
        self._files: "deque[int]" = deque()  # descriptors that came, for frames that name them
        self._wake = threading.Lock()
        self._wake.acquire()
        self._asleep = False
        self.closed = self._ended = False
        self._ending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="maniple-reader", daemon=True)
        self._pulse = threading.Thread(target=self._beat, name="maniple-writer", daemon=True)

    def start(self) -> None:
        self._reader.start()
        self._pulse.start()

    def mine(self) -> bool:
        """Called on a thread of this connection, which others wait for."""
        return threading.get_ident() in (self._reader.ident, self._pulse.ident)

    def send(self, frame: bytes) -> None:
        """Sends a frame soon. Never blocks but when many wait to be written."""
        out = self._out
        out.append(frame)
        if self._asleep or len(out) >= FLUSH_AT:
            self._stir()
            if len(out) >= FLUSH_AT * CROWDED:
                self.flush()

    def _stir(self) -> None:
        self._asleep = False
        try:
            self._wake.release()
        except RuntimeError:  # another thread was faster
            pass

    def flush(self) -> None:
        """Has all written that was sent before. Interruptible; an error of the socket is the reader's to tell."""
        if self.closed or threading.get_ident() == self._pulse.ident or not self._pulse.is_alive():
            return
        written = threading.Lock()
        written.acquire()
        self._out.append(written)
        self._stir()
        while not written.acquire(timeout=SLICE) and not self.closed and self._pulse.is_alive():
            pass

    def _beat(self) -> None:
        """Writes what was sent. Sleeps once nothing was sent for a while."""
        quiet = 0
        while not self.closed:
            if quiet < PATIENCE:
                self._wake.acquire(timeout=FLUSH_AFTER)
            else:
                self._asleep = True
                if not self._out:
                    self._wake.acquire(timeout=LOOK_AFTER)
                self._asleep = False
            quiet = 0 if self._write() else quiet + 1
        self._write()

    def _write(self) -> bool:
        """Writes all that was sent. False: there was nothing."""
        self._before()
        taken: List[Any] = []
        try:
            taken.extend(iter(self._out.popleft, None))
        except IndexError:  # that was the last one
            pass
        whole = [frame for frame in taken if type(frame) is not _GATE]
        if whole:
            self._send_all(memoryview(whole[0] if len(whole) == 1 else b"".join(whole)))
        for gate in taken:
            if type(gate) is _GATE:
                gate.release()
        return bool(taken)

    def _send_all(self, block: memoryview) -> None:
        while block and not self.closed:
            try:
                block = block[self._sock.send(block, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                _wait_writable(self._sock)
            except OSError as e:
                if e.errno in (errno.EBADF, errno.ENOTSOCK):  # the reader, which waits at what it was, hears of nothing
                    self._end("this process has closed its connection to the agent, as by os.closerange(): close only what you have opened")
                return

    def _read(self) -> None:
        why = AGENT_CLOSED
        try:
            self._read_all()
        except ProtocolError as e:
            why = f"the agent sent what can't be read: {e}"
        except OSError as e:
            why = f"the connection to the agent broke: {os.strerror(e.errno) if e.errno else e}"
        except Exception as e:  # PY-5
            why = f"a frame of the agent could not be handled: {type(e).__name__}: {e}"
        self._end(why)

    def _end(self, why: str) -> None:
        with self._ending:
            if self._ended:
                return
            self._ended = True
        self.closed = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._stir()
        while self._files:
            os.close(self._files.popleft())
        self._on_closed(why)

    def _read_all(self) -> None:
        parse, batch, files = HEADER.unpack_from, self._batch, self._files
        rest = b""
        while True:
            data = self._receive()
            if not data:
                return
            if rest:
                data = rest + data
            at, end, got = 0, len(data), []
            while end - at >= HEADER_SIZE:
                length, body, kind, class_, flags, _, _, corr = parse(data, at)
                if body > length or length > MAX_LENGTH or flags & ~frames.FLAG_DESCRIPTOR or not kind or class_ > 3:
                    raise ProtocolError(f"header {data[at:at + HEADER_SIZE].hex()}")
                first = at + HEADER_SIZE
                last = first + length
                if flags and last <= end:
                    if not files or body != length:
                        raise ProtocolError("a frame whose descriptor did not come")
                    got.append((kind, corr, data[first:last], Descriptor(files.popleft())))
                    at = last
                    continue
                if last > end:
                    if length > CHUNK:
                        if got:
                            batch(got)
                            got = []
                        batch([(kind, corr) + self._large(data[first:], length, body)])
                        at = end
                    break
                got.append((kind, corr, data[first : first + body], data[first + body : last]))
                at = last
            if got:
                batch(got)
            rest = data[at:]

    def _receive(self) -> bytes:
        """Some bytes, and the descriptors that come with them."""
        data, more, flags, _ = self._sock.recvmsg(CHUNK, _ROOM, socket.MSG_CMSG_CLOEXEC)
        for level, kind, raw in more:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._files.extend(Struct(f"{len(raw) // 4}i").unpack_from(raw))
        if flags & socket.MSG_CTRUNC:
            raise ProtocolError("more descriptors at once than may be")
        return data

    def _large(self, begin: bytes, length: int, body: int) -> "tuple[bytes, Any]":
        """Reads the rest of a frame straight into its place."""
        whole = bytearray(length)
        whole[: len(begin)] = begin
        view, at = memoryview(whole), len(begin)
        while at < length:
            n = self._sock.recv_into(view[at:])
            if not n:
                raise ProtocolError("it ended inside a frame")
            at += n
        return bytes(view[:body]), view[body:].toreadonly()

    def close(self, wait: float = 1.0) -> None:
        """Ends the connection and waits for its threads, at most so many seconds each. What was not flushed is lost."""
        self.closed = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._stir()
        for thread in (self._reader, self._pulse):
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(wait)
        if not self._reader.is_alive():
            try:
                self._sock.close()
            except OSError:  # the process has closed it by itself
                pass

    def forget(self) -> None:
        """In a forked child: closes its copy of the socket and touches nothing that another thread may hold."""
        self.closed = True
        self._sock.close()


def _wait_writable(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    poll.poll(200)  # milliseconds, after which it looks whether it is over
