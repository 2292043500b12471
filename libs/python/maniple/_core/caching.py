"""Values that a node keeps under keys: made once, seen by all its processes where they lie, dropped when memory is short."""

from __future__ import annotations

import sys
import threading
from queue import Empty
from struct import Struct
from time import monotonic
from typing import Any, Callable, List, Optional, Set, Tuple

from maniple import exceptions
from maniple._core import values, wire
from maniple._core.arenas import Place
from maniple._core.context import running
from maniple._core.hearing import Seen
from maniple._core.patience import SLICE
from maniple._core.references import ObjectRef
from maniple._core.session import MAKING
from maniple._core.table import Value

MAX_KEY = 256  # bytes
_NOT_MADE = "CACHE_NOT_MADE"  # of the error that those have who waited for one that did not make it
_ANSWER = 30.0  # seconds that the agent has
_PATIENCE = 30.0  # seconds that one more waits for another to end while this process makes as many as it may: they may wait for it
_MAX_KNOWN = 1024  # keys, some of whose values are not held any more
_EMPTY = Struct("<II").pack(1, 0) + b"\x40"  # b"" in an envelope: what lies in shared memory has bytes
_making = threading.local()  # keys: what this thread makes
_said = False  # that something could not be kept


def cached(session: Any, key: bytes, make: Callable[[], Any], timeout: Optional[float]) -> Any:
    """See maniple.cached. key: bytes."""
    if session.slabs is None or session.slabs.inside():  # what interrupts this thread there makes it for itself
        return make()
    keys: Set[bytes] = _making.__dict__.setdefault("keys", set())
    if key in keys:
        raise exceptions.DeadlockError(
            f"cached value {_title(key)} is asked for by the thread that makes it, which would wait for itself: what makes or pickles the value, or a signal's handler meanwhile, can't ask for it"
        )
    deadline, lost = None if timeout is None else monotonic() + timeout, False
    while True:
        ref, there = _known(session, key), True
        if ref is None:
            if not _placed(session, key, deadline, timeout):
                return make()
            try:
                keys.add(key)  # before the answer: it may be that this thread makes it
                ref, mine, there = _ask(session, key)
                if mine:
                    return _make(session, key, ref, make)
            finally:
                keys.discard(key)
        try:
            value = session.get((ref,), None if there or deadline is None else max(0.0, deadline - monotonic()))[0]
        except exceptions.GetTimeoutError:
            raise exceptions.GetTimeoutError(f"after {timeout} s cached value {_title(key)} is not there: another thread or process of node {session.node} makes it") from None
        except exceptions.ManipleError as e:
            again = e.code == _NOT_MADE or (isinstance(e, exceptions.ObjectLostError) and not lost)
            lost = lost or e.code != _NOT_MADE
            if not again:
                raise
            session.cached.pop(key, None)  # what is lost is not known any more: the agent has another, or this process makes it
        else:
            _know(session, key, ref)
            return value


def _title(key: bytes) -> str:
    try:
        return repr(key.decode())
    except UnicodeDecodeError:
        return "0x" + key.hex()


def _known(session: Any, key: bytes) -> Optional[ObjectRef]:
    """A reference to what this process looks at already."""
    name = session.cached.get(key)
    if name is None:
        return None
    with session.table.lock:
        session.table.claim_locked(name)
        if name in session.table.entries:
            ref: ObjectRef = session.held.again_locked(name)
            return ref
        session.cached.pop(key, None)
    return None


def _know(session: Any, key: bytes, ref: ObjectRef) -> None:
    known, entries = session.cached, session.table.entries
    if len(known) >= _MAX_KNOWN:
        for other, name in list(known.items()):
            if name not in entries:
                known.pop(other, None)
    if len(known) < _MAX_KNOWN:
        known[key] = ref._key


