"""References, and the count of them that this process holds.

The agent keeps an object for this process as long as it was not released. A release says how often the
agent had delivered a reference to that object when the last one here went, so that one in flight is not
lost: deliveries count references inside arguments, results and answers, not the making of an object here.
"""

from __future__ import annotations

from _thread import interrupt_main
from collections import deque
from typing import Any, Callable, Deque, Dict, Generator, Iterable, List, Optional, Sequence, TypeVar

from maniple._core import twin
from maniple._core.wire import INDEX, KEY_SIZE, OBJECT_SIZE, TASK_SIZE

T = TypeVar("T")
_PAD = bytes(OBJECT_SIZE - KEY_SIZE)


def _forget(key: bytes) -> None:
    """Drop of a reference that is not counted."""


class HasReference(TypeError):
    """A reference met a pickler that can't count it."""


class _Counted:
    """What the extension's Ref is: a key, and a word to whoever counts when it goes."""

    __slots__ = ("_key", "_drop", "__weakref__")

    def __init__(self, key: bytes, drop: Callable[[bytes], None] = _forget):
        if not isinstance(key, bytes):
            raise TypeError(f"a reference's key must be bytes, not {type(key).__name__}; references come from .remote() and put()")
        self._key, self._drop = key, drop
        if drop is _forget and len(key) != KEY_SIZE:
            raise ValueError(f"an object's key has {KEY_SIZE} bytes, not {len(key)}; references come from .remote() and put()")

    def __del__(self) -> None:
        try:
            self._drop(self._key)  # appends to a list (PY-2)
        except AttributeError:  # a KeyboardInterrupt in __init__
            pass
        except KeyboardInterrupt:  # Python would print it and go on
            interrupt_main()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or other._key != self._key:  # type: ignore[attr-defined]
            return False
        return other._drop is self._drop or _forget in (other._drop, self._drop)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._key)


class ObjectRef(_Counted if twin.fast is None else twin.fast.Ref):  # type: ignore[misc]
    """Stands for a value that a task, an actor or `put` makes.

    Ask for the value with `maniple.get(ref)`, `await ref` or `ref.future()`; wait with `maniple.wait`. The
    object lives as long as any process holds a reference to it.
    """

    __slots__ = ()
    _key: bytes

    def binary(self) -> bytes:
        """The 20 bytes of its ID."""
        return self._key

    def hex(self) -> str:
        """Its ID as 40 hexadecimal digits."""
        return self._key.hex()

    def task_id(self) -> str:
        """The ID of the task that makes it, as 32 hexadecimal digits."""
        return self._key[:TASK_SIZE].hex()

    def is_nil(self) -> bool:
        return not any(self._key)

    @classmethod
    def nil(cls) -> "ObjectRef":
        """The reference to nothing."""
        return cls(bytes(KEY_SIZE))

    @classmethod
    def size(cls) -> int:
        """How many bytes an ID has."""
        return KEY_SIZE

    @classmethod
    def from_binary(cls, binary: bytes) -> "ObjectRef":
        """The reference with this ID: one more, if this process has one. Else it is good for comparing, as nobody keeps the object for it."""
        from maniple._core.session import attached

        ref = cls(binary)  # which checks it
        session = attached()
        return ref if session is None else session.captured(bytes(binary))

    @classmethod
    def from_hex(cls, hexadecimal: str) -> "ObjectRef":
        """As from_binary, by 40 hexadecimal digits."""
        return cls.from_binary(bytes.fromhex(hexadecimal))

    def future(self) -> Any:
        """A `concurrent.futures.Future` of the value."""
        from maniple._core.session import current

        return current().future(self)

    def __await__(self) -> Generator[Any, None, Any]:
        from maniple._core.session import current

        future, forget = current().async_future(self)
        try:
            return (yield from future)
        except GeneratorExit:  # the garbage collector's, at a moment when the table may be locked
            raise
        except BaseException:  # its error, or it was cancelled
            forget()
            raise

    def __repr__(self) -> str:
        return f"ObjectRef({self._key.hex()})"

    def __copy__(self) -> "ObjectRef":
        return self

    def __deepcopy__(self, memo: Any) -> "ObjectRef":
        return self  # it stands for the same object: a deep copy of what has references in it is what a program does with its settings

    def __reduce__(self) -> Any:
        raise HasReference(
            "an ObjectRef can be sent inside arguments, results and put values, and captured by remote functions; "
            "it can't be pickled by hand, where nobody would count it"
        )

    def __class_getitem__(cls, item: Any) -> type:
        return cls


