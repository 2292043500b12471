"""Errors as values: the table Failure, format 4, which every language reads."""

from __future__ import annotations

import os
import traceback
from typing import Any, Dict, Optional

from maniple import exceptions
from maniple._core import frames, wire

_MAX_TEXT = 64 << 10  # characters of a traceback that are sent, from its end
_MAX_MESSAGE = 1 << 20  # and of an error's text, from its beginning
_MAX_PICKLE = 32 << 20  # bytes of an exception that is sent: an error goes in one message, and never by shared memory


def of_user(error: BaseException, function: str, task: bytes, node: str) -> bytes:
    """The bytes of a Failure for what user code raised; never raises. function: as the traceback names it."""
    if isinstance(error, exceptions.TaskError):  # of a task that this one asked: its cause stays the cause
        facts = exceptions.facts_of(error)
        fields: Dict[str, Any] = {"type": facts.type_name, "message": _sendable(facts.message), "cause": facts.function}
        cause: Optional[BaseException] = facts.cause
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
    return frames.pack("Failure", {"code": code, "type": kind.__name__, "message": _sendable(message[:_MAX_MESSAGE]), "pid": os.getpid(), "task": wire.task_fields(task)})


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as e:
        return f"<its text can't be had: {type(e).__name__}>"
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE]}... ({len(text)} characters)"
    return _sendable(text)


def _sendable(text: str) -> str:
    """The text with half characters, which UTF-8 does not have, spelt out: some come of broken input, and a frame takes none of them."""
    try:
        text.encode("utf-8", "surrogateescape")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _traceback(error: BaseException, function: str) -> str:
    """The traceback without the frames of this package at its top."""
    tb, here = error.__traceback__, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while tb is not None and os.path.abspath(tb.tb_frame.f_code.co_filename).startswith(here + os.sep) and tb.tb_next is not None:
        tb = tb.tb_next
    try:
        lines = traceback.format_exception(type(error), error, tb)
    except Exception as e:  # a broken __str__ or source file
        lines = [f"{type(error).__name__} (its traceback can't be had: {e})"]
    return _sendable("".join(lines)[-_MAX_TEXT:])


def _pickled(error: Optional[BaseException]) -> bytes:
    """The exception in an envelope; empty if it can't be sent."""
    if error is None:
        return b""
    return _whole(error) or _whole(_Apart(error))


def _whole(error: Any) -> bytes:
    from maniple._core import values

    try:
        encoded = values.encode(error)
        if encoded.refs or encoded.size > _MAX_PICKLE:
            return b""
        payload: bytes = encoded.payload
        made = values.load_pickle(payload)  # many exceptions pickle and can't be read back
        return payload if isinstance(made, BaseException) else b""
    except Exception:
        return b""


class _Apart:
    """An exception that pickle can't make again, as one whose __init__ wants other arguments than it has passed on: in its parts, of which
    attributes that can't be sent are left out."""

    def __init__(self, error: BaseException):
        self._error = error

    def __reduce__(self) -> Any:
        error = self._error
        state = {name: value for name, value in vars(error).items() if _can_go(value)}
        return _together, (type(error), error.args, state)


def _can_go(value: Any) -> bool:
    from maniple._core import values

    try:
        encoded = values.encode(value)
        return not encoded.refs and encoded.size <= _MAX_PICKLE >> 4
    except Exception:
        return False


def _together(kind: Any, args: Any, state: Dict[str, Any]) -> BaseException:
    error: BaseException = kind.__new__(kind, *args)
    object.__setattr__(error, "args", args)  # the class may be frozen
    error.__dict__.update(state)
    return error


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
