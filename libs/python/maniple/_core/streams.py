"""Results that a generator yields, one after the other, before the task ends."""

from __future__ import annotations

from typing import Any, AsyncIterator, Iterator, List, Optional

from maniple._core import table, values, wire
from maniple._core.references import ObjectRef, key_index
from maniple._core.table import PENDING, Value
from maniple._core.wire import key_of


_NOTHING = Value(wire.NOT_TASK, wire.PICKLE, (), values.encode(None).payload)


class Stream:
    """What has come of a task's items. The table's lock guards it.

    Items are entries of the table; the next one to be read has an entry even before it came. A Result with
    LAST ends the stream: with an error it is the last item, without one it is no item at all.
    """

    __slots__ = ("session", "task", "next", "come", "end", "backpressure", "dropped", "failure", "whole")

    def __init__(self, session: Any, task: bytes, backpressure: int):
        self.session, self.task, self.backpressure = session, task, backpressure
        self.next = 0  # index that is read next
        self.come = 0  # items that have come, all below this index
        self.end: Optional[int] = None  # index behind the last item
        self.dropped = False  # nobody reads any more
        self.failure: Optional[Value] = None  # what ended it
        self.whole = b""  # key of the object that completed() gave

    def item_locked(self, key: bytes, value: Value) -> None:
        """An item came before it was its turn, or after the reader went."""
        if value.flags & wire.LAST and not value.flags & wire.ERROR:
            return
        self.come = max(self.come, key_index(key) + 1)
        if self.dropped:
            self.session.connection.enqueue(wire.RELEASE.pack(0, 0, key, 0))
        else:
            if value.flags & wire.LOCATED:
                value = self.session.located_locked(key, value)
            there = value.flags & wire.LOCATED and not value.flags & wire.ERROR
            self.session.table.entries[key] = table.READY if there else value

    def end_locked(self, key: bytes, value: Value) -> None:
        """The last frame of the stream."""
        failed = bool(value.flags & wire.ERROR)
        self.end, self.failure = key_index(key) + failed, value if failed else None
        if self.whole:
            self.session.table.settle_locked(self.whole, self.failure or _NOTHING)
        if self.dropped:
            self.session.streams.pop(self.task, None)


class ObjectRefGenerator:
    """The references to what a remote generator yields, as they come: iterate, or `async for`.

    `next()` waits for the next item. Dropping it lets go of what was not read; the task runs on.
    """

    def __init__(self, session: Any, stream: Stream):
        self._session, self._stream, self._drop = session, stream, session.held.dropped.append

    def __del__(self) -> None:
        self._drop(self._stream.task)  # 16 bytes: a stream

    def __iter__(self) -> "ObjectRefGenerator":
        return self

    def __aiter__(self) -> AsyncIterator[ObjectRef]:
        return self

    def next_key(self) -> bytes:
        """The key of the item that comes next; whoever waits for it waits for the end of the stream, too."""
        return key_of(self._stream.task, self._stream.next)

    def __next__(self) -> ObjectRef:
        return self._next(None)

    def _next(self, timeout: Optional[float]) -> ObjectRef:
        """timeout: seconds; over: GetTimeoutError."""
        self._want()
        ready, _ = self._session.wait([self], 1, timeout)
        if not ready:
            from maniple.exceptions import GetTimeoutError

            raise GetTimeoutError(f"no item came within {timeout} s")
        ref = self._take()
        if ref is None:
            raise StopIteration
        return ref

    async def __anext__(self) -> ObjectRef:
        self._want()
        session, key = self._session, self.next_key()
        if not self.next_ready():
            import asyncio

            loop = asyncio.get_running_loop()
            come = loop.create_future()

            def arrived() -> None:
                loop.call_soon_threadsafe(lambda: come.done() or come.set_result(None))

            session.when_ready(ObjectRef(key), arrived, readiness=True)
            await come
        if session.table.closed and not self.next_ready():
            raise session.table.closed
        ref = self._take()
        if ref is None:
            raise StopAsyncIteration
        return ref

    def _want(self) -> None:
        """Tells the producer how far the reader is, if it waits for that."""
        stream = self._stream
        if stream.backpressure and stream.end is None:
            self._session.connection.send(wire.GET.pack(0, 0, self.next_key(), 0, wire.WANT_READY))

    def _take(self) -> Optional[ObjectRef]:
        """The reference to the next item, which has come; None at the end."""
        session, stream = self._session, self._stream
        with session.table.lock:
            if stream.end is not None and stream.next >= stream.end:
                return None
            key = self.next_key()
            stream.next += 1
            session.table.entries.setdefault(self.next_key(), PENDING)
            if stream.end is not None and stream.next >= stream.end:
                session.table.entries[self.next_key()] = table.READY  # of the end
        return session.held.made(key)

    def completed(self) -> ObjectRef:
        """A reference that is there once the task has ended: None, or the error that ended it."""
        session, stream = self._session, self._stream
        with session.table.lock:
            first, stream.whole = not stream.whole, stream.whole or key_of(session.mint(), 0)
            key = stream.whole
            if not first and key in session.table.entries:
                return session.held.again_locked(key)
            session.table.entries[key] = PENDING if stream.end is None else (stream.failure or _NOTHING)
        session.promises[key] = lambda: session.put_encoded(key, values.encode(session.get([ObjectRef(key)])[0]))
        return session.held.made(key)

    def is_finished(self) -> bool:
        """All items were read."""
        return self._stream.end is not None and self._stream.next >= self._stream.end

    def next_ready(self) -> bool:
        """next() would not wait."""
        return table.is_ready(self._session.table.entries.get(self.next_key(), PENDING))

    def close(self) -> None:
        """Cancels the task. What came before can be read; what is read after that raises TaskCancelledError."""
        from maniple._api import cancel

        cancel(self)

    def send(self, value: Any) -> Any:
        raise NotImplementedError("nothing can be sent into a remote generator: give it what it needs as arguments, or make it an actor's")

    def throw(self, *error: Any) -> Any:
        raise NotImplementedError("nothing can be raised in a remote generator: cancel it by close()")

    def task_id(self) -> str:
        return self._stream.task.hex()

    def __reduce__(self) -> Any:
        raise TypeError("an ObjectRefGenerator can't be sent to another process: read it here and pass its references on")

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.task.hex()})"


def open_stream(session: Any, task: bytes, backpressure: int) -> ObjectRefGenerator:
    stream = Stream(session, task, backpressure)
    session.streams[task] = stream
    session.table.entries[key_of(task, 0)] = PENDING
    return ObjectRefGenerator(session, stream)


def drop_locked(session: Any, task: bytes, out: List[bytes]) -> None:
    """The generator of a stream went: lets go of what came and was not read."""
    stream = session.streams.get(task)
    if stream is None:
        return
    entries = session.table.entries
    for index in range(stream.next, max(stream.come, stream.next) + 1):
        key = key_of(task, index)
        entry = entries.pop(key, None)
        elsewhere = entry is table.READY and (stream.end is None or index < stream.end)
        if elsewhere or (type(entry) is Value and (entry.flags & wire.ERROR or not entry.flags & wire.LAST)):
            out.append(wire.RELEASE.pack(0, 0, key, session.held.undelivered_locked(key)))
    if stream.end is None:
        stream.dropped = True
    else:
        del session.streams[task]


class DynamicObjectRefGenerator:
    """The value of a task with num_returns="dynamic": iterates the references to all that it yielded."""

    def __init__(self, refs: List[ObjectRef]):
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)
