"""Running one task in a worker: its arguments, the user's code, its results."""

from __future__ import annotations

import atexit
import inspect
import itertools
import os
import resource
import sys
import threading
import time
import traceback
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from maniple import exceptions
from maniple._core import code, failures, values, wire
from maniple._core.arenas import Place
from maniple._core.context import Running, running
from maniple._core.references import ObjectRef
from maniple._flow import Flow
from maniple._prints import speaker
from maniple.actor import CALL, READY, TENSORS, TERMINATE, transport_of
from maniple.remote_function import RETRY_TYPES

_PEAK_AFTER = 1_000_000  # nanoseconds of CPU from which on it is worth asking for the peak of memory
_SHORT = 100_000  # nanoseconds
_pack_result, _pack_ran, _cpu_time, wall = wire.RESULT.pack, wire.RAN.pack, time.thread_time_ns, time.perf_counter_ns
_USERS = (exceptions.TaskError, exceptions.UserCodeException)  # what users' code raised
_METHOD_BITS = (1 << 24) - 1

# What the code that runs here may ask about its actor.
actor_facts: Dict[str, Any] = {}


class TaskInterrupt(KeyboardInterrupt):
    """The task was cancelled. Not an Exception, so that `except Exception` does not swallow it."""


class ActorExit(SystemExit):
    """exit_actor() was called."""


class Job:
    """A task that was given to this worker: a frame, its arguments as bytes, and what came before it.

    frame: a Submit or Call, or the fields of a Create. deps: the values of arguments that are references.
    """

    __slots__ = ("task", "frame", "kind", "format", "payload", "refs", "deps", "dep_keys", "kept", "behind", "cancelled", "started", "interrupt", "wanted", "gate", "returns", "attempt")

    def __init__(self, task: bytes, frame: Any, kind: int, format: int, payload: Any, refs: Sequence[Any], deps: Sequence[Any], dep_keys: Sequence[bytes], behind: bool):
        self.task, self.frame, self.kind, self.format, self.payload, self.refs = task, frame, kind, format, payload, refs
        self.deps, self.dep_keys, self.behind = deps, dep_keys, behind
        self.kept: Sequence[ObjectRef] = ()  # to what of deps lies in shared memory
        self.cancelled = self.started = False
        self.interrupt: Optional[Callable[[], None]] = None  # how to reach its code while it runs
        self.wanted = 0  # a stream: the index below which its reader has taken all
        self.gate: Optional[Flow] = None  # a stream: what its reader has not taken
        self.returns, self.attempt = (1, 0) if type(frame) is dict else (frame.returns, frame.attempt)


class Functions:
    """Code that the agent sent, read at its first use."""

    def __init__(self, captured: Callable[[bytes], ObjectRef]) -> None:
        self._captured = captured
        self._payloads: Dict[int, Tuple[str, bytes, str]] = {}
        self._loaded: Dict[int, Any] = {}

    def add(self, fields: Dict[str, Any], payload: Any) -> None:
        number = int.from_bytes(bytes(fields.get("hash") or b"")[:8], "little")
        self._payloads[number] = fields.get("name") or "", bytes(payload), fields.get("language") or ""

    def name(self, number: int) -> str:
        return self._payloads.get(number, ("", b"", ""))[0]

    def get(self, number: int) -> Any:
        """The function or class. Raises what its imports raise; SystemFault if it was not sent."""
        loaded = self._loaded.get(number)
        if loaded is None:
            if number not in self._payloads:
                raise exceptions.SystemFault(f"the agent did not send the code of function {number:016x}")
            name, payload, language = self._payloads[number]
            if language != "python":
                raise exceptions.SystemFault(f"{name} is of language {language!r}, and this worker runs Python")
            loaded = self._loaded[number] = code.load(payload, self._captured)
        return loaded


class _Clock(threading.local):
    """What CPU time the tasks of this thread take, in nanoseconds.

    Asking the kernel costs a microsecond, so it is asked after a task that took a while; a shorter one counts with the
    time that it took.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._asked, self._since = _cpu_time(), 0

    def spent(self, began: int, read: int) -> "Spent":
        """Of the task that began then, by wall(), and has just ended. read: when it had its arguments."""
        over = wall()
        took = over - began
        if took < _SHORT:
            self._since += took
            return took, began, read, over
        now = _cpu_time()
        spent, self._asked, self._since = now - self._asked - self._since, now, 0
        return max(0, min(spent, took)), began, read, over


_clock = _Clock()


_child = False  # this process was forked by the user's code


def forked() -> None:
    """In a worker that has begun: this thread's time does not begin where its template's was."""
    global _child
    _child = False
    _clock.begin()


def _is_child() -> None:
    global _child
    _child = True


os.register_at_fork(after_in_child=_is_child)


def in_child() -> bool:
    """This process was forked by the user's code, which has not come to its end in it."""
    return _child