def heads(refs: Iterable[ObjectRef]) -> bytes:
    """The ObjectIDs of references, one behind the other, as a payload begins with them."""
    return b"".join([ref._key + _PAD for ref in refs])


if twin.fast is not None:
    heads = twin.fast.heads


class Held:
    """Counts the references of this process. The table's lock guards the counts; what is gained and dropped comes without it,
    and is counted on the connection's own threads, which no signal's handler interrupts (PY-6).

    link: takes drops, in place of a list. claim: told of an object of which there will be more than one reference. foreign: see there.
    """

    def __init__(self, link: Any = None, claim: Callable[[bytes], None] = _forget, foreign: Any = None) -> None:
        self.dropped: Any = deque() if link is None else link
        self._gained: Deque[bytes] = deque()
        self._drop, self._claim = self.dropped.append if link is None else link, claim
        self._more: Dict[bytes, int] = {}  # references to an object beyond the first
        self._delivered: Dict[bytes, int] = {}
        # The first of a list or tuple of references that another session counts, or, strict, that nobody does; None: there is none.
        self.foreign: Callable[[Sequence[ObjectRef], bool], Optional[ObjectRef]] = foreign or self._foreign

    def _foreign(self, refs: "Sequence[ObjectRef]", strict: bool) -> "Optional[ObjectRef]":
        for ref in refs:
            if type(ref) is ObjectRef and ref._drop is not self._drop and (strict or ref._drop is not _forget):
                return ref
        return None

    def made(self, key: bytes) -> ObjectRef:
        """The first reference to an object that this process makes."""
        return ObjectRef(key, self._drop)

    def again_locked(self, key: bytes) -> ObjectRef:
        """One more reference to an object that is held."""
        self.count_locked(key)
        return ObjectRef(key, self._drop)

    def count_locked(self, key: bytes) -> None:
        """Something beside references holds the object: it appends the key to dropped when it goes."""
        self._gained.append(key)
        self._claim(key)

    def delivered_locked(self, key: bytes, known: bool) -> ObjectRef:
        """A reference that the agent sent, to an object that was claimed. known: this process held one already."""
        self._delivered[key] = self._delivered.get(key, 0) + 1
        return self.again_locked(key) if known else ObjectRef(key, self._drop)

    def undelivered_locked(self, key: bytes) -> int:
        """The deliveries to tell the agent of an object to which no reference was made here."""
        return self._delivered.pop(key, 0)

    def take_dropped(self) -> List[bytes]:
        """The keys dropped since the last call, oldest first."""
        if type(self.dropped) is not deque:
            return self.dropped.dropped()  # type: ignore[no-any-return]
        return _taken(self.dropped)

    def gather_locked(self) -> None:
        """Counts what was gained until now, and so whatever was gained before it was dropped."""
        for key in _taken(self._gained):
            self._more[key] = self._more.get(key, 0) + 1

    def drop_locked(self, key: bytes) -> int:
        """One reference went. The deliveries to tell the agent if it was the last, else -1."""
        more = self._more.get(key)
        if more is None:
            return self._delivered.pop(key, 0)
        if more == 1:
            del self._more[key]
        else:
            self._more[key] = more - 1
        return -1


def _taken(queue: Deque[bytes]) -> List[bytes]:
    """All that is in it, taken out by one call into C."""
    keys: List[bytes] = []
    try:
        keys.extend(iter(queue.popleft, None))
    except IndexError:  # that was the last one
        pass
    return keys


def key_index(key: bytes) -> int:
    return int(INDEX.unpack_from(key, TASK_SIZE)[0])
