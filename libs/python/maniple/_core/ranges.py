"""A part of a value: only its bytes are brought from the node where it lies.

Of bytes, and of arrays of numpy, alone or in dicts, lists and tuples, it is known where in the value's envelope (values) each row lies, from what the envelope begins
with; so that is brought first. Anything else, what is small, and what lies at this node anyway, is got as a whole, and sliced.
"""

from __future__ import annotations

import io
import pickle
import sys
from struct import Struct, error as StructError
from time import monotonic
from typing import Any, Callable, List, Optional, Tuple

from maniple import exceptions
from maniple._core import arrays, wire
from maniple._core.references import ObjectRef
from maniple._core.table import REMOTE, State
from maniple._core.wire import key_of

_WHAT = Struct("<QII")  # size, format and version of a value, as the agent tells
_HEAD = Struct("<II")  # of an envelope: bytes of meta, number of buffers
_FRONT = 64 << 10  # so much of a value is brought to know what it is
_MOST_FRONT = 4 << 20  # and if that is not enough, so much at most
_BUFFER = Struct("<I")  # stands for the buffer of that number
Ends = Callable[[int], Tuple[int, int]]
_PLAIN = {"builtins": {"dict", "list", "tuple", "set", "frozenset", "complex", "bytearray"}, "collections": {"OrderedDict"}, "numpy": {"dtype"}}


class Elsewhere(Exception):
    """It is to be got as a whole."""


class _Array:
    """Stands for an array of which nothing was brought yet."""

    __slots__ = ("number", "dtype", "shape", "rows")

    def __init__(self, buffer: Any, dtype: Any, shape: Tuple[int, ...], order: str):
        self.number, self.dtype, self.shape = _BUFFER.unpack(buffer)[0], dtype, shape
        self.rows = order == "C" and len(shape) > 0 and not dtype.hasobject  # they lie one behind another


class _Skeleton(pickle.Unpickler):
    """Reads a value without its arrays, if there is nothing in it but those and plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_frombuffer" and module.split(".")[0] == "numpy":
            return _Array
        if name in _PLAIN.get(module, ()) or (name == "scalar" and module.split(".")[0] == "numpy"):
            return super().find_class(module, name)
        raise Elsewhere

    def persistent_load(self, pid: Any) -> Any:
        raise Elsewhere


class Source:
    """A value elsewhere of which ranges are brought. Raises Elsewhere where that can't be. What it is is asked for at once, and can be heard of later."""

    def __init__(self, session: Any, ref: ObjectRef, deadline: Optional[float] = None, timeout: Optional[float] = None):
        self._session, self._ref, self._deadline, self._timeout, self._version = session, ref, deadline, timeout, 0
        if type(session.table.entries.get(ref._key)) is not State:  # it is in this process, or an error
            raise Elsewhere
        self.size = 0
        self._what: Optional[ObjectRef] = self.ask(0, 0)
        self._front: Optional[ObjectRef] = None

    def learn(self) -> None:
        """Hears what the value is, and asks for its beginning if that has to be known."""
        made, self._what = self._what, None  # who is done with an answer lets go of it: the node keeps it as long
        assert made is not None
        what = self.take(made, 0)
        if len(what) != _WHAT.size:
            raise Elsewhere
        self.size, self.format, self._version = _WHAT.unpack(what)
        if self.size <= 2 * _FRONT:  # one question more is not worth it
            raise Elsewhere
        if self.format == wire.PICKLE and "numpy" in _importable():
            self._front = self.ask(0, _FRONT)

    def span(self, ends: Ends, item: Any) -> "Span":
        """Where a range lies. ends: tells of so many rows, or bytes, from which to which."""
        if self.format == wire.RAW and item is None:
            first, last = ends(self.size)
            return Span(self, first, max(0, last - first), None, ())
        if self._front is not None:
            return _of_array(self, ends, item)
        raise Elsewhere

    def ask(self, begin: int, size: int) -> ObjectRef:
        """Has bytes of the value brought, for take; of none, what the value is. Who lets go of the reference wants them no more."""
        session = self._session
        key = key_of(session.mint(), 0)
        made: ObjectRef = session.held.made(key)
        session.table.entries[key] = REMOTE
        session.connection.send(wire.SLICE.pack(0, 0, key, self._ref._key, begin, size, self._version))
        return made

    def take(self, made: ObjectRef, size: int) -> Any:
        """What was asked for, read-only, good as long as it is viewed."""
        _, data = self._session.raw(made._key, self._deadline, self._timeout)
        if size and len(data) != size:
            raise Elsewhere
        return data

    def bring(self, begin: int, size: int) -> Any:
        return self.take(self.ask(begin, size), size)

    def envelope(self) -> "Tuple[Any, List[Tuple[int, int]]]":
        """The pickle of the value, and where its buffers lie."""
        made, self._front = self._front, None
        assert made is not None
        front = self.take(made, _FRONT)
        try:
            meta, count = _HEAD.unpack_from(front)
            at = _HEAD.size + 8 * count
            end = at + meta
            if end > min(self.size, _MOST_FRONT):
                raise Elsewhere
            if end > len(front):
                front = self.bring(0, end)
            lengths = Struct(f"<{count}Q").unpack_from(front, _HEAD.size)
        except StructError as e:
            raise Elsewhere from e
        buffers, begin = [], end
        for length in lengths:
            begin += -begin % arrays.ALIGN
            buffers.append((begin, length))
            begin += length
        return front[at:end], buffers


