"""Errors as values: the table Failure, format 4, which every language reads."""

from __future__ import annotations

import os
import traceback
from typing import Any, Dict, Optional

from maniple import exceptions
from maniple._core import frames, wire

_MAX_TEXT = 64 << 10  # bytes of a traceback that are sent, from its end


def of_user(error: BaseException, function: str, task: bytes, node: str) -> bytes:
    """The bytes of a Failure for what user code raised; never raises. function: as the traceback names it."""
    if isinstance(error, exceptions.TaskError):  # of a task that this one asked: its cause stays the cause
        fields: Dict[str, Any] = {"type": error.type_name, "message": error.message, "cause": error.function}
        cause: Optional[BaseException] = error.cause
    else:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        fields = {"type": name, "message": _text(error)}
        cause = error
    fields.update(code="USER", traceback=_traceback(error, function), node=node, pid=os.getpid(), task=wire.task_fields(task))
    fields["pickle"] = _pickled(cause)
    if not fields["pickle"]:
        fields["cause"] = "the exception can't be pickled"
    return frames.pack("Failure", fields)


def plain(code: str, message: str, task: bytes = wire.NO_TASK) -> bytes:
    """The bytes of a Failure that no user code raised."""
    kind = exceptions.BY_CODE.get(code, exceptions.ManipleError)
    return frames.pack("Failure", {"code": code, "type": kind.__name__, "message": message, "pid": os.getpid(), "task": wire.task_fields(task)})


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as e:
        return f"<its text can't be had: {type(e).__name__}>"


def _traceback(error: BaseException, function: str) -> str:
    """The traceback without the frames of this package at its top."""
    tb, here = error.__traceback__, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while tb is not None and os.path.abspath(tb.tb_frame.f_code.co_filename).startswith(here + os.sep) and tb.tb_next is not None:
        tb = tb.tb_next
    try:
        lines = traceback.format_exception(type(error), error, tb)
    except Exception as e:  # a broken __str__ or source file
        lines = [f"{type(error).__name__} (its traceback can't be had: {e})"]
    return "".join(lines)[-_MAX_TEXT:]


def _pickled(error: Optional[BaseException]) -> bytes:
    from maniple._core import values

    if error is None:
        return b""
    try:
        encoded = values.encode(error)
        if encoded.refs:
            return b""
        values.load_pickle(encoded.payload)  # many exceptions pickle and can't be read back
        return encoded.payload
    except Exception:
        return b""


def load(payload: Any) -> BaseException:
    """The exception to raise for a Failure. Raises ProtocolError if it is none."""
    fields = wire.untable("Failure", payload)
    code, message = fields.get("code") or "", fields.get("message") or ""
    if code != "USER":
        kind = exceptions.BY_CODE.get(code)
        error = (kind or exceptions.ManipleError)(message)
        if isinstance(error, exceptions.ActorError):
            error.actor_id = wire.task_bytes(fields.get("task")).hex()
        if kind is None:
            error.code = code
        return error
    cause: Optional[BaseException] = None
    pickled, text = bytes(fields.get("pickle") or b""), fields.get("traceback") or ""
    if pickled:
        from maniple._core import values

        try:
            cause = values.load_pickle(pickled)
        except Exception as e:  # its module is not here, or it changed
            text += f"(the exception itself can't be read here: {type(e).__name__}: {e})\n"
    function = wire.task_text(wire.task_bytes(fields.get("task")))
    error = exceptions.TaskError(
        f"task {function}", text, cause if isinstance(cause, BaseException) else None, fields.get("type") or "Exception", message, fields.get("node") or "", fields.get("pid") or 0
    )
    return error.as_instanceof_cause()