def end_child(error: Optional[BaseException]) -> None:
    """Ends a process that the user's code has forked, if this is one, as Python ends a program: it has come to the end of that code, whose results are
    its parent's to send."""
    if not _child:
        return
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    elif error is not None:
        traceback.print_exception(type(error), error, error.__traceback__)
        code = 1
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit((code or 0) & 0xFF)


_STRAY = "a signal's handler raised while nothing of yours ran: {}: {}"

# How a task went: its CPU time; and by wall(), when it began (0: that is not told), had its arguments (0: it has none) and was over.
Spent = Tuple[int, int, int, int]
UNTOLD: Spent = (0, 0, 0, 0)


class Executor:
    """Runs jobs and sends what comes of them. Any thread may run one."""

    def __init__(self, session: Any):
        self.session, self.functions = session, Functions(session.captured)
        self._send, self._results = (None, None) if session.link is None else (session.link.result, session.link.results)
        self._spoken = ""  # whose lines are printed now
        self._told: Optional[Job] = None  # whose last result was sent last
        self.actor: Any = None  # the user's object
        self.actor_task: Optional[bytes] = None
        self.actor_job = 0  # whose the actor is, and all that it makes, be its caller another job's
        self.methods: List[Dict[str, Any]] = []
        self.keeper: Any = None  # of the tensors that its methods leave here, if some do: _device.Keeper
        self._names: Dict[str, str] = {}  # of its methods, in full

    def context(self, job: Job, name: str) -> Running:
        f = job.frame
        if isinstance(f, dict):
            return Running(job.task, f.get("job") or 0, wire.NO_TASK, name, job.task, True)
        shape = self.session.shapes.get(f.shape)
        return Running(job.task, self.actor_job or f.job, f.parent, name, self.actor_task, True, f.attempt, f.trace, f.deadline, shape)

    def arguments(self, job: Job) -> Tuple[Tuple[Any, ...], Dict[str, Any], Any]:
        """args, kwargs, and the types that may be tried again (None: not said). Raises the error of an argument."""
        if job.payload == values.EMPTY and job.format == wire.PICKLE:
            return (), {}, None
        deps, decode = [], values.decode
        for key, dep in zip(job.dep_keys, job.deps):
            if dep is None:
                raise exceptions.SystemFault("the agent did not send the value of an argument")
            if isinstance(dep, BaseException):
                raise dep
            flags, format, refs, payload = dep
            if flags & wire.ERROR:
                raise ArgumentError(payload)
            if flags & wire.LOCATED:
                deps.append(self.session.argument(key))
            else:
                deps.append(decode(format, payload.view() if type(payload) is Place else payload, refs))
        if job.format != wire.PICKLE:
            raise exceptions.SystemFault(f"arguments of format {job.format} are not for Python")
        args, kwargs = values.load_arguments(job.payload, job.refs, deps)
        retry = kwargs.pop(RETRY_TYPES, None)
        return args, kwargs, retry

    def target(self, job: Job) -> Tuple[Callable[..., Any], str]:
        """What to call, and its name."""
        f = job.frame
        if isinstance(f, dict):
            number = f.get("function") or 0
            return self.functions.get(number), self.functions.name(number) + ".__init__"
        if self.actor_task is None:
            return self.functions.get(f.function), self.functions.name(f.function)
        number = f.method & _METHOD_BITS
        if self.actor is None or number >= len(self.methods):
            raise exceptions.SystemFault(f"the actor has no method of number {number}")
        name = self.methods[number]["name"]
        if name in _OWN:
            return (partial(_call, self.actor) if name == CALL else _OWN[name]), name
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = f"{type(self.actor).__qualname__}.{name}"
        return getattr(self.actor, name), known

    # What is sent.

    def result(self, job: Job, index: int, flags: int, encoded: values.Encoded, spent: Spent = UNTOLD) -> None:
        """spent: told with the last one."""
        session, cpu = self.session, spent[0]
        if encoded.refs:
            session.deliver_promised(encoded.refs)
        heads = b"".join([r.binary() + b"\0\0\0\0" for r in encoded.refs]) if encoded.refs else b""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 if cpu > _PEAK_AFTER else 0
        if not heads and self._send is not None and encoded.size <= session.inline_limit:
            self._send(job.task, index, job.attempt, flags, encoded.format, encoded.payload, peak, spent)
        else:
            key = wire.key_of(job.task, index)
            if encoded.size > session.inline_limit and session.shared(encoded) and not flags & wire.ERROR:
                told = wire.RESULT.pack(0, 0, key, job.attempt, flags | wire.LOCATED, encoded.format, 0, 0, peak, cpu)
                session.seal(key, encoded, heads, told, lambda: _ran(job, flags, spent))
            else:
                payload = encoded.payload
                frame = _pack_result(len(heads) + len(payload), 0, key, job.attempt, flags, encoded.format, len(encoded.refs), len(payload), peak, cpu)
                session.send(_ran(job, flags, spent) + frame + heads + payload)
        if flags & wire.LAST:
            self._told = job

    def fail(self, job: Job, error: BaseException, name: str, retry: Any = None, index: int = 0, spent: Spent = UNTOLD) -> None:
        """Sends what went wrong, as the last result; unless that was sent: then a signal's handler has raised behind it."""
        if self._told is job:
            return note(_STRAY.format(type(error).__name__, error))
        flags = wire.LAST | wire.ERROR
        if isinstance(error, ArgumentError):
            payload = bytes(error.payload)
        elif job.cancelled or isinstance(error, TaskInterrupt):
            payload, flags = failures.plain("CANCELLED", f"{name} was cancelled", job.task), flags | wire.FINAL
        elif isinstance(error, exceptions.ManipleError) and not isinstance(error, _USERS) and type(error) is exceptions.BY_CODE.get(error.code):
            payload = failures.plain(error.code, str(error), job.task)
        else:
            payload = failures.of_user(error, name, job.task, self.session.node)
            cause = exceptions.facts_of(error).cause if isinstance(error, exceptions.TaskError) else error
            while isinstance(cause, exceptions.UserCodeException) and cause.__cause__ is not None:
                cause = cause.__cause__
            if retry is not None and not isinstance(cause, tuple(retry)):
                flags |= wire.FINAL
        self.result(job, index, flags, values.Encoded(wire.FAILURE, [], payload), spent)

    def stray(self, job: Optional[Job], error: Exception) -> None:
        """Takes what a signal's handler of the user's raised on the main thread while none of their code ran, as torch's does when a process of a
        DataLoader is killed: the worker lives on. job: the one in hand, which fails if its result was not sent."""
        if job is None or self.session.jobs.get(job.task) is not job:
            return note(_STRAY.format(type(error).__name__, error))
        self.fail(job, error, "the call")
        self.session.ended(job)

    def leave(self, job: Job, name: str, spent: Spent = UNTOLD) -> None:
        """Sends that the actor ended itself in this call, which is not done again."""
        self.session.inbox.put(None)  # before anybody hears of it: what has come is done still, and nothing that comes later
        self.died(job, f"{name} ended its actor, by exit_actor()", spent)
        self.session.connection.flush()  # what is done still may take long

    def died(self, job: Job, why: str, spent: Spent = UNTOLD) -> None:
        payload = failures.plain(exceptions.ActorDiedError.code, why, job.task)
        self.result(job, 0, wire.LAST | wire.ERROR | wire.FINAL, values.Encoded(wire.FAILURE, [], payload), spent)

    def succeed(self, job: Job, value: Any, spent: Spent) -> None:
        """Sends the values that a task returned. Raises TypeError or ValueError if they can't be sent, or are not so many."""
        returns = job.returns
        if returns == 1:
            return self.result(job, 0, wire.LAST, values.NONE if value is None else values.encode(value) if self.keeper is None else self.keep(job, value), spent)
        if returns == 0:
            return self.result(job, 0, wire.LAST, values.Encoded(wire.RAW, [], b""), spent)
        if inspect.isgenerator(value):
            value = list(itertools.islice(value, returns + 1))
            end_child(None)
        if not isinstance(value, (tuple, list)) or len(value) != returns:
            got = len(value) if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
            raise ValueError(f"the task is declared with num_returns={returns} and returned {got}")
        if self.keeper is not None:
            for i, e in enumerate([self.keep(job, v) for v in value]):
                self.result(job, i, wire.LAST if i == returns - 1 else 0, e, spent)
            return
        last = values.encode(value[-1])  # what can't be sent is found before anything is
        if self._results is None or not self._results(job.task, job.attempt, tuple(value)):
            for i, encoded in enumerate([values.encode(v) for v in value[:-1]]):
                self.result(job, i, 0, encoded)
        self.result(job, returns - 1, wire.LAST, last, spent)

    def keep(self, job: Job, value: Any) -> values.Encoded:
        """A value as bytes, without the tensors that stay here."""
        return self.keeper.encode(self.session, job.task, value, transport_of(self.methods[job.frame.method & _METHOD_BITS]))  # type: ignore[no-any-return]

    # Running.

    def run(self, job: Job, guard: Callable[[Optional[Job]], None]) -> None:
        """Runs a job on this thread to its last result. guard: told the job while user code runs, then None."""
        name, retry, began, read, index = "", None, wall(), 0, [0]
        token = None
        try:
            context = self.context(job, "")
            token = running.set(context)
            guard(job)
            try:
                if job.cancelled:  # before the guard was there
                    raise TaskInterrupt
                function, name = self.target(job)
                context.name = name
                if self.actor is None and name is not self._spoken:
                    self._spoken = name
                    speaker.say(spoken(name))
                args, kwargs, retry = self.arguments(job)
                if args or kwargs:
                    read = wall()
                value = function(*args, **kwargs)
                end_child(None)
                if job.returns >= wire.STREAM:
                    self.stream(job, value, index, began, read)
                    return
                if value is not None and inspect.iscoroutine(value):
                    value.close()
                    raise TypeError(f"{name} is async, and this actor was not made as one")
            finally:
                guard(None)
            if job.cancelled:
                if type(value) is values.Encoded and value.room is not None:
                    self.session.slabs.give_back(value.room)
                raise TaskInterrupt
            self.succeed(job, value, _clock.spent(began, read))
        except BaseException as e:  # noqa: B902: SystemExit and KeyboardInterrupt of the user's code are its errors
            end_child(e)
            if isinstance(e, ActorExit):
                self.leave(job, name, _clock.spent(began, read))
                raise
            self.fail(job, e, name or "the task", retry, index[0], _clock.spent(began, read))
        finally:
            if token is not None:
                running.reset(token)
            job.payload, job.refs, job.deps, job.kept = None, (), (), ()
            if self.keeper is not None:
                self.keeper.sent(self.session, job.task)

    def stream(self, job: Job, items: Any, index: List[int], began: int, read: int) -> None:
        """Sends what a generator yields, item by item. index[0]: that of the next one."""
        if job.returns == wire.DYNAMIC:
            refs = [self.session.put(item) for item in items if not _child]
            end_child(None)
            from maniple._core.streams import DynamicObjectRefGenerator

            return self.result(job, 0, wire.LAST, values.encode(DynamicObjectRefGenerator(refs)), _clock.spent(began, read))
        flow = Flow(job, self.session.stream_bytes)
        for item in items:
            if _child:
                continue  # to its end
            if self.item(job, item, index, flow):
                flow.wait(self.session)
            if job.cancelled:
                raise TaskInterrupt
        end_child(None)
        self.result(job, index[0], wire.LAST, values.Encoded(wire.RAW, [], b""), _clock.spent(began, read))

    def item(self, job: Job, item: Any, index: List[int], flow: Flow) -> bool:
        """Sends an item. True: the next one has to wait for the reader."""
        encoded = values.encode(item) if self.keeper is None else self.keep(job, item)
        self.result(job, index[0], 0, encoded)
        index[0] += 1
        if self.keeper is not None:
            self.keeper.sent(self.session, job.task)
        return flow.gave(encoded.size)