class Span:
    """A range of a value elsewhere, which can be brought alone: so many bytes of the value from begin on. dtype: of an array, None: bytes."""

    __slots__ = ("source", "begin", "size", "dtype", "shape")

    def __init__(self, source: Source, begin: int, size: int, dtype: Any, shape: Tuple[int, ...]):
        self.source, self.begin, self.size, self.dtype, self.shape = source, begin, size, dtype, shape

    def bring(self) -> Any:
        data = self.source.bring(self.begin, self.size) if self.size else b""
        if self.dtype is None:
            return bytes(data)
        import numpy

        part = (numpy.frombuffer(data, self.dtype) if self.size else numpy.empty(0, self.dtype)).reshape(self.shape)
        part.flags.writeable = False
        return part


def _of_array(source: Source, ends: Ends, item: Any) -> Span:
    meta, buffers = source.envelope()
    try:
        value = _Skeleton(io.BytesIO(meta), buffers=[_BUFFER.pack(i) for i in range(len(buffers))]).load()
        array = value if item is None else value[item]
    except Exception as e:  # whatever it is, the whole value tells better
        raise Elsewhere from e
    if type(array) is not _Array or not array.rows or array.number >= len(buffers):
        raise Elsewhere
    begin, length = buffers[array.number]
    rows = array.shape[0]
    row = length // rows if rows else 0
    if row * rows != length or begin + length > source.size:
        raise Elsewhere
    first, last = ends(rows)
    count = max(0, last - first)
    return Span(source, begin + first * row, count * row, array.dtype, (count, *array.shape[1:]))


def _importable() -> Any:
    """numpy, if it is loaded or can be."""
    if "numpy" not in sys.modules:
        from importlib.util import find_spec

        if find_spec("numpy") is None:
            return ()
    return ("numpy",)


def get_range(session: Any, ref: ObjectRef, start: Optional[int], stop: Optional[int], item: Any, timeout: Optional[float]) -> Any:
    """See maniple.get_range."""
    deadline = None if timeout is None else monotonic() + timeout
    ready, _ = session.wait([ref], 1, timeout)
    if not ready:
        raise exceptions.GetTimeoutError(f"after {timeout} s {ref.hex()} is not there")
    try:
        source = Source(session, ref, deadline, timeout)
        source.learn()
        return source.span(lambda rows: slice(start, stop).indices(rows)[:2], item).bring()
    except Elsewhere:
        pass
    left = None if deadline is None else max(0.0, deadline - monotonic())
    value = session.get((ref,), left)[0]
    if item is not None:
        if not hasattr(value, "__getitem__") or isinstance(value, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"get_range(item={item!r}) of a value that has no items: it is a {type(value).__name__}")
        value = value[item]
    if not hasattr(value, "__getitem__") or isinstance(value, dict):
        what = "the value" if item is None else f"item {item!r}"
        raise TypeError(f"get_range() takes a part of bytes, a list or an array, and {what} is a {type(value).__name__}" + "; item= names one of a dict" * isinstance(value, dict))
    return value[start:stop]
