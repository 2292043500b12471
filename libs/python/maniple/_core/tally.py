"""A number that several change, some of them in the middle of what others do."""

from __future__ import annotations

from io import BytesIO

_ZERO = 1 << 62  # a position can't be negative


class Tally:
    """It is changed and read by one call into C: no other thread and no signal's handler comes between (PY-6)."""

    __slots__ = ("_at",)

    def __init__(self, number: int):
        self._at = BytesIO()
        self._at.seek(_ZERO + number)

    def add(self, number: int) -> int:
        return self._at.seek(number, 1) - _ZERO

    def set(self, number: int) -> None:
        self._at.seek(_ZERO + number)
