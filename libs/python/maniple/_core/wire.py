"""Writes and reads frames: hot ones by one call of struct, tables through the generated codec.

The formats come from the generated ``frames``; here the three numbers of a task become one field of 16
bytes, and those of an object one of 20, which are the keys of all tables in this process.
"""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from struct import Struct, error as StructError
from typing import Any, Callable, Tuple

from maniple._core import frames, twin

HEADER = Struct("<IIHBBIQQ")
HEADER_SIZE = frames.HEADER_SIZE
TASK_SIZE, KEY_SIZE, OBJECT_SIZE = 16, 20, 24
NO_TASK = bytes(TASK_SIZE)
TASK = frames.TASK_ID_STRUCT
INDEX = Struct("<I")

LAST, ERROR, LOCATED, NOT_TASK = frames.RESULT_FLAG_LAST, frames.RESULT_FLAG_ERROR, frames.RESULT_FLAG_LOCATED, frames.RESULT_FLAG_NOT_TASK
FINAL = 16  # of a Result, with ERROR: it is not to be tried again
RAW, PLAIN, PICKLE, ARROW, FAILURE = frames.FORMAT_RAW, frames.FORMAT_PLAIN, frames.FORMAT_PICKLE5, frames.FORMAT_ARROW, frames.FORMAT_ERROR
WANT_VALUE, WANT_READY, WANT_HERE, WANT_ALONE = frames.WANT_VALUE, frames.WANT_READINESS, frames.WANT_HERE, frames.WANT_ALONE
WANT_TAKEN = frames.WANT_TAKEN
IS_READY, IS_ERROR, IS_LOST, IS_HERE = frames.OBJECT_STATE_THERE, frames.OBJECT_STATE_ERROR, frames.OBJECT_STATE_LOST, frames.OBJECT_STATE_HERE
IS_ALONE = frames.OBJECT_STATE_ALONE
# Submit.returns of tasks whose results are not counted beforehand: the upper bit, and the items that may be
# ahead of the reader (0: as many as their bytes allow; UNBOUNDED: any number of any size); or one result that holds the references of all items.
STREAM, UNBOUNDED, DYNAMIC = 0x80000000, 0x7FFFFFFE, 0xFFFFFFFF
ITEM = 1 << 10  # bytes that each item counts as beside its own
ALL_TAKEN = 0xFFFFFFFF  # index of a Get that wants what was taken to be told, when nothing is to wait for a reader any more
FOR_READER = 2  # Awaits.timed of a task that waits for who reads its stream


class ProtocolError(Exception):
    """A frame that can't be read."""


def _compact(layout: Any, fmt: str) -> "tuple[str, list[str]]":
    """The format and the field names of a struct with IDs as bytes."""
    codes, digits = [], ""
    for char in fmt.lstrip("<"):
        if char.isdigit():
            digits += char
        else:
            codes.append(digits + char)
            digits = ""
    fields, out, names = list(layout._fields), "<", []
    while codes:
        code = codes.pop(0)
        if code.endswith("x"):
            out += code
            continue
        name = fields.pop(0)
        if name.endswith("agent") and fields[:1] == [name[:-5] + "process"]:
            prefix = name[:-6]  # "object_task", "task", "parent"
            del fields[:2], codes[:2]
            index = prefix[: -len("task")] + "index" if prefix.endswith("task") else ""
            if index and fields[:1] == [index]:
                del fields[:1], codes[:1]
                out, name = out + "20s", prefix[: -len("_task")] or "object"
            else:
                out, name = out + "16s", prefix
        else:
            out += code
        names.append(name)
    return out, names


class Hot:
    """One type of frame whose body is a struct.

    ``pack(payload, corr, *fields)`` are header and body of a frame with that many bytes of payload behind;
    ``read(body)`` is the named tuple of a body, or ProtocolError.
    """

    def __init__(self, name: str):
        number = getattr(frames, name)
        layout, struct = frames.STRUCTS[number]
        fmt, names = _compact(layout, struct.format)
        self.number, self.size, self.name = number, struct.size, name
        self._body = Struct(fmt)
        assert self._body.size == struct.size, name
        self._tuple = namedtuple(name.title().replace("_", ""), names)
        self.pack: Callable[..., bytes] = self._packer(Struct(HEADER.format + fmt[1:]))

    def _packer(self, struct: Struct) -> Callable[..., bytes]:
        pack, size, number = struct.pack, self.size, self.number
        class_ = frames.CLASS_OF.get(number, frames.CLASS_CONTROL)

        def frame(payload: int, corr: int, *fields: Any) -> bytes:
            return pack(size + payload, size, number, class_, 0, 0, 0, corr, *fields)

        return frame

    def read(self, body: bytes) -> Any:
        try:
            return self._tuple._make(self._body.unpack(body))
        except StructError as e:
            raise ProtocolError(f"{self.name} of {len(body)} bytes") from e


