"""What is made whole at its first use: a function that calls itself is read back around itself, and is not whole while that goes on."""

from __future__ import annotations

from threading import RLock
from typing import Any, Type, TypeVar

T = TypeVar("T")
_lock = RLock()


class Later:
    """A base of what later() makes."""

    def __getattr__(self, name: str) -> Any:
        with _lock:
            given = self.__dict__.pop("_given", None)
            if given is not None:
                self.__init__(*given)  # type: ignore[misc]
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"a {type(self).__name__} has no attribute {name!r}") from None


def later(kind: Type[T], *given: Any) -> T:
    """kind(*given), but for its __init__, which is called when somebody asks for an attribute."""
    made = kind.__new__(kind)
    made.__dict__["_given"] = given
    return made
