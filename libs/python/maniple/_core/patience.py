"""Waiting for a lock such that a signal is never overlooked."""

from __future__ import annotations

from threading import Lock
from time import monotonic
from typing import Optional

# A signal that comes between Python's look for one and the kernel's wait wakes nobody: so the wait is cut.
SLICE = 0.2  # seconds


def acquire(lock: Lock, timeout: Optional[float] = None) -> bool:
    """lock.acquire(); False after timeout seconds (None: never). Raises what a signal's handler does within 0.2 s."""
    if timeout is None:
        while not lock.acquire(timeout=SLICE):
            pass
        return True
    deadline = monotonic() + timeout
    while True:
        left = deadline - monotonic()
        if lock.acquire(timeout=max(min(left, SLICE), 0)):
            return True
        if left <= SLICE:
            return False
