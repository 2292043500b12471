"""What a worker has been given and not yet begun."""

from __future__ import annotations

import queue
from typing import Any, Callable, Optional


class Inbox(queue.SimpleQueue):  # type: ignore[type-arg]
    """Work in its order, and None for the end."""

    def begun(self, task: bytes) -> None:
        """A job of this task runs."""

    def ended(self, task: bytes) -> None:
        """It does not any more."""

    def withdraw(self, task: bytes) -> Any:
        """A job that only C knows of, which has not begun: it is taken out. None if there is none."""


class Native:
    """The extension's: it keeps work as frames, and answers recalls of what has not begun by itself.

    made: makes a job of a frame (type, body, payload) and registers it.
    """

    def __init__(self, link: Any, made: Callable[[int, bytes, bytes], Any]):
        self._link, self._made = link, made
        self.put, self.empty, self.begun, self.ended = link.put, link.empty, link.begun, link.ended

    def get(self) -> Any:
        got = self._link.get()
        return self._made(*got) if type(got) is tuple else got

    def withdraw(self, task: bytes) -> Optional[Any]:
        got = self._link.withdraw(task)
        return None if got is None else self._made(*got)
