"""Large values that this process makes: memory of the node that the agent lends, written in place.

A slab is a range that only this process writes. Values are laid one behind another into what is open of it; the
agent is asked only when that is full. The counterpart in Go, with the whole story, is objstore/client.

Limits. The copy keeps the interpreter's lock for 32 MiB; the C extension's does not, and takes two threads where that is faster.
"""

from __future__ import annotations

import mmap
import threading
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence

from maniple import exceptions
from maniple._core import arenas, table, twin, wire
from maniple._core.arenas import Descriptor
from maniple._core.patience import acquire
from maniple._core.wire import ProtocolError

ALIGN = 64
CHUNK = 32 << 20  # bytes copied at once: between two, an interrupt comes through, and other threads run
_POPULATE_READ = 22  # of madvise; Linux 5.14. What may be written may be written then, too


class Mapping:
    """A slab's memory in this process. The extension has another (_fast.Slab), on which huge pages are huge."""

    __slots__ = ("_bytes", "_warm")

    def __init__(self, fd: int, offset: int, size: int):
        self._bytes = arenas.shared(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset))
        self._bytes.madvise(mmap.MADV_DONTFORK)  # what a child wrote by mistake others would read
        self._warm = 0  # up to where this process has written

    def fill(self, at: int, parts: Sequence[Any]) -> None:
        """Writes the parts one behind another. Raises ValueError if they reach beyond the end."""
        for part in parts:
            view = memoryview(part).cast("B")
            for begin in range(0, len(view), CHUNK):
                chunk = view[begin : begin + CHUNK]
                self._enter(at, at + len(chunk))
                self._bytes[at : at + len(chunk)] = chunk
                at += len(chunk)

    def _enter(self, at: int, end: int) -> None:
        """Enters pages that are written for the first time in the page table, at once and not one by one."""
        if end > self._warm and end - at > mmap.PAGESIZE:
            at -= at % mmap.PAGESIZE
            try:
                self._bytes.madvise(_POPULATE_READ, at, end - at)
            except OSError:  # they come by faults
                pass
        self._warm = max(self._warm, end)

    def close(self) -> None:
        self._bytes.close()


_Mapping: Any = Mapping if twin.fast is None else twin.fast.Slab


class _Slab:
    __slots__ = ("number", "arena", "start", "bytes", "writers", "recalled")

    def __init__(self, number: int, arena: int, start: int, mapped: Any):
        self.number, self.arena, self.start, self.bytes = number, arena, start, mapped
        self.writers, self.recalled = 0, False


class Room:
    """Place for one value, to be filled and then told of, or given back."""

    __slots__ = ("slab", "offset", "size")

    def __init__(self, slab: _Slab, offset: int, size: int):
        self.slab, self.offset, self.size = slab, offset, size

    def fill(self, parts: Iterable[Any]) -> None:
        """Writes the parts one behind another; what makes them as they are asked for is asked for one after the other. Raises ValueError if they are not size bytes."""
        if isinstance(parts, (tuple, list)):
            self.slab.bytes.fill(self.offset, parts)
            return
        at, end = self.offset, self.offset + self.size
        for part in parts:
            size = memoryview(part).nbytes
            if size > end - at:
                raise ValueError(f"maniple: {at + size - self.offset} bytes into room for {self.size}")
            self.slab.bytes.fill(at, (part,))
            at += size
        if at != end:
            raise ValueError(f"maniple: {at - self.offset} bytes into room for {self.size}")


