"""Objects that are made of parts of others, by a task that writes each part where it is to lie.

The task waits for what the parts are of, learns of each what it is and how long, takes memory for all of them together, and has them brought one behind another, a few
pieces ahead of the one that it copies. So a node needs memory for the object and those pieces, and of what the parts are of only the ranges cross the network. What can't
be brought alone (ranges) is got as a whole, and so is a value that was lost, or made anew elsewhere, meanwhile.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from maniple._core import session as _session
from maniple._core import values, wire
from maniple._core.ranges import Elsewhere, Source, Span
from maniple._core.references import ObjectRef

_PIECE = 16 << 20  # so much of a part is brought at once
_AHEAD = 4 * _PIECE  # so much is on its way
_QUESTIONS = 64  # that are asked at once, about as many parts or for as many pieces

Plan = List[Tuple[ObjectRef, Optional[int], Optional[int], Any]]


class _Anew(Exception):
    """A part has to be begun again: pieces of it were taken, and its value may be another one now."""


class _Part:
    """A part: where it is, of what kind, and how long."""

    def __init__(self, session: Any, number: int, ref: ObjectRef, start: Optional[int], stop: Optional[int], item: Any):
        self._session, self._number, self._ref, self._start, self._stop, self._item = session, number, ref, start, stop, item
        self._source: Optional[Source] = None
        self._span: Optional[Span] = None
        self._view: Any = None  # of all of it, once that was got
        self.small: Optional[ObjectRef] = None  # it is to be got as a whole, which is soon done
        try:
            self._source = Source(session, ref)
        except Elsewhere:
            pass

    def learn(self) -> None:
        """Hears what was asked when it was made."""
        try:
            if self._source is not None:
                self._source.learn()
        except Elsewhere:
            assert self._source is not None
            self.small = self._ref if self._source.size else None
            self._source = None

    def measure(self) -> None:
        """Finds out of what kind the part is, and how long."""
        try:
            if self._source is None:
                raise Elsewhere
            at = self._span = self._source.span(self._ends, self._item)
            self.kind: Any = None if at.dtype is None else (at.dtype, at.shape[1:])
            self.rows, self.size = (at.size, at.size) if at.dtype is None else (at.shape[0], at.size)
        except Elsewhere:
            self.kind, self.rows, self._view = self._whole()
            self.size = self._view.nbytes
            self._view = None  # what lies here may go to disk meanwhile

    def named(self) -> str:
        return f"part {self._number} ({self._ref.hex()})"

    def _ends(self, rows: int) -> Tuple[int, int]:
        """From which row to which, of so many."""
        first, last, _ = slice(self._start, self._stop).indices(rows)
        for given, end in (self._start, first), (self._stop, last):
            if given is not None and given not in (end, end - rows):
                raise ValueError(f"{self.named()} has {rows} rows or bytes, of which [{self._start}:{self._stop}] are wanted")
        return first, max(first, last)

    def _whole(self) -> Tuple[Any, int, memoryview]:
        """Kind, rows and bytes of a part whose value is got as a whole."""
        format, value = self._session.raw(self._ref._key) if self._item is None else (wire.PICKLE, None)
        if format != wire.RAW:  # else it is looked at, and not copied
            value = self._session.get((self._ref,))[0]
        if self._item is not None:
            value = value[self._item]
        if isinstance(value, (bytes, bytearray, memoryview)):
            first, last = self._ends(len(value))
            return None, last - first, memoryview(value)[first:last]
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject or not value.ndim:
            raise TypeError(f"{self.named()} is of type {type(value).__name__}{_dtype(value)}: parts are bytes, or arrays of numpy with rows of plain elements")
        first, last = self._ends(len(value))
        rows = numpy.ascontiguousarray(value[first:last])
        return (value.dtype, value.shape[1:]), last - first, memoryview(rows.reshape(-1).view("u1"))

    def ask(self, begin: int, size: int) -> Optional[ObjectRef]:
        """Has a piece brought, if it can be had alone."""
        return None if self._span is None else self._span.source.ask(self._span.begin + begin, size)

    def take(self, made: Optional[ObjectRef], begin: int, size: int) -> Any:
        """The piece. Raises ValueError if its value is another one now that does not fit, and _Anew if it may be another than that of the pieces before."""
        if made is not None and self._span is not None:
            try:
                return self._span.source.take(made, size)
            except Elsewhere:
                self._span = None
            if begin:
                raise _Anew
        if self._view is None:
            kind, _, self._view = self._whole()
            if kind != self.kind or self._view.nbytes != self.size:
                raise ValueError(f"{self.named()} was made anew while it was read, and is not what it was: {_said(kind)} of {self._view.nbytes} bytes, not {_said(self.kind)} of {self.size}")
        piece = self._view[begin : begin + size]
        if begin + size == self.size:
            self._view = None
        return piece


def _dtype(value: Any) -> str:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    return "" if dtype is None else f" of {dtype} {shape}"


def _said(kind: Any) -> str:
    return "bytes" if kind is None else f"rows of {kind[0]} {kind[1]}"


def _pieces(parts: Sequence[_Part]) -> Iterator[Any]:
    """The bytes of the parts, in their order, some of which are on their way before they are wanted."""
    todo = ((part, at, min(_PIECE, part.size - at)) for part in parts for at in range(0, part.size, _PIECE))
    coming: "deque[Tuple[_Part, Optional[ObjectRef], int, int]]" = deque()
    ahead = 0
    for part, at, size in todo:
        while coming and (ahead + size > _AHEAD or len(coming) >= _QUESTIONS):
            ahead -= coming[0][3]
            yield _take(coming)
        coming.append((part, part.ask(at, size), at, size))
        ahead += size
    while coming:
        yield _take(coming)


def _take(coming: "deque[Tuple[_Part, Optional[ObjectRef], int, int]]") -> Any:
    part, made, begin, size = coming.popleft()
    return part.take(made, begin, size)


def _measured(session: Any, plan: Plan) -> List[_Part]:
    """The parts. What is asked is asked of many at a time."""
    parts: List[_Part] = []
    for at in range(0, len(plan), _QUESTIONS):
        some = [_Part(session, number, *of) for number, of in enumerate(plan[at : at + _QUESTIONS], at)]
        for part in some:
            part.learn()
        small = list(dict.fromkeys(part.small for part in some if part.small is not None))
        if small:
            session.wait(small, len(small), None, here=True)
        for part in some:
            part.measure()
        parts += some
    return parts


def _front(kind: Any, rows: int, size: int) -> bytes:
    """What the envelope of an array has before its bytes."""
    import numpy

    parts = values.encode(numpy.empty((rows, *kind[1]), kind[0])).parts
    if sum(memoryview(p).nbytes for p in parts[1:]) != size:
        raise TypeError(f"arrays of {kind[0]} can't be put together, since they have no bytes of their own when they are pickled: give their view('i8')")
    return b"".join((parts[0], *parts[1:-1]))


def _make(plan: Plan) -> values.Encoded:
    """The task: its result, written where it is to lie."""
    session = _session.current()
    refs = list(dict.fromkeys(ref for ref, *_ in plan))
    session.wait(refs, len(refs), None)
    parts = _measured(session, plan)
    kind = parts[0].kind
    for part in parts:
        if part.kind != kind:
            raise TypeError(f"{part.named()} is {_said(part.kind)}, and {parts[0].named()} is {_said(kind)}")
    size = sum(part.size for part in parts)
    front = b"" if kind is None else _front(kind, sum(part.rows for part in parts), size)

    def pieces() -> Iterator[Any]:
        if front:
            yield front
        yield from _pieces(parts)

    made = values.Encoded(wire.RAW if kind is None else wire.PICKLE, (), None, (), len(front) + size)
    while True:
        try:
            if session.shared(made):
                made.room = session.write(made.size, pieces())
                return made
            return values.Encoded(made.format, (), b"".join(pieces()))
        except _Anew:  # once a part, at most: then it is got as a whole
            continue


_task: Any = None


def concat(parts: Sequence[Any], options: Dict[str, Any]) -> ObjectRef:
    """See maniple.concat."""
    global _task
    if not isinstance(parts, (list, tuple)):
        raise TypeError(f"concat() takes a list of references and ranges, not a {type(parts).__name__}")
    if not parts:
        raise ValueError("concat() takes one part at least: of none nobody knows what they are")
    plan: Plan = []
    for number, part in enumerate(parts):
        ref, start, stop, item = (part, None, None, None) if not isinstance(part, tuple) else (*part, None) if len(part) == 3 else part if len(part) == 4 else (None,) * 4
        if type(ref) is not ObjectRef:
            raise TypeError(f"a part is a reference, (ref, start, stop) or (ref, start, stop, item), and part {number} is {part!r}")
        for end in (start, stop):
            if end is not None and not hasattr(end, "__index__"):
                raise TypeError(f"part {number} goes from a whole number to another, not to {end!r}")
        plan.append((ref, None if start is None else start.__index__(), None if stop is None else stop.__index__(), item))
    if "num_returns" in options:
        raise ValueError("concat() gives one object: num_returns is not for it")
    if _task is None:
        from maniple.remote_function import RemoteFunction

        _task = RemoteFunction(_make, {"name": "concat"})
    call: Callable[..., Any] = _task.options(**options).remote
    made: ObjectRef = call(plan)
    return made
