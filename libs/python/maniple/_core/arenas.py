"""Large values where they lie: memory of the node that the agent lets this process read.

Each value that is looked at gets a mapping of its own, which lives as long as anything views it; so long this
process holds a reference to the object, so that the agent does not give its place to another.

Limits. Each value that is viewed costs a mapping, and before Python 3.13 a descriptor. A child made by fork has the
mappings and does not hold the objects: what it looks at is good as long as its parent holds them.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
import weakref
from typing import Any, Callable, Dict, Set, Tuple

from maniple._core import frames, twin
from maniple._core.wire import ProtocolError

_LOCATION = frames.LOCATION_STRUCT
_NO_COPY: Dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # of the descriptor, for each mapping


class Descriptor:
    """What a frame with a descriptor has for its payload. Closed unless somebody takes it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int):
        self.fd = fd

    def take(self) -> int:
        fd, self.fd = self.fd, -1
        return fd

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Private(mmap.mmap):
    """A mapping that may be written, of which nobody else sees what was."""


def _map(fd: int, size: int, offset: int) -> mmap.mmap:
    if "torch" in sys.modules:  # see tensors
        try:
            return Private(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset, **_NO_COPY)
        except OSError:  # it counts as memory where nothing is overcommitted
            pass
    if twin.fast is None:
        return shared(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset, **_NO_COPY))
    mapped = twin.fast.Shared(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset, **_NO_COPY)
    if size >= LEAST:
        mapped.note()
    return mapped


LEAST = 1 << 20  # bytes of a value that fades
_shared: Set[weakref.ref[mmap.mmap]] = set()  # without the extension: of what fades, what lives; added and removed with the interpreter's lock
_most = 0  # see bound
_RATE = 10 << 30  # bytes that Python enters in a second


def shared(mapped: mmap.mmap) -> mmap.mmap:
    """Has a mapping of shared memory fade, as _fast.Shared does."""
    if len(mapped) >= LEAST:
        _shared.add(weakref.ref(mapped, _shared.discard))
    return mapped


def bound(most: int) -> None:
    """From now on no more than most bytes of values are to be in this process's page table, where they count for each process that has them there; 0: any.

    They fade as there are more. What happens between two looks is entered all the same: a few hundred MiB, with the extension.
    """
    global _most
    if twin.fast is not None:
        twin.fast.most(most)
        return
    started, _most = _most > 0, most
    if most and not started:
        threading.Thread(target=_watch, name="maniple-fade", daemon=True).start()


def _watch() -> None:
    while _most:
        have = _entered()
        if have > _most:
            fade(0)
            have = 0
        time.sleep(min(max((_most - have) / _RATE, 0.002), 0.02))


def _entered() -> int:
    with open("/proc/self/status", "rb") as status:
        return next((int(line.split()[1]) << 10 for line in status if line.startswith(b"RssShmem:")), 0)


def fade(least: int) -> None:
    """Takes what is viewed and written, of mappings of least bytes and more, out of this process's page table, where it counts for each process that has it there.

    It comes back, unchanged, as it is looked at. Private mappings stay: what was written to them is nowhere else.
    """
    if twin.fast is not None:
        twin.fast.fade(least)
        return
    for ref in list(_shared):
        mapped = ref()
        if mapped is not None:
            try:
                if len(mapped) >= least:
                    mapped.madvise(mmap.MADV_DONTNEED)
            except (OSError, ValueError):  # somebody has locked it in memory; it was closed
                pass


class Left(Exception):
    """The place of a value was left to the agent, which may have given it to another: ask again."""


class Place:
    """Where a value lies.

    left: this process has told the agent that it looks there no more. mapping: a view is being made. The table's lock guards both.
    """

    __slots__ = ("_fd", "_offset", "_size", "_keep", "_mapped", "left", "mapping")

    def __init__(self, fd: Descriptor, offset: int, size: int, keep: Callable[[Place], Callable[[], None]]):
        self._fd, self._offset, self._size, self._keep = fd, offset, size, keep
        self._mapped: Any = None  # a weak reference to what views share
        self.left, self.mapping = False, 0

    def viewed(self) -> bool:
        return self.mapping > 0 or (self._mapped is not None and self._mapped() is not None)

    def view(self) -> memoryview:
        """The value's bytes, read-only, good as long as they are viewed. Raises Left."""
        begin = self._offset - self._offset % mmap.ALLOCATIONGRANULARITY
        skip = self._offset - begin
        mapped = self._mapped() if self._mapped else None
        if mapped is None:
            over = self._keep(self)
            try:
                mapped = _map(self._fd.fd, skip + self._size, begin)
                weakref.finalize(mapped, over).atexit = False
                self._mapped = weakref.ref(mapped)
            except BaseException:
                over()
                raise
            finally:
                self.mapping -= 1
        return memoryview(mapped)[skip:].toreadonly()


class Arenas:
    """The arenas that the agent has named. The table's lock guards it."""

    def __init__(self) -> None:
        self._arenas: Dict[int, Tuple[Descriptor, int]] = {}

    def add_locked(self, fields: Dict[str, Any], payload: Any) -> None:
        if type(payload) is not Descriptor:
            raise ProtocolError("an arena without its descriptor")
        size = os.fstat(payload.fd).st_size
        if size < (fields.get("size") or 0):
            raise ProtocolError(f"an arena of {size} bytes that is said to have {fields.get('size')}")
        self._arenas[fields.get("arena") or 0] = payload, size

    def gone_locked(self, fields: Dict[str, Any]) -> None:
        """Nothing in it is named any more; what is viewed stays."""
        self._arenas.pop(fields.get("arena") or 0, None)

    def forget(self) -> None:
        self._arenas.clear()

    def place_locked(self, payload: Any, keep: Callable[[Place], Callable[[], None]]) -> Any:
        """The Place that a Location means, None if this process can't reach it. keep: see Place."""
        if len(payload) != _LOCATION.size:
            raise ProtocolError(f"a location of {len(payload)} bytes")
        kind, _, number, offset, size = _LOCATION.unpack(payload)
        arena = self._arenas.get(number)
        if kind != frames.LOCATION_KIND_MEMORY or arena is None:
            return None
        fd, end = arena
        if not size or offset + size > end:
            raise ProtocolError(f"a value of {size} bytes at {offset} of an arena of {end}")
        return Place(fd, offset, size, keep)
