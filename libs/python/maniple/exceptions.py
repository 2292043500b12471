"""Errors of tasks, actors and objects, under Ray's names and without the brand.

``get`` raises what the user's code raised, as an instance of both `TaskError` and the user's type. All else
says which task, node or object, and what to do.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Dict, NamedTuple, Optional, Type


class ManipleError(Exception):
    """Whatever the runtime has to say. `code`: its stable name, as in docs/spec/errors.md."""

    code = "MANIPLE"


class Facts(NamedTuple):
    """What is known of a TaskError."""

    function: str
    traceback_str: str
    cause: Optional[BaseException]
    type_name: str
    message: str
    node: str
    pid: int


def facts_of(error: "TaskError") -> Facts:
    return error.__dict__.get("_maniple_facts") or Facts("", "", None, "", "", "", 0)  # a class that inherits from it may not have called its __init__


class TaskError(ManipleError):
    """User code raised. `cause` is what it raised, None if that could not be sent. If that is an Exception, this is one of its type, too.

    function, traceback_str, node, pid: where and how. type_name and message: of the cause, in words. Where the cause has fields of
    these names they are the cause's.
    """

    code = "USER"

    def __init__(self, function: str = "", traceback: str = "", cause: Optional[BaseException] = None, type_name: str = "", message: str = "", node: str = "", pid: int = 0):
        facts = Facts(function, traceback, cause, type_name, message, node, pid)
        # Past what the user's class makes of attributes: it may be frozen, or have a property of one of these names.
        self.__dict__.update(facts._asdict(), _maniple_facts=facts)
        Exception.__init__(self, message)  # not super(): the user's class has arguments of its own

    def __str__(self) -> str:
        f = facts_of(self)
        where = f" (pid={f.pid}, node={f.node})" if f.pid else ""
        text = f"{f.function}{where}" if f.function else f"a task{where}"
        return f"{text} raised {f.type_name}: {f.message}\n{f.traceback_str}".rstrip()

    def __reduce__(self) -> Any:
        return _rebuild, tuple(facts_of(self))

    def as_instanceof_cause(self) -> "TaskError":
        """This error as an instance of the cause's type too, if that type can be inherited from.

        Not of what is no Exception: a SystemExit of a task would end who gets it without a word, and an asyncio.CancelledError cancel it.
        """
        if not isinstance(self.cause, Exception) or isinstance(self, type(self.cause)):
            return self
        kind = _dual(type(self.cause))
        if kind is None:
            return self
        try:
            both = _new(kind, self.cause.args)
            TaskError.__init__(both, *facts_of(self))
            _copy_fields(self.cause, both)  # whose names win: who catches it by the user's type reads the user's fields
            object.__setattr__(both, "args", self.cause.args)
            object.__setattr__(both, "__cause__", self.cause)
        except Exception:  # whatever the user's class does when it is made, or given attributes
            return self
        return both

    @property
    def proctitle(self) -> str:
        return facts_of(self).function


def _copy_fields(source: BaseException, target: BaseException) -> None:
    """What __init__ of the source's class has set: attributes, slots, and the fields of built-in errors."""
    target.__dict__.update(getattr(source, "__dict__", {}))
    for kind in type(source).__mro__[:-1]:
        for name, field in vars(kind).items():
            if type(field) in (MemberDescriptorType, GetSetDescriptorType) and not name.startswith("__"):
                try:
                    object.__setattr__(target, name, getattr(source, name))
                except (AttributeError, TypeError):  # not set, or not to be set
                    pass


def _new(kind: Type[TaskError], args: Any) -> TaskError:
    """An instance without its __init__: __new__ may want what the cause was made with (ExceptionGroup), or be another base's (MemoryError)."""
    for make in (lambda: kind.__new__(kind, *args), lambda: kind.__new__(kind)):
        try:
            return make()
        except TypeError:
            pass
    return BaseException.__new__(kind, *args)


_duals: Dict[type, Optional[Type[TaskError]]] = {}


def _dual(cause: type) -> Optional[Type[TaskError]]:
    """A class that is a TaskError and a cause; None if Python can't make one."""
    if cause not in _duals:
        name = f"TaskError({cause.__name__})"
        fields: Dict[str, Any] = {"__init__": TaskError.__init__, "__str__": TaskError.__str__, "__reduce__": TaskError.__reduce__, "__module__": __name__}
        try:
            made: Any = type(name, (TaskError, cause), fields)
        except Exception:  # a layout conflict, a final class, or a metaclass of its own
            made = None
        _duals[cause] = made
    return _duals[cause]


def _rebuild(*args: Any) -> TaskError:
    return TaskError(*args).as_instanceof_cause()


class UserCodeException(ManipleError):
    """A library raises it for what users' code that it calls has raised, which is its __cause__: retry_exceptions looks at that."""

    code = "USER_CODE"


class TaskCancelledError(ManipleError):
    """The task was cancelled; it is not tried again."""

    code = "CANCELLED"


