"""How much more this process may submit."""

from __future__ import annotations

from collections import deque
from threading import Lock, RLock
from typing import Callable, Deque

from maniple._core.tally import Tally


class Credits:
    """Bytes and records that the agent has granted and that are not spent.

    A message that is larger than seven eighths of the grant may go when so much is there: the agent gives
    back in eighths. Any thread may spend; the reader thread grants, and waits for nobody.
    """

    def __init__(self, size: int, records: int):
        self._turn = RLock()  # of threads that spend; what interrupts one may spend, too
        self._bytes, self._records = Tally(size), Tally(records)
        self._enough = size - size // 8
        self._waiting: Deque[Lock] = deque()
        self._closed = False

    def spend(self, size: int, wait: Callable[[Lock], None]) -> None:
        """Takes one record and size bytes; waits for them if they are not there.

        wait: acquires the lock that it is given, which is free once credit came back (what is buffered has to leave first).
        """
        while not self._closed:
            with self._turn:
                if self._take(size):
                    return
                gate = Lock()
                gate.acquire()
                self._waiting.append(gate)
                taken = self._closed or self._take(size)  # it came before the gate was there
            try:
                if taken:
                    return
                wait(gate)
            finally:
                try:
                    self._waiting.remove(gate)
                except ValueError:  # it was opened
                    pass

    def _take(self, size: int) -> bool:
        records, left = self._records.add(-1), self._bytes.add(-size)
        if records >= 0 and left + size >= min(size, self._enough):
            return True
        self._records.add(1)
        self._bytes.add(size)
        return False

    def grant(self, size: int, records: int) -> None:
        """Gives back what the agent has consumed."""
        self._bytes.add(size)
        self._records.add(records)
        self._wake()

    def close(self) -> None:
        """Lets everybody go on, into the error that the closed connection gives."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            try:
                self._waiting.popleft().release()
            except IndexError:  # the last one went by itself
                pass
