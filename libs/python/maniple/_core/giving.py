"""What this process gives away: values that it puts, and arguments. Large ones it writes into shared memory."""

from __future__ import annotations

from itertools import compress
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from maniple import exceptions
from maniple._core import frames, references, table, values, wire
from maniple._core.arenas import Place
from maniple._core.hearing import Seen
from maniple._core.references import Held, ObjectRef
from maniple._core.slabs import Room, Slabs
from maniple._core.table import Table, Value
from maniple._core.wire import key_of

_pack_put = wire.PUT.pack
_MOST = frames.MAX_MESSAGE - wire.HEADER_SIZE - (1 << 10)  # bytes of a value in a frame


class Giving:
    """The part of a session that gives. A session has what is named here."""

    table: Table
    held: Held
    connection: Any
    credits: Any
    slabs: Optional[Slabs]
    inline_limit: int
    agent: int
    promises: Dict[bytes, Callable[[], None]]
    _entries: Dict[bytes, Any]
    seen: Dict[bytes, Seen]
    mint: Callable[[], bytes]
    spend: Callable[[int], None]
    place_locked: Callable[[bytes, bytes], Optional[Place]]
    refuse_foreign: Any
    strict: bool

    def put(self, value: Any) -> ObjectRef:
        """Makes an object of a value. Raises TypeError if it can't be pickled."""
        encoded = values.encode(value)
        key = key_of(self.mint(), 0)
        self.put_encoded(key, encoded)
        return self.held.made(key)

    def put_encoded(self, key: bytes, encoded: values.Encoded) -> None:
        heads = b""
        if encoded.refs:
            self.refuse_foreign(encoded.refs, self.strict)
            self.deliver_promised(encoded.refs)
            heads = references.heads(encoded.refs)
        if self.shared(encoded):
            self.spend(len(heads))
            seen = Seen()
            with self.table.lock:  # before the agent may ask for it
                self.seen[key] = seen
            seen.told = 1
            try:
                place = self.seal(key, encoded, heads)
            except BaseException:
                with self.table.lock:
                    self.seen.pop(key, None)
                raise
            with self.table.lock:  # whoever made it looks at it without a question
                at = self.place_locked(key, place)
                self._entries[key] = table.HERE if at is None else Value(wire.NOT_TASK, encoded.format, tuple(encoded.refs), at)
                if at is not None and at.left:  # it was asked back already
                    self._entries[key] = table.READY
            return
        payload, refs = encoded.payload, encoded.refs
        size = len(heads) + len(payload)
        if size > _MOST:
            why = "this agent has none" if self.slabs is None else "the code that a signal's handler, or a __del__, has interrupted is about to write there: put it elsewhere"
            raise exceptions.ObjectStoreFullError(f"a value of {size} bytes has to lie in shared memory, and {why}")
        self.spend(size)
        self._entries[key] = Value(wire.NOT_TASK, encoded.format, tuple(refs), payload) if len(payload) <= self.inline_limit else table.HERE
        self.connection.send(b"".join((_pack_put(size, 0, key, encoded.format, len(refs)), heads, payload)))

    def shared(self, encoded: values.Encoded) -> bool:
        """A value goes through shared memory; but not what a signal's handler gives while the code that it interrupts is about to write there."""
        return self.slabs is not None and encoded.size > self.inline_limit and not self.slabs.inside()

    def seal(self, key: bytes, encoded: values.Encoded, heads: bytes, told: bytes = b"", before: Callable[[], bytes] = bytes) -> bytes:
        """Writes a value into shared memory and tells the agent; gives its Location. told: frames that go right behind; before: gives those that go before.

        Raises ObjectStoreFullError if there is no room, with who holds what.
        """
        slabs = self.slabs
        assert slabs is not None
        room = encoded.room or self.write(encoded.size, encoded.parts)
        slab = room.slab
        self.connection.send(before() + wire.SEAL.pack(len(heads), 0, key, slab.number, room.offset, encoded.size, encoded.format, len(encoded.refs)) + heads + told)
        slabs.done(room)
        return frames.LOCATION_STRUCT.pack(frames.LOCATION_KIND_MEMORY, self.agent, slab.arena, slab.start + room.offset, encoded.size)

    def write(self, size: int, parts: Iterable[Any]) -> Room:
        """Writes the parts of a value into shared memory, one after the other as they come."""
        slabs = self.slabs
        assert slabs is not None
        room = slabs.take(size)
        try:
            room.fill(parts)
        except BaseException:
            slabs.give_back(room)
            raise
        return room

    def arguments(self, args: Tuple[Any, ...], kwargs: Dict[str, Any], pinned: Sequence[ObjectRef], kept: List[ObjectRef]) -> Tuple[int, int, bytes]:
        """How many of them are references, how many are inside of values, and the payload.

        pinned: references that the code captured; they go along as if they were inside of an argument. kept: gets
        references that are to live until the frame is sent: of large arguments, which become objects of their own.
        """
        if not args and not kwargs and not pinned:
            return 0, 0, values.EMPTY
        deps, encoded = values.encode_arguments(args, kwargs)
        refs = [*deps, *encoded.refs, *pinned]
        if refs:
            self.refuse_foreign(refs, self.strict)
        if self.shared(encoded):
            args = tuple([self._apart(v, kept) for v in args])
            kwargs = {k: self._apart(v, kept) for k, v in kwargs.items()}
            if kept:
                deps, encoded = values.encode_arguments(args, kwargs)
                refs = [*deps, *encoded.refs, *pinned]
        if not refs:
            return 0, 0, encoded.payload
        self.deliver_promised(refs)
        return len(deps), len(refs) - len(deps), references.heads(refs) + encoded.payload

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

    def deliver_promised(self, refs: Sequence[ObjectRef]) -> None:
        """Tells the agent of objects that leave this process and that it does not know. What goes wrong leaves them promised."""
        with self.table.lock:  # what another thread keeps is sent before this one names it
            promised = [self.promises.get(ref.binary()) for ref in refs] if self.promises else ()
        for promise in promised:
            if promise:
                promise()

    def keep_promise(self, key: bytes, frame: bytes, size: int) -> None:
        """Sends the frame that tells the agent of a promised object, once. size: what was spent for it, which comes back if another was quicker."""
        with self.table.lock:  # and one call into C, so that what interrupts this thread finds it promised or sent (PY-6)
            sent = list(map(self.connection.enqueue, compress((frame,), map(self.promises.pop, (key,), (None,)))))
        if not sent:
            self.credits.grant(size, 1)

    def put_promised(self, key: bytes, value: Any) -> None:
        """Keeps a promise by a value without references."""
        encoded = values.encode(value)
        payload = encoded.payload
        self.spend(len(payload))
        self.keep_promise(key, b"".join((_pack_put(len(payload), 0, key, encoded.format, 0), payload)), len(payload))