class Slabs:
    """What this process may write. enqueue sends with the next flush; flush sends now; pause waits at a gate (Waiting.pause). Any thread may take room,
    but not what interrupts one here: see inside.
    """

    def __init__(self, enqueue: Callable[[bytes], None], flush: Callable[[], None], pause: Callable[[Callable[..., bool]], bool]):
        self._enqueue, self._flush, self._pause = enqueue, flush, pause
        self._turn = threading.RLock()  # of those who want memory, one asks
        self._news: Deque[Callable[[], None]] = deque()  # what the agent said, for whoever has the lock
        self._lock = threading.RLock()  # guards what follows; nobody waits with it, nor the reader for it
        self._slabs: Dict[int, _Slab] = {}
        self._open: Optional[_Slab] = None  # where the next value goes, between _at and _end
        self._at = self._end = 0
        self._answer: Optional[table.Gate] = None  # of who asked
        self._refused = self._code = ""
        self._strays = 0  # answers to come that nobody waits for any more
        self._closed: Optional[BaseException] = None

    def inside(self) -> bool:
        """This thread is in the middle of something here: a signal's handler asks, or a __del__."""
        return self._turn._is_owned() or self._lock._is_owned()  # type: ignore[attr-defined]

    def _unlocked(self) -> None:
        """Whoever had the lock calls this when he has let go of it."""
        if self._news:
            try:
                self._settle()
            except ProtocolError as e:
                self.close(exceptions.SystemFault(f"the agent lent what can't be: {e}"))

    def _settle(self) -> None:
        """Takes in what the agent said, unless another thread has the lock, which does so then: it may have been interrupted by who waits for this one."""
        while self._news and not self._lock._is_owned() and self._lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                while self._news:
                    self._news.popleft()()
            finally:
                self._lock.release()

    def take(self, size: int) -> Room:
        """Place for size bytes. Waits until the agent has some; raises ObjectStoreFullError with who holds what."""
        while True:
            try:
                if not self._turn.acquire(blocking=False):
                    self._pause(partial(acquire, self._turn))  # who has it may need what this thread has
                try:
                    with self._lock:
                        room = self._take_locked(size)
                        if room is not None:
                            return room
                        answer = self._ask_locked(size)
                finally:
                    self._unlocked()
                self._wait(answer)
            finally:
                if self._turn._is_owned():  # type: ignore[attr-defined]
                    self._turn.release()

    def _take_locked(self, size: int) -> Optional[Room]:
        if self._closed:
            raise self._closed
        whole = size + -size % ALIGN
        slab = self._open
        if slab is None or whole > self._end - self._at:
            return None
        room = Room(slab, self._at, size)
        self._at += whole
        slab.writers += 1
        return room

    def _ask_locked(self, size: int) -> table.Gate:
        slab = self._open
        if slab is not None and self._at < self._end:
            self._enqueue(wire.table("SlabForgo", {"slab": slab.number, "offset": self._at, "size": self._end - self._at}))
        self._open = None
        self._refused, self._answer = "", table.Gate(1)
        self._enqueue(wire.table("SlabWanted", {"size": size}))
        return self._answer

    def _wait(self, answer: table.Gate) -> None:
        try:
            self._flush()
            if not self._closed:
                self._pause(answer.wait)
        except BaseException:
            try:
                with self._lock:
                    if self._answer is answer:
                        self._answer = None
                        self._strays += 1
                        self._enqueue(wire.table("SlabWanted", {"size": 0}))
            finally:
                self._unlocked()
            raise
        if self._closed:
            raise self._closed
        if self._refused:
            raise exceptions.BY_CODE.get(self._code, exceptions.ObjectStoreFullError)(self._refused)

    def done(self, room: Room) -> None:
        """A value was told of."""
        try:
            with self._lock:
                self._leave_locked(room.slab)
        finally:
            self._unlocked()

    def give_back(self, room: Room) -> None:
        """Nothing came of it."""
        try:
            with self._lock:
                if not room.slab.recalled:
                    self._enqueue(wire.table("SlabForgo", {"slab": room.slab.number, "offset": room.offset, "size": room.size}))
                self._leave_locked(room.slab)
        finally:
            self._unlocked()

    def _leave_locked(self, slab: _Slab) -> None:
        slab.writers -= 1
        if slab.recalled:
            self._return_locked(slab)

    def _return_locked(self, slab: _Slab) -> None:
        """Unmaps a slab that is wanted back and tells the agent, once nobody writes in it."""
        if slab.recalled and not slab.writers and self._slabs.pop(slab.number, None):
            slab.bytes.close()
            self._enqueue(wire.table("SlabReturn", {"slab": slab.number}))

    # What the agent says, on the reader thread.

    def lent(self, fields: Dict[str, Any], payload: Any) -> None:
        self._news.append(partial(self._lent_locked, fields, payload))
        self._settle()

    def _lent_locked(self, fields: Dict[str, Any], payload: Any) -> None:
        error, answer = fields.get("error") or "", self._answer
        if self._strays:
            self._strays -= 1
            answer = None
        elif answer is None:
            raise ProtocolError("a slab that nobody asked for")
        if not error:
            self._open_locked(fields, payload)
        elif answer is not None:
            self._refused, self._code = error, fields.get("code") or ""
        if answer is not None:
            self._answer = None
            answer.open()

    def _open_locked(self, fields: Dict[str, Any], payload: Any) -> None:
        number, size = fields.get("slab") or 0, fields.get("size") or 0
        at, end = fields.get("from") or 0, fields.get("to") or 0
        slab = self._slabs.get(number)
        if (slab is None) != (type(payload) is Descriptor) or at >= end or end > size or at % ALIGN:
            raise ProtocolError(f"slab {number}, {at} to {end} of {size}")
        if slab is None:
            start = fields.get("start") or 0
            slab = self._slabs[number] = _Slab(number, fields.get("arena") or 0, start, _Mapping(payload.fd, start, size))
        if self._open is not None and self._at < self._end:  # asked for by one who left
            self._enqueue(wire.table("SlabForgo", {"slab": self._open.number, "offset": self._at, "size": self._end - self._at}))
        self._open, self._at, self._end = slab, at, end

    def recalled(self, fields: Dict[str, Any]) -> None:
        self._news.append(partial(self._recalled_locked, fields))
        self._settle()

    def _recalled_locked(self, fields: Dict[str, Any]) -> None:
        slab = self._slabs.get(fields.get("slab") or 0)
        if slab is None:
            return  # the messages crossed
        slab.recalled = True
        if self._open is slab:
            self._open = None
        self._return_locked(slab)

    # The end.

    def close(self, why: BaseException) -> None:
        """The connection is over: nobody gets anything any more. What is written goes on being mapped."""
        self._closed = self._closed or why
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.open()

    def leave(self) -> None:
        """Gives back what nobody writes in."""
        try:
            with self._lock:
                self._open = None
                for slab in list(self._slabs.values()):
                    slab.recalled = True
                    self._return_locked(slab)
        finally:
            self._unlocked()


# Of sessions that a fork left to the parent: their slabs are not mapped here, and must not be unmapped.
_of_parents: List[Slabs] = []


def forget(slabs: Slabs) -> None:
    _of_parents.append(slabs)