def _ran(job: Job, flags: int, spent: Spent) -> bytes:
    """The frame before a last result that tells how the task went."""
    _, began, read, over = spent
    if not began or not flags & wire.LAST:
        return b""
    took = wall() - began
    return _pack_ran(0, 0, job.task, time.time_ns() - took, read - began if read else 0, over - began, took, int(bool(flags & wire.ERROR)))


class ArgumentError(Exception):
    """An argument's task failed; payload: its Failure, which becomes that of this task."""

    def __init__(self, payload: Any):
        super().__init__("an argument is an error")
        self.payload = payload


def spoken(name: str) -> str:
    """The name by which a function or class is known where it prints: the last of its parts."""
    return name[: -len(".__init__")].rpartition(".")[2] if name.endswith(".__init__") else name.rpartition(".")[2]


def _nothing() -> None:
    """What __ray_ready__ does."""


def _terminate() -> None:
    raise ActorExit


def _call(actor: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(actor, *args, **kwargs)


def _give(key: bytes, ways: List[Any]) -> Any:
    from maniple._device import give

    return give(key, ways)


_OWN: Dict[str, Callable[..., Any]] = {READY: _nothing, TERMINATE: _terminate, CALL: _call, TENSORS: _give}  # methods of actors that are not the user's


def own_handle(session: Any) -> Any:
    """A handle to the actor that this worker is."""
    from maniple.actor import ActorHandle, _unspell

    executor = session.executor
    ref = ObjectRef(wire.key_of(executor.actor_task, 0))  # not counted: an actor does not keep itself alive
    methods = tuple({**_unspell(m["name"]), "generator": m["generator"], "options": m["options"]} for m in executor.methods)
    facts = actor_facts
    return ActorHandle(ref, facts["function"], facts["class"], methods, tuple(g.get("name") for g in facts.get("groups") or ()), facts.get("max_pending", -1), facts.get("max_task_retries", 0))


def note(text: str) -> None:
    """A line of ours among the worker's own."""
    sys.stderr.write(f"maniple: {text}\n")
