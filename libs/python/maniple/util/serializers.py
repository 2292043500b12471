"""Own ways to send objects of a class, and a look at why one can't be sent."""

from __future__ import annotations

import copyreg
import sys
from typing import Any, Callable, List, Optional, Set, Tuple

from maniple._core import values


def _read(deserializer: bytes, state: Any) -> Any:
    return values.load_pickle(deserializer)(state)


def register_serializer(cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """Sends objects of cls, from this process, as serializer(obj); deserializer makes them again where they are read."""
    made = values.encode(deserializer).payload
    copyreg.pickle(cls, lambda obj: (_read, (made, serializer(obj))))


def deregister_serializer(cls: type) -> None:
    """Undoes register_serializer; does nothing for other classes."""
    copyreg.dispatch_table.pop(cls, None)


def inspect_serializability(base_obj: Any, name: Optional[str] = None, depth: int = 3, print_file: Any = None) -> Tuple[bool, Set[str]]:
    """Whether an object can be sent, and the names of what in it can't; says so on print_file (default: stdout)."""
    failed: List[str] = []
    _look(base_obj, name or getattr(base_obj, "__qualname__", type(base_obj).__qualname__), depth, failed, print_file or sys.stdout, set())
    return not failed, set(failed)


def _look(obj: Any, name: str, depth: int, failed: List[str], file: Any, seen: Set[int]) -> None:
    try:
        values.encode(obj)
        return
    except Exception as e:
        file.write(f"{name} can't be sent: {e}\n")
    if id(obj) in seen or depth <= 0:
        failed.append(name)
        return
    seen.add(id(obj))
    before = len(failed)
    for part, value in _parts(obj):
        _look(value, f"{name}.{part}", depth - 1, failed, file, seen)
    if len(failed) == before:
        failed.append(name)


def _parts(obj: Any) -> "List[Tuple[str, Any]]":
    """What an object holds: variables that a function captured, attributes, items."""
    import inspect

    if inspect.isfunction(obj):
        captured = inspect.getclosurevars(obj)
        return [*captured.nonlocals.items(), *captured.globals.items()]
    if isinstance(obj, dict):
        return [(repr(k), v) for k, v in obj.items()]
    if isinstance(obj, (list, tuple, set)):
        return [(str(i), v) for i, v in enumerate(obj)]
    return list(getattr(obj, "__dict__", {}).items())