SUBMIT, CALL, RESULT, PUT, SEAL, SLICE, RELEASE, GET, READY = map(Hot, ("SUBMIT", "CALL", "RESULT", "PUT", "SEAL", "SLICE", "RELEASE", "GET", "READY"))
BLOCKED, AWAITS, UNBLOCKED, CANCEL, RECALL, RECALLED, STARTED, RAN, CREDIT = map(
    Hot, ("BLOCKED", "AWAITS", "UNBLOCKED", "CANCEL", "RECALL", "RECALLED", "STARTED", "RAN", "CREDIT")
)

# What the hot path reads of a Result: flags, format and number of references.
RESULT_WORDS = Struct("<24xIII")
assert frames.Result._fields[3:8] == ("index", "attempt", "flags", "format", "refs"), "transport/wire changed what a Result begins with"
RESULT_SIZE = RESULT.size


_fast = twin.fast
if _fast is not None:
    _fast.layouts(frames.TABLES, frames.PARTS)


@lru_cache(maxsize=None)
def _frame(name: str) -> Tuple[int, int]:
    """Number and class of a table's frame."""
    number = getattr(frames, screaming(name))
    return number, frames.CLASS_OF.get(number, frames.CLASS_CONTROL)


def table(name: str, fields: "dict[str, Any]", payload: bytes = b"", corr: int = 0) -> bytes:
    """A frame whose body is a table. name: as in the schema ("Attach"); fields that are not given are absent."""
    number, class_ = _frame(name)
    body = None if _fast is None else _fast.pack(name, fields)
    if body is None:
        body = frames.pack(name, fields)
    return HEADER.pack(len(body) + len(payload), len(body), number, class_, 0, 0, 0, corr) + body + payload


_PROBE = bytes(range(0xF0, 0x100))


class Stamp:
    """Frames of a table that differ in one task ID: the first is written, the others are copies of it. field: of the ID."""

    def __init__(self, name: str, fields: "dict[str, Any]", field: str):
        frame = table(name, {**fields, field: task_fields(_PROBE)})
        at = frame.index(_PROBE)  # in the table itself, which lies before all strings
        self._before, self._after = frame[:at], frame[at + TASK_SIZE :]

    def __call__(self, task: bytes) -> bytes:
        return self._before + task + self._after


def untable(name: str, body: bytes) -> "dict[str, Any]":
    """The fields of a table, or ProtocolError."""
    try:
        fields = None if _fast is None else _fast.unpack(name, body)
        return frames.unpack(name, bytes(body)) if fields is None else fields
    except Exception as e:  # whatever a codec raises for bytes that are not a table
        raise ProtocolError(f"{name}: {e}") from e


def screaming(name: str) -> str:
    """RankState -> RANK_STATE."""
    return "".join("_" + c if c.isupper() and i else c for i, c in enumerate(name)).upper()


def task_fields(task: bytes) -> Any:
    """A task's 16 bytes as the fields of a table."""
    return frames.TaskID._make(TASK.unpack(task))


def task_bytes(value: Any) -> bytes:
    """The 16 bytes of a task that a table has; absent: zeros."""
    if not value:
        return NO_TASK
    parts = [value[k] for k in ("agent", "process", "counter")] if isinstance(value, dict) else list(value)
    return TASK.pack(*parts)


def task_text(task: bytes) -> str:
    """AGENT.PROCESS.COUNTER, as messages and state queries name it."""
    return "%d.%d.%d" % TASK.unpack(task)


def task_of_text(text: str) -> bytes:
    """The reverse of task_text. Raises ValueError."""
    agent, process, counter = map(int, text.split("."))
    return TASK.pack(agent, process, counter)


def key_of(task: bytes, index: int) -> bytes:
    return task + INDEX.pack(index)
