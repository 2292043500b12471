"""How much more this process may submit."""

from __future__ import annotations

from threading import Lock
from typing import Callable, List


class Credits:
    """Bytes and records that the agent has granted and that are not spent.

    A message that is larger than seven eighths of the grant may go when so much is there: the agent gives
    back in eighths. Any thread may spend; the reader thread grants.
    """

    def __init__(self, size: int, records: int):
        self._lock = Lock()
        self._bytes, self._records = size, records
        self._enough = size - size // 8
        self._waiting: List[Lock] = []
        self._closed = False

    def spend(self, size: int, wait: Callable[[Lock], None]) -> None:
        """Takes one record and size bytes; waits for them if they are not there.

        wait: acquires the lock that it is given, which is free once credit came back (what is buffered has to leave first).
        """
        while True:
            with self._lock:
                if self._closed or (self._records > 0 and self._bytes >= min(size, self._enough)):
                    self._records -= 1
                    self._bytes -= size
                    return
                gate = Lock()
                gate.acquire()
                self._waiting.append(gate)
            try:
                wait(gate)
            finally:
                with self._lock:
                    if gate in self._waiting:
                        self._waiting.remove(gate)

    def grant(self, size: int, records: int) -> None:
        """Gives back what the agent has consumed."""
        with self._lock:
            self._bytes += size
            self._records += records
            self._wake()

    def close(self) -> None:
        """Lets everybody go on, into the error that the closed connection gives."""
        with self._lock:
            self._closed = True
            self._wake()

    def _wake(self) -> None:
        for gate in self._waiting:
            gate.release()
        self._waiting.clear()
