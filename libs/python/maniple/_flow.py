"""How far a generator may be ahead of who reads what it yields."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import Any, Deque

from maniple._core import wire
from maniple._core.context import running
from maniple._core.waiting import call_soon


class Flow:
    """What a job has given of a stream that its reader has not taken; the job's gate.

    There may be so many items as it was declared with, and so many bytes as the agent said, but always one item. bound: those bytes,
    0: any number. One thread asks; set() may be called by any.
    """

    __slots__ = ("_job", "_items", "_bytes", "_costs", "_weight", "_given", "_taken", "_wake")

    def __init__(self, job: Any, bound: int):
        self._job, self._items = job, job.returns & ~wire.STREAM
        self._bytes = bound if self._items < wire.UNBOUNDED else 0
        self._costs: Deque[int] = deque()  # of the items that were not taken
        self._weight = self._given = self._taken = 0
        self._wake: Any = None
        job.gate = self

    def gave(self, size: int) -> bool:
        """An item of so many bytes was given. True: the next one has to wait."""
        self._given += 1
        if self._bytes:
            self._costs.append(size + wire.ITEM)
            self._weight += size + wire.ITEM
        return self.held()

    def held(self) -> bool:
        wanted, items = self._job.wanted, self._items
        if items and self._given >= wanted + items:
            return True
        while self._costs and self._taken < wanted:
            self._weight -= self._costs.popleft()
            self._taken += 1
        return bool(self._costs) and self._weight + self._costs[-1] > self._bytes  # the next is taken to be as large as the last

    def set(self) -> None:
        """The reader goes on, or the job is cancelled."""
        if self._wake is not None:
            self._wake()

    def wait(self, session: Any) -> None:
        """Waits for the reader, on the job's own thread, and frees the job's CPU meanwhile: the reader may need it."""
        came, task = threading.Event(), running.get()
        self._wake = came.set
        told = task is not None and task.blocks
        try:
            if told:
                session.connection.send(wire.AWAITS.pack(0, 0, self._job.task, 0, 0, wire.FOR_READER))
            while self.held() and not self._job.cancelled:
                session.connection.flush()
                came.wait()
                came.clear()
        finally:
            if told:
                session.connection.send(wire.UNBLOCKED.pack(0, 0, self._job.task))

    async def turn(self, session: Any) -> None:
        """As wait, in a coroutine."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        self._wake = partial(call_soon, loop, came.set)
        while self.held() and not self._job.cancelled:
            session.connection.flush()
            await came.wait()
            came.clear()
