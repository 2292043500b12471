"""What workers print: whole lines, each marked with who said it.

Each worker writes to two pipes of its own, which its template reads, for that outlives it: the last words of a
worker that crashes are read, too. Lines go on to the template's own output, with a mark:

    (train pid=4711) epoch 1
    (train pid=4712, node=n2) epoch 1

The name is what the worker says of itself: a line that begins with SPEAKER, written when it begins with another
function, or as an actor once. A carriage return begins a line anew, as on a terminal: of a progress bar's hundred states the
last before the newline is the line. A line is cut after 64 KiB.
"""

from __future__ import annotations

import os
import select
import sys
from typing import Dict, List, Optional, Sequence, Set, Tuple

SPEAKER = b"\x1e"  # then a name, then a newline
_NOBODY = b"worker"
_READ = 64 << 10  # bytes at a time
_MAX_LINE = 64 << 10
_AHEAD = 256 << 10  # bytes that wait to be written, beyond which nothing more is read
_WRITE = select.PIPE_BUF  # so much never blocks where poll says that a pipe takes some


class _Source:
    """One stream of one worker. stream: the output that it goes on to."""

    def __init__(self, fd: int, stream: int, pid: int):
        self.fd, self.stream, self.pid, self.name, self.part = fd, stream, pid, _NOBODY, b""


class Prints:
    """The pipes of all workers of a template. Nothing here blocks."""

    def __init__(self, poll: "select.poll", outputs: Tuple[int, int] = (1, 2), node: str = ""):
        """outputs: descriptors to which standard output and error go on. node: this one, where that is not the driver's."""
        self._poll, self._outputs = poll, outputs
        self._where = b", node=" + node.encode("utf-8", "replace") if node else b""
        self._sources: Dict[int, _Source] = {}
        self._waiting = {fd: bytearray() for fd in outputs}
        self._writing: Set[int] = set()  # outputs of which poll tells that they take more
        self._held: Set[int] = set()  # outputs for which nothing more is read

    def pipes(self) -> "Optional[Tuple[List[int], List[int]]]":
        """Ends to read and to write for a worker's streams 1 and 2; None if there are no more descriptors."""
        made: List[int] = []
        try:
            for _ in (1, 2):
                made += os.pipe()
        except OSError:
            close(made)
            return None
        return made[::2], made[1::2]

    def add(self, reads: List[int], pid: int) -> None:
        """Reads from now on what a worker prints."""
        for stream, fd in zip(self._outputs, reads):
            os.set_blocking(fd, False)
            self._sources[fd] = _Source(fd, stream, pid)
            if stream not in self._held:
                self._poll.register(fd, select.POLLIN)

    def leave(self) -> None:
        """In a child: the others' pipes are not its own."""
        close(list(self._sources))

    def event(self, fd: int) -> bool:
        """What poll told of a descriptor. False: it is none of these."""
        if fd in self._waiting:
            self._write(fd)
        elif fd in self._sources:
            self._read(self._sources[fd])
        else:
            return False
        return True

    def ended(self, pid: int) -> None:
        """A worker is over: what it left is read. A child of it may go on to print."""
        for source in [s for s in self._sources.values() if s.pid == pid]:
            while self._read(source):
                pass
            self._flush(source)

    def last(self, patience: int) -> None:
        """Passes on what is there, for at most so many milliseconds in which nothing comes, then no more."""
        while self._sources or any(self._waiting.values()):
            events = self._poll.poll(patience)
            if not [self.event(fd) for fd, _ in events if fd in self._sources or fd in self._waiting]:
                break
        for source in list(self._sources.values()):
            self._flush(source)
        for stream in self._waiting:
            self._write(stream)

    def _read(self, source: _Source) -> bool:
        """False: there is nothing to read now, or never."""
        try:
            data = os.read(source.fd, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._flush(source)
            self._forget(source)
            return False
        self._take(source, data)
        return True

    def _take(self, source: _Source, data: bytes) -> None:
        lines = (source.part + data if source.part else data).split(b"\n")
        source.part = lines.pop()
        out = self._waiting[source.stream]
        for line in lines:
            self._line(out, source, line)
        while len(source.part) > _MAX_LINE:
            state = source.part.rfind(b"\r", 0, -1) + 1  # what is before it nobody will ever see
            if not state:
                self._line(out, source, source.part[:_MAX_LINE])
                state = _MAX_LINE
            source.part = source.part[state:]
        self._settle(source.stream)

    def _line(self, out: bytearray, source: _Source, line: bytes) -> None:
        if SPEAKER in line:
            line, _, name = line.rpartition(SPEAKER)
            if line:
                self._line(out, source, line)
            source.name = name or _NOBODY
            return
        out += b"(%b pid=%d%b) %b\n" % (source.name, source.pid, self._where, _shown(line))

    def _flush(self, source: _Source) -> None:
        if source.part:
            part, source.part = source.part, b""
            self._line(self._waiting[source.stream], source, part)
            self._settle(source.stream)

    def _settle(self, stream: int) -> None:
        """Has poll look for room while something waits, and for more to read while not too much does."""
        waiting = len(self._waiting[stream])
        if waiting and stream not in self._writing:
            self._writing.add(stream)
            self._poll.register(stream, select.POLLOUT)
        elif not waiting and stream in self._writing:
            self._writing.discard(stream)
            self._poll.unregister(stream)
        if waiting >= _AHEAD and stream not in self._held:
            self._held.add(stream)
            for source in self._of(stream):
                self._poll.unregister(source.fd)
        elif waiting < _AHEAD // 2 and stream in self._held:
            self._held.discard(stream)
            for source in self._of(stream):
                self._poll.register(source.fd, select.POLLIN)

    def _of(self, stream: int) -> List[_Source]:
        return [s for s in self._sources.values() if s.stream == stream]

    def _write(self, stream: int) -> None:
        out = self._waiting[stream]
        room = select.poll()
        room.register(stream, select.POLLOUT)
        while out and room.poll(0):
            try:
                del out[: os.write(stream, out[:_WRITE])]
            except OSError:  # nobody is left who reads it
                out.clear()
        self._settle(stream)

    def _forget(self, source: _Source) -> None:
        if source.stream not in self._held:
            self._poll.unregister(source.fd)
        os.close(source.fd)
        del self._sources[source.fd]


def _shown(line: bytes) -> bytes:
    """What a terminal shows of a line."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


class Speaker:
    """In a worker: says who it is, where its template listens."""

    def __init__(self) -> None:
        self.heard, self._name = False, ""

    def take_over(self, writes: List[int]) -> None:
        """Makes the pipes this process's output."""
        for stream, fd in zip((1, 2), writes):
            os.dup2(fd, stream)
            os.close(fd)
        self.heard = True

    def say(self, name: str) -> None:
        """What is printed from now on is of this name."""
        if not self.heard or name == self._name:
            return
        self._name = name
        mark = SPEAKER + " ".join(name.split()).encode("utf-8", "replace") + b"\n"
        for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
            try:
                stream.flush()
                os.write(fd, mark)
            except (OSError, ValueError, AttributeError):  # users close and replace them
                pass


speaker = Speaker()
