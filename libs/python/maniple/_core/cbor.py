"""Reads CBOR (RFC 8949): the plain format, in which Go sends values."""

from __future__ import annotations

import struct
from typing import Any, Tuple

from maniple._core.wire import ProtocolError

_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_MAX_DEPTH = 64


def loads(data: Any) -> Any:
    """The value in data: None, bool, int, float, str, bytes, list or dict. Raises ProtocolError."""
    try:
        value, at = _item(memoryview(data), 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, OverflowError) as e:
        raise ProtocolError(f"broken CBOR: {e}") from e
    if at != len(data):
        raise ProtocolError(f"{len(data) - at} bytes behind a CBOR value")
    return value


def _head(view: memoryview, at: int) -> Tuple[int, int, int, int]:
    """Major type, additional information, argument, and where it ends."""
    major, info = view[at] >> 5, view[at] & 31
    at += 1
    if info < 24:
        return major, info, info, at
    if info > 27:
        if info == 31 and major in (2, 3, 4, 5):
            return major, info, -1, at
        raise ProtocolError(f"CBOR with additional information {info}")
    size = 1 << (info - 24)
    if at + size > len(view):
        raise ProtocolError("CBOR that ends inside a number")
    return major, info, int.from_bytes(view[at : at + size], "big"), at + size


def _item(view: memoryview, at: int, depth: int) -> Tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise ProtocolError(f"CBOR more than {_MAX_DEPTH} deep")
    begin = at
    major, info, n, at = _head(view, at)
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major in (2, 3):
        if n < 0:
            parts = []
            while view[at] != 0xFF:
                part, at = _item(view, at, depth + 1)
                parts.append(part)
            return (b"" if major == 2 else "").join(parts), at + 1
        if at + n > len(view):
            raise ProtocolError("CBOR that ends inside a string")
        raw = bytes(view[at : at + n])
        return (raw if major == 2 else raw.decode()), at + n
    if major in (4, 5):
        return _many(view, at, n, major == 5, depth)
    if major == 6:
        value, at = _item(view, at, depth + 1)
        if n in (2, 3):  # large whole numbers
            whole = int.from_bytes(value, "big")
            return (whole if n == 2 else -1 - whole), at
        return value, at
    if info in _FLOATS:
        fmt = _FLOATS[info]
        return struct.unpack_from(fmt, view, begin + 1)[0], at
    if n in _SIMPLE:
        return _SIMPLE[n], at
    raise ProtocolError(f"CBOR simple value {n}")


def _many(view: memoryview, at: int, n: int, pairs: bool, depth: int) -> Tuple[Any, int]:
    if n > len(view) - at:
        raise ProtocolError("CBOR with more items than bytes")
    items, keys = [], []
    while n and not (n < 0 and view[at] == 0xFF):
        if pairs:
            key, at = _item(view, at, depth + 1)
            keys.append(key)
        value, at = _item(view, at, depth + 1)
        items.append(value)
        n -= 1
    if n < 0:
        at += 1
    return (dict(zip(keys, items)) if pairs else items), at