def _placed(session: Any, key: bytes, deadline: Optional[float], timeout: Optional[float]) -> bool:
    """Takes a place among those that this process makes or asks for; False: there was none in time."""
    if _taken(session, 0.0):
        return True
    end = monotonic() + _PATIENCE
    if session.idle(_taken, session, end if deadline is None else min(deadline, end)):
        return True
    if deadline is not None and deadline < end:
        raise exceptions.GetTimeoutError(f"after {timeout} s cached value {_title(key)} is not asked for: this process makes {MAKING} others") from None
    _say(f"cached value {_title(key)} is not kept on node {session.node}, as others that are asked for now: whoever asks makes it for itself: this process has made {MAKING} others for {_PATIENCE:.0f} s")
    return False


def _taken(session: Any, until: float) -> bool:
    """Whether a place could be taken. Interruptible."""
    while True:
        if session.table.closed:
            raise session.table.closed
        left = until - monotonic()
        try:
            session.places.get(timeout=max(0.0, min(left, SLICE)))
            return True
        except Empty:
            if left <= SLICE:
                return False


def _ask(session: Any, key: bytes) -> Tuple[ObjectRef, bool, bool]:
    """A reference to what is cached under a key; whether this process is to make it; whether it is there."""
    corr, task = session._corr(), running.get()
    answer: List[Any] = [session.table.gate()]
    session._answers[corr] = answer
    try:
        if session.table.closed:
            raise session.table.closed
        session.connection.send(wire.table("CacheWanted", {"key": key, "task": wire.task_fields(task.task)} if task else {"key": key}, corr=corr))
        session.connection.flush()
        _wait(session, key, answer[0])
    except BaseException:
        with session.table.lock:
            came = session._answers.pop(corr, None) is None
        if came and answer[2]:
            _unmade(session, answer[1])
        raise
    session._answers.pop(corr, None)
    if len(answer) == 1:
        raise session.table.closed or exceptions.SystemFault("the connection ended")
    return answer[1], answer[2], answer[3]


def _wait(session: Any, key: bytes, gate: Any) -> None:
    if not session.pause(gate.wait, _ANSWER):
        raise exceptions.GetTimeoutError(f"the agent of node {session.node} did not say within {_ANSWER} s what it has under key {_title(key)}")


def _unmade(session: Any, ref: ObjectRef) -> None:
    session.connection.send(wire.table("CacheUnmade", {"object": wire.task_fields(ref._key[: wire.TASK_SIZE])}))
    session.places.put(None)
    session.connection.flush()


def _make(session: Any, key: bytes, ref: ObjectRef, make: Callable[[], Any]) -> Any:
    """Makes the value and keeps it, if there is room. Whatever goes wrong, who waits is told."""
    kept = False
    try:
        value = make()
        encoded = values.encode(value)
        if encoded.refs:
            raise TypeError(f"cached value {_title(key)} has references in it, which would be kept for as long as the cluster lives: get their values first")
        if not encoded.size:
            encoded = values.Encoded(wire.PLAIN, (), _EMPTY)
        try:
            _keep(session, ref._key, encoded)
            kept = True
        except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as e:
            _say(f"cached value {_title(key)} of {encoded.size} bytes is not kept on node {session.node}, as others that find no room: whoever asks makes it for itself: {e}")
            return value
    finally:
        if kept:
            session.places.put(None)
        else:
            _unmade(session, ref)
    value = session.get((ref,))[0]
    _know(session, key, ref)
    return value


def _keep(session: Any, key: bytes, encoded: values.Encoded) -> None:
    """Seals the value. Another thread here may wait for it."""
    session.spend(0)
    seen = Seen()
    seen.told = 1
    with session.table.lock:  # before the agent may ask for it
        session.seen[key] = seen
    try:
        place = session.seal(key, encoded, b"")
    except BaseException:
        with session.table.lock:
            session.seen.pop(key, None)
        raise
    with session.table.lock:
        at: Optional[Place] = session.place_locked(key, place)
        if at is not None:  # else a Get tells where it is
            session.table.settle_locked(key, Value(wire.NOT_TASK, encoded.format, (), at))


def _say(text: str) -> None:
    global _said
    if not _said:
        _said = True
        sys.stderr.write(f"maniple: {text}\n")
