"""What a worker has been given and not yet begun."""

from __future__ import annotations

import queue
from typing import Any, Callable, Optional

from maniple._core import twin


class Inbox(queue.SimpleQueue):  # type: ignore[type-arg]
    """Work in its order, and None for the end."""

    def begun(self, task: bytes) -> None:
        """A job of this task runs."""

    def ended(self, task: bytes) -> bool:
        """It does not any more. True: nothing waits."""
        return self.empty()

    def withdraw(self, task: bytes) -> Any:
        """A job that only C knows of, which has not begun: it is taken out. None if there is none."""


class Native:
    """The extension's: it keeps work as frames, and answers recalls of what has not begun by itself.

    registered: gives a job that left it, once it is known outside.
    """

    def __init__(self, link: Any, registered: Callable[[Any], Any]):
        self._link, self._registered, self._type = link, registered, twin.fast.Job
        self.put, self.empty, self.begun, self.ended = link.put, link.empty, link.begun, link.ended

    def get(self) -> Any:
        got = self._link.get()
        return self._registered(got) if type(got) is self._type else got

    def withdraw(self, task: bytes) -> Optional[Any]:
        got = self._link.withdraw(task)
        return None if got is None else self._registered(got)
