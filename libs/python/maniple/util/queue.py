"""A queue that tasks and actors share. It lives in an actor."""

from __future__ import annotations

import asyncio
from queue import Empty, Full
from typing import Any, Dict, Iterable, List, Optional

import maniple

__all__ = ["Queue", "Empty", "Full"]


class Queue:
    """A first-in first-out queue; may be sent to tasks and actors.

    maxsize: items it holds at most (default 0: no bound). actor_options: of its actor (default: none).
    Timeouts are in seconds. Raises Full and Empty of the standard library's queue module.
    """

    def __init__(self, maxsize: int = 0, actor_options: Optional[Dict[str, Any]] = None):
        self.maxsize = maxsize
        self.actor: Any = maniple.remote(_Store).options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.qsize()

    def size(self) -> int:
        return self.qsize()

    def qsize(self) -> int:
        """How many items there are."""
        return int(maniple.get(self.actor.qsize.remote()))

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        return 0 < self.maxsize <= self.qsize()

    def put(self, item: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        """Adds an item. block=False: raises Full at once if there is no room; timeout: after so long."""
        _check(block, timeout)
        maniple.get(self.actor.put.remote(item, timeout) if block else self.actor.put_nowait.remote([item]))

    async def put_async(self, item: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        _check(block, timeout)
        await (self.actor.put.remote(item, timeout) if block else self.actor.put_nowait.remote([item]))

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        """Takes the oldest item. block=False: raises Empty at once if there is none; timeout: after so long."""
        _check(block, timeout)
        return maniple.get(self.actor.get.remote(timeout)) if block else maniple.get(self.actor.get_nowait.remote(1))[0]

    async def get_async(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        _check(block, timeout)
        return await self.actor.get.remote(timeout) if block else (await self.actor.get_nowait.remote(1))[0]

    def put_nowait(self, item: Any) -> None:
        self.put(item, block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Adds all items or, raising Full, none."""
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be iterable, not a {type(items).__name__}")
        maniple.get(self.actor.put_nowait.remote(list(items)))

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def get_nowait_batch(self, num_items: int) -> List[Any]:
        """Takes so many items or, raising Empty, none."""
        if not isinstance(num_items, int):
            raise TypeError(f"num_items must be an int, not a {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items can't be negative: {num_items}")
        return list(maniple.get(self.actor.get_nowait.remote(num_items)))

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """Ends the actor; calls that wait there fail. force: at once, else after grace_period_s seconds at the latest."""
        if self.actor is not None and not force:
            done = self.actor.__ray_terminate__.remote()
            force = not maniple.wait([done], timeout=grace_period_s)[0]
        if self.actor is not None and force:
            maniple.kill(self.actor)
        self.actor = None


def _check(block: bool, timeout: Optional[float]) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError(f"timeout can't be negative: {timeout}")


class _Store:
    """The queue's actor."""

    def __init__(self, maxsize: int):
        self._queue: "asyncio.Queue[Any]" = asyncio.Queue(max(maxsize, 0))

    async def qsize(self) -> int:
        return self._queue.qsize()

    async def put(self, item: Any, timeout: Optional[float] = None) -> None:
        try:
            await asyncio.wait_for(self._queue.put(item), timeout)
        except asyncio.TimeoutError:
            raise Full from None

    async def get(self, timeout: Optional[float] = None) -> Any:
        try:
            return await asyncio.wait_for(self._queue.get(), timeout)
        except asyncio.TimeoutError:
            raise Empty from None

    async def put_nowait(self, items: List[Any]) -> None:
        if 0 < self._queue.maxsize < len(items) + self._queue.qsize():
            raise Full(f"no room for {len(items)} items: {self._queue.qsize()} of {self._queue.maxsize} are there")
        for item in items:
            self._queue.put_nowait(item)

    async def get_nowait(self, count: int) -> List[Any]:
        if count > self._queue.qsize():
            raise Empty(f"{count} items are not there: {self._queue.qsize()} are")
        return [self._queue.get_nowait() for _ in range(count)]
