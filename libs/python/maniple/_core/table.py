"""What this process knows of each object that it has a reference to, and who waits for it.

An entry is a Value (the bytes are here), an exception (it will never be), or one of the states below.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

from maniple._core import twin
from maniple._core.patience import acquire
from maniple._core.tally import Tally
from maniple._core.wire import WANT_HERE, WANT_READY, WANT_VALUE, key_of


class State:
    """How far an object is that is not here."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


PENDING = State("pending")  # the result of a call from here: it comes without a question
REMOTE = State("remote")  # another process's; nobody has asked
CHECKED = State("checked")  # asked whether it is there
COMING = State("coming")  # asked to be brought to this node
ASKED = State("asked")  # asked for
READY = State("ready")  # it is there, and its value is not here
BRINGING = State("bringing")  # it is there, and asked to be brought to this node
HERE = State("here")  # it is there, at this node
FETCHING = State("fetching")  # it is there, and asked for
_THERE = (READY, BRINGING, FETCHING, HERE)


class Value(NamedTuple):
    """An object's bytes, as a Result brought them."""

    flags: int
    format: int
    refs: int  # keys before the envelope
    payload: Any  # bytes-like


def is_ready(entry: Any, here: bool = False) -> bool:
    """here: at this node."""
    return type(entry) is not State or entry is HERE or (not here and entry in _THERE)


class Gate:
    """Waits until enough of some objects are here.

    missing: how many. want: their values, or that they exist, or that they are at this node. early: one that
    failed opens it.
    """

    __slots__ = ("_left", "want", "early", "_lock", "_open")

    def __init__(self, missing: int, want: int = WANT_VALUE, early: bool = False):
        self._left, self.want, self.early = Tally(missing), want, early
        self._lock, self._open = threading.Lock(), False
        self._lock.acquire()

    @property
    def missing(self) -> int:
        return self._left.add(0)

    @missing.setter
    def missing(self, number: int) -> None:
        self._left.set(number)

    def arrived(self, key: bytes, failed: bool) -> None:
        if self._left.add(-1) <= 0 or (failed and self.early):
            self.open()

    def open(self) -> None:
        if not self._open:
            self._open = True
            try:
                self._lock.release()
            except RuntimeError:  # what came between has opened it
                pass

    def wait(self, timeout: Optional[float] = None) -> bool:
        """True if it opened; False after timeout seconds (None: never). Interruptible."""
        return acquire(self._lock, timeout)


if twin.fast is not None:
    Gate = twin.fast.Gate


class Callback:
    """Calls once, on the reader thread, when an object's value is here. want: as of a gate. What the call raises is printed: the reader goes on for all others."""

    __slots__ = ("want", "_call")

    def __init__(self, call: Callable[[], None], want: int = WANT_VALUE):
        self.want, self._call = want, call

    def arrived(self, key: bytes, failed: bool) -> None:
        self.open()

    def open(self) -> None:
        try:
            self._call()
        except Exception as e:
            sys.stderr.write(f"maniple: who waited for an object could not be told of it: {type(e).__name__}: {e}\n")


class Table:
    """Entries by key. The lock is held for every change but the first mention of a key that nobody can know.

    What holds it on a thread of the user's, a signal's handler or a ``__del__`` may interrupt, and say and wait for what it likes there: so the
    lock is that thread's as often as it wants, and others' while it waits (PY-6). Every step there leaves things as the next one, whoever's, can take them.
    """

    def __init__(self) -> None:
        self.entries: Dict[bytes, Any] = {}
        self.lock = threading.RLock()
        self.closed: Optional[BaseException] = None  # why nothing will come any more
        self._waiting: Dict[bytes, List[Any]] = {}

    def fetch(self, refs: Sequence[Any]) -> Any:
        """The values of all of them as a list; a gate that waits for those that are missing; None: to be got one by one."""

    def claim_locked(self, key: bytes) -> None:
        """What follows is for Python alone: see native."""

    # What the extension does for many at once. Here nothing is: it is left to who asks.

    def awaited_locked(self, task: bytes, count: int) -> List[bytes]:
        """The keys of those results of a task that have not come."""
        keys = [key_of(task, i) for i in range(count)]
        return [key for key in keys if self.entries.get(key) is PENDING]

    def readiness(self, refs: Sequence[Any], here: bool) -> Optional[Sequence[int]]:
        """For each reference whether its object is there, or, here, at this node; None: look one by one."""

    def delivered_locked(self, payload: Any, count: int, held: Any) -> List[Any]:
        """The references that a payload begins with, counted; None for each that is to be looked at by itself."""
        return [None] * count

    def release_locked(self, keys: List[bytes], held: Any, promises: Any, seen: Any, sequences: Any) -> List[bytes]:
        """Forgets what was dropped and says so. Those that are to be looked at one by one."""
        return keys

    def settle_locked(self, key: bytes, entry: Any) -> None:
        """An object that is held here has come, or will never."""
        self.entries[key] = entry
        gates = self._waiting.pop(key, None)
        if gates:
            failed = _failed(entry)
            while gates:  # who is about to wait has its gate here, or finds the entry
                gates.pop(0).arrived(key, failed)

    def there_locked(self, key: bytes, entry: State, here: bool = False) -> int:
        """An object exists, at this node if here; its value is not in this process. Tells what is to be asked for those who wait still, 0: nothing."""
        self.entries[key] = entry
        gates = self._waiting.get(key)
        if not gates:
            return 0
        for gate in [g for g in gates if g.want == WANT_READY or (here and g.want == WANT_HERE)]:
            gates.remove(gate)
            gate.arrived(key, False)
        if not gates:
            return 0
        return WANT_VALUE if any(g.want == WANT_VALUE for g in gates) else WANT_HERE

    def register_locked(self, gate: Any, keys: Iterable[bytes]) -> None:
        for key in keys:
            gates = self._waiting.setdefault(key, [])
            gates.append(gate)
            entry = self.entries.get(key)
            if entry is not None and (type(entry) is not State or (gate.want != WANT_VALUE and is_ready(entry, gate.want == WANT_HERE))) and gate in gates:
                gates.remove(gate)  # it came before the gate was there
                gate.arrived(key, type(entry) is not State and _failed(entry))
        if self.closed:
            gate.open()

    def gate(self) -> Any:
        """A gate for what is not an object, for whoever waits for one thing: the connection does not let it wait for more."""
        gate = Gate(1)
        with self.lock:
            self.register_locked(gate, ())
        return gate

    def unregister(self, gate: Any, keys: Sequence[bytes]) -> None:
        """Forgets a gate whose waiter went away."""
        with self.lock:
            for key in keys:
                if gate in self._waiting.get(key, ()):
                    for other in self._waiting.pop(key, ()):
                        if other is not gate:
                            Table.register_locked(self, other, (key,))

    def close(self, why: BaseException) -> None:
        """PY-4: opens every gate; whoever comes through looks at closed."""
        with self.lock:
            self.closed = self.closed or why
            gates = {id(g): g for waiting in self._waiting.values() for g in waiting}
            self._waiting.clear()
        for gate in gates.values():
            gate.open()


def _failed(entry: Any) -> bool:
    return isinstance(entry, BaseException) or bool(entry.flags & 2)
