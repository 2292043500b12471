"""Functions and classes as content: their bytes, sent once per job and named by the hash."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any, Callable, Dict, List, Tuple

from maniple import exceptions
from maniple._core import values
from maniple._core.references import ObjectRef


class Code:
    """A function or class of the user, as it is sent. Made at its first call, since it may refer to what is defined after it."""

    __slots__ = ("name", "is_class", "hash", "number", "payload", "pinned")

    def __init__(self, target: Any, name: str, is_class: bool = False):
        import hashlib

        self.name, self.is_class = name, is_class
        self.payload, self.pinned = _dump(target, name)
        if len(self.payload) > values.MAX_VALUE:
            raise ValueError(
                f"maniple: the code of {name} has {len(self.payload) >> 20} MiB, which is more than the {values.MAX_VALUE >> 20} MiB of one message: "
                "pass the large object that it captures as an argument, or as put()"
            )
        self.hash = hashlib.sha256(b"python\0" + name.encode() + b"\0" + self.payload).digest()
        self.number = int.from_bytes(self.hash[:8], "little")

    def fields(self) -> Dict[str, Any]:
        """Of its Function table."""
        return {"hash": self.hash, "name": self.name, "language": "python", "class_": self.is_class}


def _dump(target: Any, name: str) -> Tuple[bytes, List[ObjectRef]]:
    """The pickle, and the references that it captured: they live as long as the code does."""
    base = values.cloud_pickler()

    class Pickler(base):  # type: ignore[misc,valid-type]
        def persistent_id(self, obj: Any) -> Any:
            if type(obj) is ObjectRef:
                self.numbers.setdefault(obj, None)
                return ("pin", obj.binary())
            return None

    file = io.BytesIO()
    pickler = Pickler(file, protocol=5)
    pickler.numbers = {}
    try:
        pickler.dump(target)
    except exceptions.TaskPlacementGroupRemoved:  # it captured a group of another session
        raise
    except Exception as e:
        raise TypeError(f"maniple: {name} can't be sent to a worker: {e}; what it captures must be picklable: pass it as an argument, or make it inside") from e
    size = file.tell()
    if size > 1 << 20:
        sys.stderr.write(f"maniple: the code of {name} has {size >> 20} MiB: a large object that it captures is better passed as put()\n")
    return file.getvalue(), list(pickler.numbers)


class _Unpickler(pickle.Unpickler):
    captured: Callable[[bytes], ObjectRef]

    def persistent_load(self, pid: Any) -> Any:
        return self.captured(pid[1])


def load(payload: bytes, captured: Callable[[bytes], ObjectRef] = ObjectRef) -> Any:
    """The function or class. captured: makes the references in it. Raises what its modules raise when they are imported."""
    unpickler = _Unpickler(io.BytesIO(payload))
    unpickler.captured = captured
    return unpickler.load()
