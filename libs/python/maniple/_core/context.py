"""What the code that runs here belongs to: the task and the actor of this thread or coroutine."""

from __future__ import annotations

from contextvars import ContextVar
from threading import get_ident
from typing import Any, Optional


class Running:
    """A task that runs. task, job, parent, function: as its frame said. blocks: waiting inside it frees its CPU. thread: which runs it."""

    __slots__ = ("task", "job", "parent", "name", "actor", "blocks", "thread", "attempt", "trace", "deadline", "shape")

    def __init__(self, task: bytes, job: int = 0, parent: bytes = b"", name: str = "", actor: Optional[bytes] = None, blocks: bool = True, attempt: int = 0, trace: int = 0, deadline: int = 0, shape: Any = None):
        self.task, self.job, self.parent, self.name, self.actor, self.blocks = task, job, parent, name, actor, blocks
        self.attempt, self.trace, self.deadline, self.shape, self.thread = attempt, trace, deadline, shape, get_ident()


running: "ContextVar[Optional[Running]]" = ContextVar("maniple_running", default=None)
