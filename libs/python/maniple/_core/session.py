"""This process as its agent knows it: what it has said, what it holds, what it waits for."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple
from weakref import WeakValueDictionary

from maniple import _options, exceptions, runtime_env
from maniple._packages import Packages
from maniple._core import dial, twin, wire
from maniple._core.arenas import Arenas
from maniple._core.context import running
from maniple._core.fold import Fold
from maniple._core.giving import Giving
from maniple._core.hearing import Hearing, Seen
from maniple._core.patience import acquire
from maniple._core.references import ObjectRef
from maniple._core.slabs import Slabs, forget
from maniple._core.table import PENDING
from maniple._core.wire import NO_TASK, PICKLE, key_of
from maniple._core.waiting import Waiting

_LAST_LINES = 0.5  # seconds that the last lines of workers have to come
_MOST_SHAPES = 65_000  # at a time: the agent takes 65,536
MAKING = 1000  # values that are made for the cache at a time, with the questions that may become such: the agent ends who is to make 1,024 and asks on
_KEPT_SHAPES = 4096  # that were asked for last stay said, though nobody has their numbers
_pack_submit, _pack_call, _pack_release = wire.SUBMIT.pack, wire.CALL.pack, wire.RELEASE.pack


class Shape:
    """A shape that was said. Its number may be named to the agent as long as somebody has this. over: the numbers of those that nobody has."""

    __slots__ = ("number", "_over", "__weakref__")

    def __init__(self, number: int, over: List[int]):
        self.number, self._over = number, over

    def __del__(self) -> None:
        try:
            self._over.append(self.number)  # PY-2
        except AttributeError:  # a KeyboardInterrupt in __init__
            pass


class Session(Giving, Hearing, Waiting):
    """An attachment to an agent.

    sock, attached: from dial. Any thread may call; frames are handled on the connection's reader thread,
    with the table's lock held.
    """

    def __init__(self, sock: Any, attached: Dict[str, Any], kind: int, path: str = ""):
        self.agent, self.process, self.node = attached["agent"], attached["process"], attached.get("node") or ""
        self.cluster, self.job = attached.get("cluster") or "", attached.get("job") or 0
        self.inline_limit = attached.get("inline_limit") or 100 << 10
        self.stream_bytes = attached.get("stream_bytes") or 0  # that a generator here may be ahead of who reads it
        self.kind, self.path, self.namespace = kind, path, ""
        self.strict = kind != dial.WORKER  # all references here are counted: those that are not are of the worker that this process was forked from
        self.runtime_env: Optional[Dict[str, Any]] = None  # settled
        self.packages = Packages(attached.get("packages") or "")
        self.arenas = Arenas()
        self.seen: Dict[bytes, Seen] = {}
        self.wanted: List[Sequence[bytes]] = []
        self.link, self.table, self.held, self.credits, self.connection, self.mint = twin.parts(sock, attached, kind == dial.WORKER, self._batch, self._closed, self._release_dropped)
        self.streams: Dict[bytes, Any] = {}  # by task
        self.watching: Dict[bytes, List[Callable[[str, Dict[str, Any]], None]]] = {}  # groups and actors, by ID
        self.promises: Dict[bytes, Callable[[], None]] = {}  # objects that only this process knows of, by key
        self.cached: Dict[bytes, bytes] = {}  # objects, by the keys that the node's cache has for them; some are not held any more
        self.places: "SimpleQueue[None]" = SimpleQueue()  # those that are free among so many
        for _ in range(MAKING):
            self.places.put(None)
        self.sequences: Dict[bytes, Tuple[int, Iterator[int]]] = {}  # of calls, by actor: incarnation, the numbers to come
        self.on_end: Optional[Callable[[str], None]] = None
        self.on_alone: Callable[[bytes], None] = lambda key: None  # told of what this process asked for with WANT_ALONE
        self._entries = self.table.entries
        self._corr = itertools.count(1).__next__
        self._answers: Dict[int, List[Any]] = {}
        self._many: Dict[bytes, int] = {}  # tasks with several results, and how many
        self._shapes: "WeakValueDictionary[str, Shape]" = WeakValueDictionary()  # those that were said
        self._numbers = itertools.count(1).__next__
        self._recent: Deque[Shape] = deque(maxlen=_KEPT_SHAPES)
        self._over: List[int] = []  # numbers that nobody has any more, and of which the agent is not told yet
        self._said: Set[Any] = set()  # code and methods of classes that were sent
        self.prints = Fold()  # what workers print
        self._later: List[Callable[[], None]] = []  # to be done by the reader without the lock
        self._dropped: List[bytes] = []  # references that went, of which the agent has to hear
        self._ended: Optional[str] = None
        # None: there is no shared memory, and all values go inside frames.
        self.slabs = Slabs(self.connection.enqueue, self.connection.flush, self.pause) if attached.get("store") else None

    def start(self) -> None:
        self.connection.start()

    # What is sent.

    def submit(self, code: Any, shape: int, returns: int, args: Tuple[Any, ...], kwargs: Dict[str, Any], head: bytes = b"") -> Any:
        """Sends a task; gives its references: one, a list, None, or a stream's generator. Waits only for credit. head: see there."""
        kept: List[ObjectRef] = []
        deps, refs, payload = self.arguments(args, kwargs, code.pinned, kept)
        parent = running.get()
        up, job, deadline, trace = (NO_TASK, self.job, 0, 0) if parent is None else (parent.task, parent.job, parent.deadline, parent.trace)
        if head:  # the extension writes ID and length into it
            if parent is not None or deps or refs:
                head = _pack_submit(0, 0, NO_TASK, up, code.number, job, 0, deadline, trace, shape, 1, deps, refs, PICKLE)
            made = self.link.submit(head, payload)
            if made is not None:
                return made
        task = self.mint()
        frame = _pack_submit(len(payload), 0, task, up, code.number, job, 0, deadline, trace, shape, returns, deps, refs, PICKLE)
        self.spend(len(payload))
        made = self.expect(task, returns)
        self.connection.send(frame + payload)
        return made

    def fulfil(self, key: bytes, code: Any, shape: int, args: Tuple[Any, ...]) -> None:
        """Keeps a promise by the task that gives the object."""
        kept: List[ObjectRef] = []
        deps, refs, payload = self.arguments(args, {}, code.pinned, kept)
        parent = running.get()
        up, job, deadline, trace = (NO_TASK, self.job, 0, 0) if parent is None else (parent.task, parent.job, parent.deadline, parent.trace)
        self.spend(len(payload))
        self.keep_promise(key, _pack_submit(len(payload), 0, key[: wire.TASK_SIZE], up, code.number, job, 0, deadline, trace, shape, 1, deps, refs, PICKLE) + payload, len(payload))

    def head(self, code: Any, shape: int, returns: int) -> bytes:
        """The frame of a task without parent and references, for the extension to copy; empty if that can't send it."""
        if self.link is None or returns != 1:
            return b""
        return _pack_submit(0, 0, NO_TASK, NO_TASK, code.number, self.job, 0, 0, 0, shape, 1, 0, 0, PICKLE)

    def call(self, actor: bytes, method: int, shape: int, returns: int, args: Tuple[Any, ...], kwargs: Dict[str, Any], head: bytes = b"") -> Any:
        """Sends a call of an actor's method; otherwise as submit. head: see call_head."""
        kept: List[ObjectRef] = []
        deps, refs, payload = self.arguments(args, kwargs, (), kept)
        parent, link = running.get(), self.link
        up, job, deadline, trace = (NO_TASK, self.job, 0, 0) if parent is None else (parent.task, parent.job, parent.deadline, parent.trace)
        if returns == 1 and link is not None:
            if not head or parent is not None or deps or refs:
                head = _pack_call(0, 0, NO_TASK, up, actor, 0, job, 0, deadline, trace, method, 0, 1, deps, refs, shape, PICKLE)
            made = link.call(head, payload, *self._sequence(actor))
            if made is not None:
                return made
        task = self.mint()
        self.spend(len(payload))
        made = self.expect(task, returns)
        incarnation, numbers = self._sequence(actor)
        self.connection.send(_pack_call(len(payload), 0, task, up, actor, next(numbers), job, 0, deadline, trace, method, incarnation, returns, deps, refs, shape, PICKLE) + payload)
        return made

    def _sequence(self, actor: bytes) -> Tuple[int, Iterator[int]]:
        return self.sequences.get(actor) or self.sequences.setdefault(actor, (0, itertools.count(1)))

    def call_head(self, actor: bytes, method: int, shape: int, returns: int) -> bytes:
        """As head, of calls of a method."""
        if self.link is None or returns != 1:
            return b""
        return _pack_call(0, 0, NO_TASK, NO_TASK, actor, 0, self.job, 0, 0, 0, method, 0, 1, 0, 0, shape, PICKLE)

    def create(self, actor: bytes, code: Any, fields: Dict[str, Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> ObjectRef:
        """Asks for an actor; fields: of its Create but for arguments. The reference is to its being: when all such are gone, so is the actor."""
        kept: List[ObjectRef] = []
        deps, refs, payload = self.arguments(args, kwargs, code.pinned, kept)
        parent = running.get()
        fields = {**fields, "actor": wire.task_fields(actor), "deps": deps, "refs": refs, "job": parent.job if parent else self.job, "format": PICKLE}
        if parent:
            fields["parent"] = wire.task_fields(parent.task)
        frame = wire.table("Create", fields, payload)
        self.spend(len(payload))
        ref = self.expect(actor, 1)
        self.connection.send(frame)
        return ref

    def spend(self, size: int) -> None:
        if self.table.closed:
            raise self.table.closed
        self.credits.spend(size, self._wait_for_credit)
        if self.table.closed:
            raise self.table.closed

    def _wait_for_credit(self, gate: threading.Lock) -> None:
        self.idle(partial(acquire, gate))

    def idle(self, wait: Callable[..., bool], *args: Any) -> bool:
        """pause(wait, *args); a task frees its CPU meanwhile: those that would end that, as by giving credit back, may need it."""
        task = running.get()
        told = task is not None and task.blocks
        try:
            if told:
                assert task is not None
                self.connection.send(wire.BLOCKED.pack(0, 0, task.task))
            self.connection.flush()
            return self.pause(wait, *args)
        finally:
            if told:
                assert task is not None
                self.connection.send(wire.UNBLOCKED.pack(0, 0, task.task))

    def expect(self, task: bytes, returns: int) -> Any:
        """Makes the entries for what a task will give, and the references to it."""
        entries, made = self._entries, self.held.made
        if returns == 1 or returns == wire.DYNAMIC:
            key = task + b"\0\0\0\0"
            entries[key] = PENDING
            return made(key)
        if returns & wire.STREAM:
            from maniple._core.streams import open_stream

            return open_stream(self, task, returns & ~wire.STREAM)
        if returns == 0:
            return None
        self._many[task] = returns
        if self.link is not None:
            return self.link.expect(task, returns)
        keys = [key_of(task, i) for i in range(returns)]
        for key in keys:
            entries[key] = PENDING
        return [made(key) for key in keys]

    def shape(self, fields: Dict[str, Any]) -> Shape:
        """A shape, said to the agent if it is new. It is to be kept until no more frames name its number. fields: of Shape but for the number."""
        name = repr(sorted(fields.items()))
        shape = self._shapes.get(name)
        if shape is None:
            shape = self._say_shape(fields)
            self._shapes[name] = shape  # now others may use it; what comes between says it once more, by a number of its own
        self._recent.append(shape)
        return shape

    def _say_shape(self, fields: Dict[str, Any]) -> Shape:
        while self._over:
            try:
                number = self._over.pop()
            except IndexError:  # a thread or a handler has told of it
                break
            self.connection.send(wire.table("Shape", {"number": number, "over": True}))
        if len(self._shapes) >= _MOST_SHAPES:
            raise ValueError(f"this process has remote functions and methods with {_MOST_SHAPES} combinations of options: a name for each belongs into its arguments")
        number = self._numbers()  # nobody else's, be it that what follows raises or is interrupted
        self.connection.send(wire.table("Shape", {**fields, "number": number}))
        return Shape(number, self._over)

    def environment(self, own: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """The runtime_env of what is started here with one of its own over that of this process. Raises what Packages.settle raises."""
        return _options.environment_of(self.runtime_env, self.packages.settle(runtime_env.plain(own or {})))

    def define(self, code: Any) -> int:
        """The number of a function or class, whose code is sent if it is new."""
        if code.hash not in self._said:
            self.connection.send(wire.table("Function", code.fields(), code.payload))
            self._said.add(code.hash)
        return int(code.number)

    def define_methods(self, function: int, names: Sequence[str]) -> None:
        """Says the numbers of a class's methods, if it is new."""
        if ("methods", function) not in self._said:
            self.connection.send(wire.table("Methods", {"function": function, "names": list(names)}))
            self._said.add(("methods", function))

    def send(self, frame: bytes) -> None:
        self.connection.send(frame)

    def _release_dropped(self) -> None:
        """On a thread of the connection's own. In Python alone that is the one that writes, for which somebody may wait who has the lock."""
        self._dropped += self.held.take_dropped()
        if self._dropped and self.table.lock.acquire(self.link is not None):
            try:
                self.held.gather_locked()
                keys, self._dropped = self._dropped, []
                self._release_locked(keys)
            finally:
                self.table.lock.release()

    def _release_locked(self, keys: List[bytes]) -> None:
        held = self.held
        out: List[bytes] = []
        recalled: List[bytes] = []  # views of what the agent asked for
        size, drop, forget, sequences, seen = wire.KEY_SIZE, held.drop_locked, self._entries.pop, self.sequences, self.seen
        for key in self.table.release_locked(keys, held, self.promises, seen, sequences):
            if len(key) != size:
                from maniple._core.streams import drop_locked

                drop_locked(self, key, out)
                continue
            deliveries = drop(key)
            if deliveries >= 0:
                forget(key, None)
                seen.pop(key, None)
                if sequences:
                    sequences.pop(key[: wire.TASK_SIZE], None)  # if it was an actor
                if not (self.promises and self.promises.pop(key, None)):
                    out.append(_pack_release(0, 0, key, deliveries))
            elif seen and key in seen and seen[key].recalled:
                recalled.append(key)
        for key in recalled:
            self.leave_locked(key)
        if out:
            self.connection.enqueue(b"".join(out))

    # Questions.

    def query(self, what: str, id: str = "", timeout: Optional[float] = 30.0) -> Dict[str, Any]:
        """Asks the agent for state (docs/spec/state.md). timeout: seconds, None for ever. Raises ValueError with the agent's error."""
        import json

        corr, answer = self._corr(), [self.table.gate()]
        self._answers[corr] = answer
        try:
            if self.table.closed:
                raise self.table.closed
            self.connection.send(wire.table("StateQuery", {"what": what, "id": id}, corr=corr))
            self.connection.flush()
            if not self.pause(answer[0].wait, timeout):
                raise exceptions.GetTimeoutError(f"the agent did not answer what {what} {id} is within {timeout} s")
        finally:
            self._answers.pop(corr, None)
        if len(answer) == 1:
            raise self.table.closed or exceptions.SystemFault("the connection ended")
        if answer[1].get("error"):
            raise ValueError(answer[1]["error"])
        try:
            reply = json.loads(answer[2])
        except ValueError as e:
            raise exceptions.SystemFault(f"the agent's answer to {what} can't be read: {e}") from e
        if not isinstance(reply, dict):
            raise exceptions.SystemFault(f"the agent's answer to {what} is no object")
        return reply

    # The end.

    def _closed(self, why: str) -> None:
        why = self._ended or why
        if not self.table.closed:
            self.table.close(exceptions.LocalAgentDiedError(f"node {self.node} does not answer any more: {why}"))
        self.credits.close()
        if self.slabs is not None:
            self.slabs.close(self.table.closed or exceptions.SystemFault(why))
        for answer in list(self._answers.values()):
            answer[0].open()
        if self.on_end:
            self.on_end(why)

    def _hear_last(self) -> None:
        """Waits for the last of what workers print: then the agent closes the connection."""
        if self.kind != dial.DRIVER or not self.prints.shown:
            return
        end = monotonic() + _LAST_LINES
        while not self.table.closed and monotonic() < end:
            sleep(0.002)

    def close(self, reason: str = "shutdown() was called") -> None:
        """Flushes, says goodbye, and ends the connection; who still waits gets an error."""
        if not self.table.closed:
            try:
                if self.slabs is not None:
                    self.slabs.leave()
                self.connection.send(wire.table("Goodbye", {"reason": reason}))
                self.connection.flush()
                self._hear_last()
            except (OSError, ValueError):  # gone already
                pass
        self.table.close(exceptions.SystemFault(f"maniple is not connected any more: {reason}; call maniple.init()"))
        self.connection.close()
        self.prints.close()
        self.arenas.forget()
        self.seen.clear()


_session: Optional[Session] = None
_forked_from: Optional[Tuple[str, int, str, Optional[Dict[str, Any]]]] = None  # address, job, namespace and runtime_env of the process that forked


def current() -> Session:
    """The session of this process; connects if there is none (PY-3)."""
    if _session is not None:
        return _session
    from maniple import _init

    return _init.connect_first()


def attached() -> Optional[Session]:
    """The session of this process, or None."""
    return _session


def set_current(session: Optional[Session]) -> None:
    global _session
    _session = session


def forked_from() -> "Optional[Tuple[str, int, str, Optional[Dict[str, Any]]]]":
    return _forked_from


def portable(options: Dict[str, Any]) -> Dict[str, Any]:
    """Options as other processes can use them: with packages in place of this one's paths."""
    own = options.get("runtime_env")
    if not own or _session is None:
        return options
    return {**options, "runtime_env": _session.packages.settle(runtime_env.plain(own))}


def _forked() -> None:
    """In the child: forgets the session, whose threads and locks are the parent's."""
    global _session, _forked_from
    running.set(None)  # the task runs in the parent
    if _session is not None:
        _forked_from = _session.path, _session.job, _session.namespace, _session.runtime_env
        _session.connection.forget()
        if _session.slabs is not None:
            forget(_session.slabs)
        _session = None


os.register_at_fork(after_in_child=_forked)
