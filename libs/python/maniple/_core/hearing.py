"""What a session makes of the frames that Python sees: on the reader thread, with the table locked."""

from __future__ import annotations

import itertools
import sys
from functools import partial
from queue import SimpleQueue
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from maniple import exceptions
from maniple._core import arenas, dial, frames, table, wire
from maniple._core.arenas import Arenas, Left, Place
from maniple._core.connection import Frame
from maniple._core.fold import Fold, say
from maniple._core.references import Held, ObjectRef, key_index
from maniple._core.slabs import Slabs
from maniple._core.table import PENDING, REMOTE, State, Table, Value
from maniple._core.wire import ProtocolError, key_of

_OBJECT = wire.OBJECT_SIZE


class Seen:
    """Places of an object that the agent told. told: how often; recalled: it asked whether it is looked at."""

    __slots__ = ("told", "places", "recalled")

    def __init__(self) -> None:
        self.told, self.recalled = 0, False
        self.places: List[Place] = []


class Hearing:
    """The part of a session that hears. A session has what is named here."""

    kind: int
    table: Table
    held: Held
    arenas: Arenas
    connection: Any
    credits: Any
    slabs: Optional[Slabs]
    prints: Fold
    places: "SimpleQueue[None]"
    seen: Dict[bytes, Seen]  # by key, of what may be looked at
    wanted: List[Sequence[bytes]]  # keys, of each who gets some and has not got them
    streams: Dict[bytes, Any]
    watching: Dict[bytes, List[Callable[[str, Dict[str, Any]], None]]]
    sequences: Dict[bytes, Tuple[int, Iterator[int]]]
    _entries: Any
    _many: Dict[bytes, int]
    _answers: Dict[int, List[Any]]
    _later: List[Callable[[], None]]
    _ended: Optional[str]
    on_alone: Callable[[bytes], None]

    def _batch(self, batch: List[Frame]) -> None:
        words, RESULT, make = wire.RESULT_WORDS.unpack_from, wire.RESULT.number, tuple.__new__
        with self.table.lock:
            for kind, corr, body, payload in batch:
                if kind != RESULT:
                    self._frame_locked(kind, corr, body, payload)
                    continue
                if len(body) != wire.RESULT_SIZE:
                    raise ProtocolError(f"RESULT of {len(body)} bytes")
                flags, format, count = words(body)
                refs: Sequence[ObjectRef] = ()
                if count:
                    refs, payload = self.references_locked(count, payload)
                self._result_locked(body[: wire.KEY_SIZE], make(Value, (flags, format, refs, payload)))
        while self._later:
            self._later.pop(0)()

    def references_locked(self, count: int, payload: Any) -> Tuple[List[ObjectRef], Any]:
        """The references that a payload begins with, and the rest of it."""
        if count * _OBJECT > len(payload):
            raise ProtocolError(f"{count} references in {len(payload)} bytes")
        refs = self.table.delivered_locked(payload, count, self.held)
        for i, ref in enumerate(refs):
            if ref is None:
                refs[i] = self._delivered_locked(bytes(payload[i * _OBJECT : i * _OBJECT + wire.KEY_SIZE]))
        return refs, payload[count * _OBJECT :]

    def _delivered_locked(self, key: bytes) -> ObjectRef:
        """A reference that the agent sent."""
        self.table.claim_locked(key)  # else the last reference here may go between this question and what follows
        known = key in self._entries
        if not known:
            self._entries[key] = REMOTE
        return self.held.delivered_locked(key, known)

    def hold(self, key: bytes) -> ObjectRef:
        """A reference to an object that an answer of the agent has delivered."""
        with self.table.lock:
            return self._delivered_locked(key)

    def captured(self, key: bytes) -> ObjectRef:
        """A reference that code captured: held if this process holds it, since it came along."""
        with self.table.lock:
            self.table.claim_locked(key)
            return self.held.again_locked(key) if key in self._entries else ObjectRef(key)

    def _result_locked(self, key: bytes, value: Value) -> None:
        placed = value.flags & wire.LOCATED and value.payload
        entry = self._entries.get(key)
        if placed or type(entry) is State:
            self.table.claim_locked(key)  # what is let go of meanwhile is not to be there again
            entry = self._entries.get(key)
        if entry is None:
            if not (value.flags & wire.LAST and key[: wire.TASK_SIZE] in self._many):  # else its reference is gone
                self.unknown_result_locked(key, value)
        elif type(entry) is State:
            if value.flags & wire.LOCATED:
                value = self.located_locked(key, value)
            if not value.flags & wire.LOCATED:
                self.table.settle_locked(key, value)
            elif entry in (table.ASKED, table.FETCHING):
                self.table.settle_locked(key, exceptions.SystemFault("the agent sent the place of a value that this process can't reach"))
            else:
                want = self.table.there_locked(key, table.READY)
                if want:  # somebody waits for more
                    self._entries[key] = table.FETCHING if want == wire.WANT_VALUE else table.BRINGING
                    self.connection.enqueue(wire.GET.pack(0, 0, key, 0, want))
                    self._later.append(self.connection.flush)
        if value.flags & wire.LAST and (self._many or self.streams):
            task = key[: wire.TASK_SIZE]
            if task in self._many:
                self._end_many_locked(task, value)
            elif task in self.streams:
                self.streams[task].end_locked(key, value)
        if placed:
            self.seen.setdefault(key, Seen()).told += 1
            self.placed_locked(key, entry)

    def placed_locked(self, key: bytes, before: Any) -> ObjectRef:
        """A place counts as a delivery of the object itself: the agent keeps it until that is released.

        before: its entry, when the place came.
        """
        return self._delivered_locked(key)

    def located_locked(self, key: bytes, value: Value) -> Value:
        """A value whose bytes are elsewhere, as one to be looked at there, if this process can."""
        place = self.place_locked(key, value.payload) if value.payload else None  # without a payload a Get brings it
        return value if place is None else Value(value.flags & ~wire.LOCATED, value.format, value.refs, place)

    def place_locked(self, key: bytes, location: bytes) -> Optional[Place]:
        """Where an object is to be looked at; None: this process can't reach it."""

        def keep(place: Place) -> Callable[[], None]:  # a view counts as a reference
            with self.table.lock:
                if place.left:
                    raise Left
                self.held.count_locked(key)
                place.mapping += 1
            return partial(self.held.dropped.append, key)

        place: Optional[Place] = self.arenas.place_locked(location, keep)
        if place is not None:
            seen = self.seen.get(key)
            if seen is None:
                seen = self.seen[key] = Seen()
            seen.places.append(place)
        return place

    # What the agent wants to move.

    def _view_recall_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("ViewRecall", body)
        key = key_of(wire.task_bytes(fields.get("task")), fields.get("index") or 0)
        seen = self.seen.get(key)
        if seen is None:
            return  # it was let go of, which is on its way
        seen.recalled = True
        if not self.leave_locked(key):
            self.connection.enqueue(wire.table("ViewEnd", {**fields, "seen": 0}))
        self._later.append(self.connection.flush)

    def leave_locked(self, key: bytes) -> bool:
        """Tells the agent that an object, of which it asked, is not looked at any more, unless it is."""
        seen = self.seen.get(key)
        if seen is None or not seen.recalled:
            return True
        if self.uses_locked(key) or any(place.viewed() for place in seen.places):
            return False
        del self.seen[key]
        for place in seen.places:
            place.left = True
        entry = self._entries.get(key)
        if type(entry) is Value and type(entry.payload) is Place:
            self._entries[key] = table.READY
        task = wire.task_fields(key[: wire.TASK_SIZE])
        self.connection.enqueue(wire.table("ViewEnd", {"task": task, "index": key_index(key), "seen": seen.told}))
        return True

    def _view_fade_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("ViewFade", body)
        if fields.get("most"):
            self._later.append(partial(arenas.bound, fields["most"]))
        if fields.get("least"):
            self._later.append(partial(arenas.fade, fields["least"]))

    def uses_locked(self, key: bytes) -> bool:
        """Somebody is about to look at the object without another question."""
        return any(key in keys for keys in list(self.wanted))  # which others change meanwhile

    def _end_many_locked(self, task: bytes, value: Value) -> None:
        """No more results come of this task: those that are missing have the error of the last one."""
        error: Any = value if value.flags & wire.ERROR else exceptions.SystemFault("the task ended without this result")
        for key in self.table.awaited_locked(task, self._many.pop(task)):
            self.table.settle_locked(key, error)

    def unknown_result_locked(self, key: bytes, value: Value) -> None:
        """A result that no entry waits for: of a stream, or of what was dropped meanwhile."""
        stream = self.streams.get(key[: wire.TASK_SIZE])
        if stream is not None:
            stream.item_locked(key, value)

    def _frame_locked(self, kind: int, corr: int, body: bytes, payload: Any) -> None:
        handler = self.handlers.get(kind)
        if handler is not None:  # what a newer agent may say and this side need not know is skipped
            handler(self, corr, body, payload)

    def _credit_locked(self, corr: int, body: bytes, payload: Any) -> None:
        credit = wire.CREDIT.read(body)
        self.credits.grant(credit.bytes, credit.records)

    def _ready_locked(self, corr: int, body: bytes, payload: Any) -> None:
        ready = wire.READY.read(body)
        if ready.state == wire.IS_ALONE:
            self._later.append(partial(self.on_alone, ready.object))
            return
        entry = self._entries.get(ready.object)
        if type(entry) is not State or entry is PENDING:
            return
        here = ready.state in (wire.IS_HERE, wire.IS_ERROR)  # an error is brought as fast as anything
        if here or ready.state == wire.IS_READY:
            state = table.FETCHING if entry in (table.ASKED, table.FETCHING) else table.HERE if here or entry is table.HERE else table.READY
            self.table.there_locked(ready.object, table.BRINGING if state is table.READY and entry in (table.COMING, table.BRINGING) else state, here)
        elif ready.state == wire.IS_LOST:
            self.table.settle_locked(ready.object, exceptions.ObjectLostError(f"the value of {ready.object.hex()} is lost; make it again"))
        else:
            raise ProtocolError(f"READY with state {ready.state}")

    def _arena_locked(self, corr: int, body: bytes, payload: Any) -> None:
        self.arenas.add_locked(wire.untable("Arena", body), payload)

    def _slab_locked(self, corr: int, body: bytes, payload: Any) -> None:
        if self.slabs is not None:
            self.slabs.lent(wire.untable("Slab", body), payload)
            self._later.append(self.connection.flush)

    def _slab_recall_locked(self, corr: int, body: bytes, payload: Any) -> None:
        if self.slabs is not None:
            self.slabs.recalled(wire.untable("SlabRecall", body))
            self._later.append(self.connection.flush)

    def _arena_gone_locked(self, corr: int, body: bytes, payload: Any) -> None:
        self.arenas.gone_locked(wire.untable("ArenaGone", body))

    def _reply_locked(self, corr: int, body: bytes, payload: Any) -> None:
        answer = self._answers.get(corr)
        if answer is not None:
            answer[1:] = [wire.untable("StateReply", body), bytes(payload)]
            answer[0].open()

    def _cached_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("Cached", body)
        task = wire.task_bytes(fields.get("object"))
        ref, answer = self._delivered_locked(key_of(task, 0)), self._answers.pop(corr, None)
        if answer is None and fields.get("make"):  # who asked was interrupted
            self.connection.enqueue(wire.table("CacheUnmade", {"object": wire.task_fields(task)}))
            self._later.append(self.connection.flush)
        if answer is None or not fields.get("make"):
            self.places.put(None)
        if answer is not None:
            answer[1:] = [ref, bool(fields.get("make")), bool(fields.get("there"))]
            answer[0].open()

    def _update_locked(self, name: str, task: bytes, fields: Dict[str, Any]) -> None:
        for call in self.watching.get(task, ()):
            self._later.append(partial(call, name, fields))

    def _group_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("GroupUpdate", body)
        self._update_locked("GroupUpdate", wire.task_bytes(fields.get("group")), fields)

    def _actor_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("ActorState", body)
        actor, incarnation = wire.task_bytes(fields.get("actor")), fields.get("incarnation") or 0
        before, numbers = self.sequences.get(actor) or (0, itertools.count(1))
        if incarnation > before and (self.kind == dial.WORKER or key_of(actor, 0) in self._entries):  # else it was let go of, or its handle comes next
            # Calls that left for the first life of an actor that was only being made are numbered already.
            self.sequences[actor] = incarnation, numbers if before == 0 else itertools.count(1)
        self._update_locked("ActorState", actor, fields)

    def _notice_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("Notice", body)
        if fields.get("text"):
            self._later.append(lambda: say(sys.stderr, f"maniple: {fields['text']}\n"))

    def _output_locked(self, corr: int, body: bytes, payload: Any) -> None:
        stream, data = 2 if wire.untable("RankOutput", body).get("stream") == 2 else 1, bytes(payload)
        self._later.append(lambda: self.prints.feed(stream, data))

    def _shutdown_locked(self, corr: int, body: bytes, payload: Any) -> None:
        self._ended = wire.untable("Shutdown", body).get("reason") or "it was shut down"

    def _goodbye_locked(self, corr: int, body: bytes, payload: Any) -> None:
        """The agent ends the connection, and says why."""
        self._ended = wire.untable("Goodbye", body).get("reason") or self._ended

    handlers: Dict[int, Callable[..., None]] = {
        frames.CREDIT: _credit_locked,
        frames.READY: _ready_locked,
        frames.ARENA: _arena_locked,
        frames.ARENA_GONE: _arena_gone_locked,
        frames.SLAB: _slab_locked,
        frames.SLAB_RECALL: _slab_recall_locked,
        frames.STATE_REPLY: _reply_locked,
        frames.CACHED: _cached_locked,
        frames.GROUP_UPDATE: _group_locked,
        frames.ACTOR_STATE: _actor_locked,
        frames.NOTICE: _notice_locked,
        frames.RANK_OUTPUT: _output_locked,
        frames.SHUTDOWN: _shutdown_locked,
        frames.GOODBYE: _goodbye_locked,
        frames.VIEW_RECALL: _view_recall_locked,
        frames.VIEW_FADE: _view_fade_locked,
    }
