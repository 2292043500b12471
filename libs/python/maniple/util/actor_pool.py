"""A fixed set of actors that work through many values."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Tuple

import maniple
from maniple import exceptions


class ActorPool:
    """Gives values to whichever of some actors is free.

    actors: handles. Results come in the order of submission (get_next, map) or as they are done
    (get_next_unordered, map_unordered); the two must not be mixed while results are out. An actor that died is given nothing more.
    """

    def __init__(self, actors: List[Any]):
        self._idle: List[Any] = list(actors)
        self._busy: Dict[Any, Tuple[int, Any]] = {}  # reference -> its number and actor
        self._by_number: Dict[int, Any] = {}
        self._next_number = self._next_return = 0
        self._waiting: Deque[Tuple[Callable[[Any, Any], Any], Any]] = deque()

    def map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """fn(actor, value) for all values, at once; an iterator of results in their order. Drops what was out before."""
        return self._map(fn, values, self.get_next)

    def map_unordered(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """As map, with results as they are done."""
        return self._map(fn, values, self.get_next_unordered)

    def _map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any], take: Callable[..., Any]) -> Iterator[Any]:
        while self.has_next():
            try:
                self.get_next_unordered(timeout=0, ignore_if_timedout=True)
            except TimeoutError:
                pass
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield take()

        return results()

    def submit(self, fn: Callable[[Any, Any], Any], value: Any) -> None:
        """Runs fn(actor, value) on a free actor, or once one is free. fn gives a reference."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        ref = fn(actor, value)
        self._busy[ref] = self._next_number, actor
        self._by_number[self._next_number] = ref
        self._next_number += 1

    def has_next(self) -> bool:
        """A result is out."""
        return bool(self._busy)

    def get_next(self, timeout: Optional[float] = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in order of submission.

        timeout: seconds (default: no end). ignore_if_timedout: what was not in time is dropped.
        Raises StopIteration without results, TimeoutError, or what the actor raised.
        """
        if not self.has_next():
            raise StopIteration("no results are out")
        if self._next_return >= self._next_number or self._next_return not in self._by_number:
            raise ValueError("get_next() can't come after get_next_unordered()")
        ref = self._by_number[self._next_return]
        late = not maniple.wait([ref], timeout=timeout)[0]
        if late and not ignore_if_timedout:
            raise TimeoutError(f"no result within {timeout} s")
        del self._by_number[self._next_return]
        self._next_return += 1
        return self._finish(ref, late, timeout)

    def get_next_unordered(self, timeout: Optional[float] = None, ignore_if_timedout: bool = False) -> Any:
        """The next result of any; otherwise as get_next."""
        if not self.has_next():
            raise StopIteration("no results are out")
        ready, _ = maniple.wait(list(self._busy), num_returns=1, timeout=timeout)
        if not ready and not ignore_if_timedout:
            raise TimeoutError(f"no result within {timeout} s")
        ref = ready[0] if ready else next(iter(self._busy))
        number, _ = self._busy[ref]
        del self._by_number[number]
        self._next_return = max(self._next_return, number + 1)
        return self._finish(ref, not ready, timeout)

    def _finish(self, ref: Any, late: bool, timeout: Optional[float]) -> Any:
        _, actor = self._busy.pop(ref)
        if late:
            self._give_back(actor)
            raise TimeoutError(f"no result within {timeout} s; it is dropped")
        alive = True
        try:
            return maniple.get(ref)
        except exceptions.ActorDiedError:
            alive = self._lives(actor)  # else it would be given all that is still to come, and fail it
            raise
        finally:
            self._give_back(actor, alive)

    @staticmethod
    def _lives(actor: Any) -> bool:
        """Whether it was another actor that has died, of which a call told."""
        try:
            maniple.get(actor.__ray_ready__.remote())
        except exceptions.ActorDiedError:
            return False
        return True

    def _give_back(self, actor: Any, alive: bool = True) -> None:
        if alive or not (self._idle or self._busy):  # the last one stays: what waits fails by it, and does not vanish
            self._idle.append(actor)
        if self._waiting and self._idle:
            self.submit(*self._waiting.popleft())

    def has_free(self) -> bool:
        """An actor is idle and nothing waits."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any:
        """Takes an idle actor out of the pool; None if all are busy."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Adds an actor. Raises ValueError if it is in the pool."""
        if actor in self._idle or any(actor == busy for _, busy in self._busy.values()):
            raise ValueError("the actor is in the pool already")
        self._give_back(actor)
