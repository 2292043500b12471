"""Results that a generator yields, one after the other, before the task ends."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, AsyncIterator, Iterator, List, Optional

from maniple._core import table, values, wire
from maniple._core.arenas import Place
from maniple._core.references import ObjectRef, key_index
from maniple._core.table import PENDING, Value
from maniple._core.waiting import call_soon
from maniple._core.wire import key_of


_TELL = 1 << 20  # bytes of items that were taken after which the producer is told
_NOTHING = Value(wire.NOT_TASK, wire.PICKLE, (), values.encode(None).payload)


class Stream:
    """What has come of a task's items. The table's lock guards it.

    Items are entries of the table; the next one to be read has an entry even before it came. A Result with
    LAST ends the stream: with an error it is the last item, without one it is no item at all.
    """

    __slots__ = ("session", "task", "next", "come", "end", "ahead", "told", "untold", "dropped", "failure", "whole")

    def __init__(self, session: Any, task: bytes, ahead: int):
        self.session, self.task = session, task
        self.ahead = ahead  # items that the producer may be ahead; 0: as its bytes allow; UNBOUNDED: any number
        self.told = 0  # index that the producer knows to be read next
        self.untold = 0  # bytes that were taken since
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

    def word(self, index: int) -> bytes:
        """What tells the producer that all below this index was taken; empty if it knows, or does not wait for that."""
        if self.end is not None or self.told >= index or self.ahead >= wire.UNBOUNDED:
            return b""
        self.told, self.untold = index, 0
        return wire.GET.pack(0, 0, key_of(self.task, index), 0, wire.WANT_TAKEN)  # type: ignore[no-any-return]

    def tell(self, index: int) -> None:
        """Tells it. Not with the table locked."""
        word = self.word(index)
        if word:
            self.session.connection.send(word)
            self.session.connection.flush()

    def took(self, entry: Any) -> bool:
        """An item was taken. True: it is time to tell the producer. entry: of the item."""
        if self.ahead:  # it makes the next item when that is asked for
            return False
        here = type(entry) is Value and type(entry.payload) is not Place
        self.untold += len(entry.payload) + wire.ITEM if here else _TELL
        return self.untold >= _TELL

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
        deadline = None if timeout is None else monotonic() + timeout
        while True:  # what came another thread may have taken
            self._session.wait([self], 1, None if deadline is None else max(deadline - monotonic(), 0))
            ref = self._take()
            if ref is not None:
                return ref
            if self.is_finished():
                raise StopIteration
            if deadline is not None and monotonic() >= deadline:
                from maniple.exceptions import GetTimeoutError

                raise GetTimeoutError(f"no item came within {timeout} s")

    async def __anext__(self) -> ObjectRef:
        session = self._session
        while True:  # what came another coroutine may have taken
            await self._come()
            if session.table.closed and not self.next_ready():
                raise session.table.closed
            ref = self._take()
            if ref is not None:
                return ref
            if self.is_finished():
                raise StopAsyncIteration

    async def _come(self) -> None:
        """Waits until the next item is there, or the end."""
        session, key = self._session, self.wanted_key()
        if not self.next_ready():
            import asyncio

            loop = asyncio.get_running_loop()
            come = loop.create_future()

            def arrived() -> None:
                call_soon(loop, lambda: come.done() or come.set_result(None))

            forget = session.when_ready(ObjectRef(key), arrived, readiness=True)
            try:
                await come
            except GeneratorExit:  # the garbage collector's, at a moment when the table may be locked
                raise
            except BaseException:  # cancelled
                forget()
                raise

    def wanted_key(self) -> bytes:
        """As next_key, for who waits: a producer that makes no more than was asked for is told."""
        stream = self._stream
        if stream.ahead:
            stream.tell(stream.next)
        return self.next_key()

    def _take(self) -> Optional[ObjectRef]:
        """The reference to the next item, if that has come; None at the end, and before it."""
        session, stream = self._session, self._stream
        with session.table.lock:
            key = self.next_key()
            if (stream.end is not None and stream.next >= stream.end) or not table.is_ready(session.table.entries.get(key, PENDING)):
                return None
            stream.next += 1
            session.table.entries.setdefault(self.next_key(), PENDING)
            if stream.end is not None and stream.next >= stream.end:
                session.table.entries[self.next_key()] = table.READY  # of the end
            tell = stream.took(session.table.entries.get(key))
        if tell:
            stream.tell(stream.next)
        return session.held.made(key)

    def completed(self) -> ObjectRef:
        """A reference that is there once the task has ended: None, or the error that ended it. From now on the task does not wait for its reader,
        but if it was declared with a number of items.
        """
        session, stream = self._session, self._stream
        if not stream.ahead:
            stream.tell(wire.ALL_TAKEN)
        with session.table.lock:
            if stream.whole and stream.whole in session.table.entries:
                return session.held.again_locked(stream.whole)
            key = stream.whole = key_of(session.mint(), 0)  # another one if it was let go of: that one may live elsewhere
            session.promises[key] = partial(_leave, session, stream, key)
            session.table.entries[key] = PENDING if stream.end is None else (stream.failure or _NOTHING)
        return session.held.made(key)

    def is_finished(self) -> bool:
        """All items were read."""
        return self._stream.end is not None and self._stream.next >= self._stream.end

    def next_ready(self) -> bool:
        """next() would not wait."""
        return table.is_ready(self._session.table.entries.get(self.wanted_key(), PENDING))

    def close(self) -> None:
        """Cancels the task. What came before can be read; what is read after that raises TaskCancelledError."""
        from maniple._api import cancel

        cancel(self)

    def send(self, value: Any) -> Any:
        raise NotImplementedError("nothing can be sent into a remote generator: give it what it needs as arguments, or make it an actor's")

    def throw(self, *error: Any) -> Any:
        raise NotImplementedError("nothing can be raised in a remote generator: cancel it by close()")

    async def aclose(self) -> None:
        self.close()

    async def asend(self, value: Any) -> Any:
        self.send(value)

    async def athrow(self, *error: Any) -> Any:
        self.throw(*error)

    def task_id(self) -> str:
        return self._stream.task.hex()

    def __reduce__(self) -> Any:
        raise TypeError("an ObjectRefGenerator can't be sent to another process: read it here and pass its references on")

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.task.hex()})"


def open_stream(session: Any, task: bytes, ahead: int) -> ObjectRefGenerator:
    stream = Stream(session, task, ahead)
    session.streams[task] = stream
    session.table.entries[key_of(task, 0)] = PENDING
    return ObjectRefGenerator(session, stream)


def _leave(session: Any, stream: Stream, key: bytes) -> None:
    """Has what completed() gave be an object for others, once the stream has ended: None, or a task that fails as it did."""
    session.wait((ObjectRef(key),), 1, None)
    if stream.failure is None:
        return session.put_promised(key, None)  # type: ignore[no-any-return]
    from maniple.remote_function import RemoteFunction

    RemoteFunction(_fail, {"num_cpus": 0, "name": "completed"}).options().fulfil(session, key, bytes(stream.failure.payload))


def _fail(failure: bytes) -> None:
    from maniple._execute import ArgumentError

    raise ArgumentError(failure)


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
        word = stream.word(wire.ALL_TAKEN)
        if word:
            out.append(word)
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
