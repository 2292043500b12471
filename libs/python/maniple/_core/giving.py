"""What this process gives away: values that it puts, and arguments. Large ones it writes into shared memory."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from maniple._core import frames, table, values, wire
from maniple._core.references import Held, ObjectRef
from maniple._core.slabs import Slabs
from maniple._core.table import Table, Value
from maniple._core.wire import key_of

_PAD = bytes(wire.OBJECT_SIZE - wire.KEY_SIZE)
_pack_put = wire.PUT.pack


class Giving:
    """The part of a session that gives. A session has what is named here."""

    table: Table
    held: Held
    connection: Any
    slabs: Optional[Slabs]
    inline_limit: int
    agent: int
    promises: Dict[bytes, Callable[[], None]]
    _entries: Dict[bytes, Any]
    mint: Callable[[], bytes]
    spend: Callable[[int], None]
    located_locked: Callable[[bytes, Value], Value]

    def put(self, value: Any) -> ObjectRef:
        """Makes an object of a value. Raises TypeError if it can't be pickled."""
        encoded = values.encode(value)
        key = key_of(self.mint(), 0)
        self.put_encoded(key, encoded)
        return self.held.made(key)

    def put_encoded(self, key: bytes, encoded: values.Encoded) -> None:
        self._deliver_promised(encoded.refs)
        heads = b"".join([r.binary() + _PAD for r in encoded.refs])
        if self.shared(encoded):
            self.spend(len(heads))
            place = self.seal(key, encoded, heads)
            with self.table.lock:  # whoever made it looks at it without a question
                value = self.located_locked(key, Value(wire.NOT_TASK | wire.LOCATED, encoded.format, tuple(encoded.refs), place))
                self._entries[key] = table.READY if value.flags & wire.LOCATED else value
            return
        size = len(heads) + len(encoded.payload)
        self.spend(size)
        small = len(encoded.payload) <= self.inline_limit
        self._entries[key] = Value(8, encoded.format, tuple(encoded.refs), encoded.payload) if small else table.READY
        self.connection.send(_pack_put(size, 0, key, encoded.format, len(encoded.refs)) + heads + encoded.payload)

    def shared(self, encoded: values.Encoded) -> bool:
        """A value goes through shared memory."""
        return self.slabs is not None and encoded.size > self.inline_limit

    def seal(self, key: bytes, encoded: values.Encoded, heads: bytes, told: bytes = b"") -> bytes:
        """Writes a value into shared memory and tells the agent; gives its Location. told: frames that go right behind.

        Raises ObjectStoreFullError if there is no room, with who holds what.
        """
        slabs = self.slabs
        assert slabs is not None
        room = slabs.take(encoded.size)
        try:
            room.fill(encoded.parts)
        except BaseException:
            slabs.give_back(room)
            raise
        slab = room.slab
        self.connection.send(wire.SEAL.pack(len(heads), 0, key, slab.number, room.offset, encoded.size, encoded.format, len(encoded.refs)) + heads + told)
        slabs.done(room)
        return frames.LOCATION_STRUCT.pack(frames.LOCATION_KIND_MEMORY, self.agent, slab.arena, slab.start + room.offset, encoded.size)

    def arguments(self, args: Tuple[Any, ...], kwargs: Dict[str, Any], pinned: Sequence[ObjectRef], kept: List[ObjectRef]) -> Tuple[int, int, bytes]:
        """How many of them are references, how many are inside of values, and the payload.

        pinned: references that the code captured; they go along as if they were inside of an argument. kept: gets
        references that are to live until the frame is sent: of large arguments, which become objects of their own.
        """
        if not args and not kwargs and not pinned:
            return 0, 0, values.EMPTY
        deps, encoded = self._encode_arguments(args, kwargs)
        if self.shared(encoded):
            args = tuple([self._apart(v, kept) for v in args])
            kwargs = {k: self._apart(v, kept) for k, v in kwargs.items()}
            if kept:
                deps, encoded = self._encode_arguments(args, kwargs)
        refs = [*deps, *encoded.refs, *pinned]
        if not refs:
            return 0, 0, encoded.payload
        self._deliver_promised(refs)
        return len(deps), len(refs) - len(deps), b"".join([r.binary() + _PAD for r in refs]) + encoded.payload

    def _encode_arguments(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> "Tuple[Dict[ObjectRef, int], values.Encoded]":
        """Those that are references, with their numbers, and the value of all."""
        deps: Dict[ObjectRef, int] = {}
        for value in args:
            if type(value) is ObjectRef:
                deps.setdefault(value, len(deps))
        for value in kwargs.values():
            if type(value) is ObjectRef:
                deps.setdefault(value, len(deps))
        if deps:
            args = tuple([values.Dep(deps[v]) if type(v) is ObjectRef else v for v in args])
            kwargs = {k: values.Dep(deps[v]) if type(v) is ObjectRef else v for k, v in kwargs.items()}
        return deps, values.encode((args, kwargs), bool(deps))

    def _apart(self, value: Any, kept: List[ObjectRef]) -> Any:
        """A reference in place of a large argument."""
        if type(value) is not ObjectRef:
            encoded = values.encode(value)
            if self.shared(encoded):
                key = key_of(self.mint(), 0)
                self.put_encoded(key, encoded)
                value = self.held.made(key)
                kept.append(value)
        return value

    def _deliver_promised(self, refs: Sequence[ObjectRef]) -> None:
        """Tells the agent of objects that leave this process and that it does not know."""
        if self.promises:
            for ref in refs:
                promise = self.promises.pop(ref.binary(), None)
                if promise:
                    promise()