class WorkerCrashedError(ManipleError):
    """The process that ran the task died, and the task's retries are used up."""

    code = "WORKER_DIED"


class ActorError(ManipleError):
    """An actor could not do the call. `actor_id`: hexadecimal, or None."""

    code = "ACTOR"
    actor_id: Optional[str] = None


class ActorDiedError(ActorError):
    """The actor is dead for good."""

    code = "ACTOR_DIED"


class ActorUnavailableError(ActorError):
    """The actor can't be reached now and may come back. The call may have run."""

    code = "ACTOR_UNAVAILABLE"


class SystemFault(ManipleError):
    """The runtime itself failed."""

    code = "SYSTEM"


class LocalAgentDiedError(SystemFault):
    """The node's agent is gone, and with it what this process owned there."""

    code = "AGENT_DIED"


class NodeDiedError(ManipleError):
    """The node died."""

    code = "NODE_DIED"


class ObjectLostError(ManipleError):
    """The object's value is gone everywhere and can't be made again."""

    code = "OBJECT_LOST"


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be brought here in time. Nothing raises it here: who waits says for how long, and gets GetTimeoutError."""

    code = "OBJECT_TIMEOUT"


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand. Nothing raises it here, where objects are freed by nobody's hand."""

    code = "OBJECT_FREED"


class OwnerDiedError(ObjectLostError):
    """The node that owned the object, where it was put or its task was submitted, died: the text says which. A worker that dies takes along nothing that it has put."""

    code = "OWNER_DIED"


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and the task that makes it can't run again."""

    code = "RECONSTRUCTION"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was released though somebody holds it. Nothing raises it here: it is there for programs that name it."""

    code = "REFERENCES"


class ObjectStoreFullError(ManipleError):
    """There is no room for the object; says who holds what."""

    code = "STORE_FULL"


class OutOfDiskError(ManipleError):
    """There is no room on disk either."""

    code = "DISK_FULL"


class OutOfMemoryError(ManipleError):
    """The task's process was ended because the node ran out of memory."""

    code = "OUT_OF_MEMORY"


class GetTimeoutError(ManipleError, TimeoutError):
    """The value was not there in time."""

    code = "TIMEOUT"


class PlasmaObjectNotAvailable(ManipleError):
    """Programs of Ray's catch it beside GetTimeoutError. Nothing here raises it."""

    code = "NOT_AVAILABLE"


class ObjectRefStreamEndOfStreamError(ManipleError):
    """Programs of Ray's catch it. A stream that is read to its end raises StopIteration, here as there."""

    code = "END_OF_STREAM"


class RuntimeEnvSetupError(ManipleError):
    """The environment of a task or an actor could not be made."""

    code = "ENVIRONMENT"


class TaskPlacementGroupRemoved(ManipleError):
    """The group that the task was to run in is gone."""

    code = "TASK_GROUP_REMOVED"


class ActorPlacementGroupRemoved(ActorDiedError):
    """The group that the actor lived in is gone."""

    code = "ACTOR_GROUP_REMOVED"


class PendingCallsLimitExceeded(ManipleError):
    """More calls wait at the actor than its max_pending_calls."""

    code = "PENDING_CALLS"


class TaskUnschedulableError(ManipleError):
    """The task can never run: no node may take it."""

    code = "TASK_UNSCHEDULABLE"


class ActorUnschedulableError(ManipleError):
    """The actor can never live anywhere."""

    code = "ACTOR_UNSCHEDULABLE"


class DeadlockError(ManipleError):
    """What would have to end before it can start waits for it; names the chain."""

    code = "DEADLOCK"


class ActorAlreadyExistsError(ValueError, ManipleError):
    """An actor of that name lives."""

    code = "NAME_TAKEN"


class ActorHandleNotFoundError(ValueError, ManipleError):
    """The handle is of another session: of one before a shutdown or a fork."""

    code = "NO_ACTOR"


class OutOfBandObjectRefSerializationException(ManipleError):
    """A reference was pickled where nobody counts it."""

    code = "REFERENCE_PICKLED"


class UnserializableException(ManipleError):
    """The error that user code raised could not be read back here; the text is its traceback."""

    code = "UNREADABLE"


class AsyncioActorExit(ManipleError):
    """Raised inside an async actor by exit_actor()."""

    code = "ACTOR_EXIT"


class CrossLanguageError(TaskError):
    """User code in another language raised."""


def _all(base: Type[ManipleError]) -> "list[Type[ManipleError]]":
    found = [base]
    for sub in base.__subclasses__():
        found += _all(sub)
    return found


BY_CODE: Dict[str, Type[ManipleError]] = {kind.code: kind for kind in reversed(_all(ManipleError))}

# Ray's spelling.
RayError, RayTaskError, RayActorError, RaySystemError = ManipleError, TaskError, ActorError, SystemFault
LocalRayletDiedError, OufOfBandObjectRefSerializationException = LocalAgentDiedError, OutOfBandObjectRefSerializationException

__all__ = [k for k, v in list(globals().items()) if isinstance(v, type) and issubclass(v, BaseException)]
