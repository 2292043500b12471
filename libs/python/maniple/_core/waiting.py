"""Waiting for objects: get, wait, futures and coroutines."""

from __future__ import annotations

import sys
import threading
from functools import partial
from time import monotonic
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from maniple import exceptions
from maniple._core import failures, values, wire
from maniple._core.arenas import Left, Place
from maniple._core.context import Running, running
from maniple._core.references import Held, ObjectRef
from maniple._core.table import ASKED, BRINGING, CHECKED, COMING, FETCHING, PENDING, READY, REMOTE, Callback, Gate, State, Table, Value, is_ready


# What of the states of an object has to be asked about, and the state that it has then.
_CHECK = {REMOTE: CHECKED}
_BRING = {REMOTE: COMING, CHECKED: COMING, READY: BRINGING}

_MAX_NAMED = 256  # objects that the agent is told a task waits for


class Waiting:
    """The part of a session that waits. A session has table, connection and inline_limit."""

    table: Table
    connection: Any
    inline_limit: int
    seen: Dict[bytes, Any]
    wanted: List[Sequence[bytes]]
    leave_locked: Callable[[bytes], bool]
    held: Held
    _futures: Optional[Any] = None

    def get(self, refs: Sequence[ObjectRef], timeout: Optional[float] = None) -> List[Any]:
        """The values in order; raises the first error there is. timeout: seconds, None for ever."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            got = self.table.fetch(refs)
            if got is None:
                break
            if type(got) is list:
                return got
            if not (deadline is None and got.direct()) and not self._block(got, deadline, refs, len(refs)):
                raise self._late(timeout, [ref._key for ref in refs])
        self.refuse_foreign(refs)
        keys = [ref._key for ref in refs]
        self.wanted.append(keys)
        try:
            while True:
                missing = self._ask(keys)
                if missing:
                    self._wait_for(missing, deadline, timeout)
                    continue
                got = self._values(keys)
                if got is not None:
                    return got
        finally:
            self._unwanted(keys)

    def _values(self, keys: Sequence[bytes]) -> Optional[List[Any]]:
        """The values of objects that are all here; raises the first error. None: one of them was read by another meanwhile, and has to be asked for again."""
        found = list(map(self.table.entries.get, keys))  # all before any is read: that takes a large one out of the table
        if any(type(entry) is State for entry in found):
            return None
        found.reverse()
        return [self._read(key, found.pop()) for key in keys]

    def refuse_foreign(self, refs: Sequence[Any], strict: bool = False) -> None:
        """Raises ObjectLostError if one of these is of another session, where its ID may be another object's. strict: or of none."""
        ref = self.held.foreign(refs, strict)
        if ref is not None:
            raise _foreign(f"the reference to object {ref.hex()}")

    def refuse_foreign_stream(self, stream: Any) -> None:
        """The same with a generator."""
        if stream._session is not self:
            raise _foreign(f"the generator of task {stream.task_id()}")

    def raw(self, key: bytes, deadline: Optional[float] = None, timeout: Optional[float] = None) -> Tuple[int, Any]:
        """Format and bytes of an object's value, which are good as long as they are viewed. Raises its error."""
        keys = [key]
        self.wanted.append(keys)
        try:
            while True:
                missing = self._ask(keys)
                if missing:
                    self._wait_for(missing, deadline, timeout)
                    continue
                entry = self.table.entries.get(key)
                if type(entry) is not State:  # else another has read it meanwhile
                    break
            if type(entry) is not Value or entry.flags & wire.ERROR:
                self._read(key, entry)
                raise exceptions.SystemFault(f"of object {key.hex()} there are no bytes")
            return entry.format, entry.payload.view() if type(entry.payload) is Place else memoryview(entry.payload)
        finally:
            self._unwanted(keys)

    def _unwanted(self, keys: Sequence[bytes]) -> None:
        """Nobody who got these waits for them any more; what the agent asked for meanwhile it may have."""
        self.wanted.remove(keys)
        if self.seen:
            with self.table.lock:
                for key in keys:
                    if key in self.seen:
                        self.leave_locked(key)

    def _ask(self, keys: Sequence[bytes]) -> List[bytes]:
        """Asks for what nobody asked for yet. The keys whose values are not here, each once; none if one of those here is an error."""
        entries = self.table.entries
        missing: List[bytes] = []
        failed: Optional[Tuple[bytes, Any]] = None
        for key in keys:
            entry = entries.get(key)
            if type(entry) is State:
                missing.append(key)
            elif entry is None:
                raise _not_held(key)
            elif failed is None and _failed(entry):
                failed = key, entry
        if not missing:
            return missing
        if failed is not None:
            self._read(*failed)
        missing = list(dict.fromkeys(missing))
        frames = []
        with self.table.lock:
            for key in missing:
                entry = entries.get(key)
                if entry not in (ASKED, FETCHING) and type(entry) is State and entry is not PENDING:
                    entries[key] = FETCHING if is_ready(entry) else ASKED
                    frames.append(wire.GET.pack(0, 0, key, 0, wire.WANT_VALUE))
        for frame in frames:
            self.connection.send(frame)
        return missing

    def _wait_for(self, keys: List[bytes], deadline: Optional[float], timeout: Optional[float]) -> None:
        """Waits until all keys have values, or one an error."""
        gate, entries = Gate(0, early=True), self.table.entries
        with self.table.lock:
            self._check_open()
            still = [key for key in keys if type(entries.get(key)) is State]
            if len(still) < len(keys) and any(_failed(entries.get(key)) for key in keys):
                return
            gate.missing = len(still)
            self.table.register_locked(gate, still)
        if not still:
            return
        if not self._block(gate, deadline, still, len(still)):
            raise self._late(timeout, keys)

    def _late(self, timeout: Optional[float], keys: Sequence[bytes]) -> BaseException:
        still = [key for key in keys if type(self.table.entries.get(key)) is State]
        names = ", ".join(key.hex() for key in still[:3])
        return exceptions.GetTimeoutError(f"after {timeout} s {len(still)} of {len(keys)} objects are not there: {names}{', ...' if len(still) > 3 else ''}")

    def _block(self, gate: Any, deadline: Optional[float], keys: Sequence[Any], need: int) -> bool:
        """Waits at a gate until need of the keys, or references, are there, having told the agent if a task waits here. False: the time is over."""
        task, opened = running.get(), False
        told = task is not None and task.blocks
        if task is not None and not told:
            _warn_once(f"get() and wait() in the async method {task.name} stop all other calls of its actor: await the reference instead")
        try:
            if told:
                assert task is not None
                self.connection.send(self._blocked(task, deadline, keys, need))
            self.connection.flush()
            opened = self.pause(gate.wait, None if deadline is None else deadline - monotonic())
        finally:
            if told:
                assert task is not None
                self.connection.send(wire.UNBLOCKED.pack(0, 0, task.task))
            if not opened or gate.missing > 0:
                self.table.unregister(gate, keys)
        if opened and self.table.closed:
            raise self.table.closed
        return opened

    def pause(self, wait: Callable[..., bool], *args: Any) -> bool:
        """wait(*args), as of a gate. Whatever holds the table's lock below a signal's handler that waits here, others need it for that to end (PY-6).

        Raises RuntimeError on a thread for which all others wait.
        """
        if self.connection.mine():
            raise RuntimeError("a __del__ that Python happens to run on the thread which hears the agent can't wait for it: submit, put and kill there, and get() elsewhere")
        lock = self.table.lock
        held = lock._release_save() if lock._is_owned() else None  # type: ignore[attr-defined]
        try:
            return wait(*args)
        finally:
            if held is not None:
                lock._acquire_restore(held)  # type: ignore[attr-defined]

    def _blocked(self, task: Running, deadline: Optional[float], keys: Sequence[Any], need: int) -> bytes:
        """What tells the agent that a task waits, and for what, unless something else may end that: by then the agent says if it waits in a circle."""
        if deadline is not None:
            return wire.AWAITS.pack(0, 0, task.task, 0, 0, 1)
        if len(keys) > _MAX_NAMED or task.thread != threading.get_ident():
            return wire.BLOCKED.pack(0, 0, task.task)
        names = [key._key if type(key) is ObjectRef else key for key in keys]
        if len(names) > 1:
            entries = self.table.entries
            names = list(dict.fromkeys(names))
            missing = [name for name in names if type(entries.get(name)) is State]  # others may have come since they were counted
            names, need = missing, max(0, min(need - (len(names) - len(missing)), len(missing)))
        heads = b"".join([name + b"\0\0\0\0" for name in names])
        return wire.AWAITS.pack(len(heads), 0, task.task, len(names), need, 0) + heads

    def _check_open(self) -> None:
        if self.table.closed:
            raise self.table.closed

    def _read(self, key: bytes, entry: Any) -> Any:
        """The value of an object, by its entry, which is no State; raises its error."""
        if type(entry) is not Value:
            if isinstance(entry, BaseException):
                raise entry
            raise exceptions.ObjectLostError(f"object {key.hex()} was released while somebody waited for it")
        if entry.flags & wire.ERROR:
            raise self._error(entry)
        placed = type(entry.payload) is Place
        try:
            value = values.decode(entry.format, entry.payload.view() if placed else entry.payload, entry.refs)
        except (Left, exceptions.ManipleError):  # of tensors that are elsewhere
            raise
        except Exception as e:  # broken bytes, or a class whose module is not here
            raise exceptions.SystemFault(f"the value of {key.hex()} can't be read here: {type(e).__name__}: {e}") from e
        if not placed and len(entry.payload) > self.inline_limit and not entry.flags & wire.NOT_TASK:
            with self.table.lock:  # the agent has it, once is enough
                if self.table.entries.get(key) is entry:
                    self.table.entries[key] = READY
        return value

    def _error(self, entry: Value) -> BaseException:
        try:
            return failures.load(entry.payload.view() if type(entry.payload) is Place else entry.payload)
        except wire.ProtocolError as e:
            return exceptions.SystemFault(f"an error that can't be read: {e}")

    def wait(self, refs: Sequence[Any], num_returns: int, timeout: Optional[float], there: Optional[Sequence[int]] = None, here: bool = False) -> "Tuple[List[Any], List[Any]]":
        """Those that are there, at most num_returns, and the others, both in order.

        refs: references or streams. there: which are, if that is known. here: those of references count that are at this node, and all are brought.
        """
        if there is None or sum(there) < num_returns:
            there = self._there(refs, num_returns, timeout, here)
        if num_returns == len(refs) and all(there):
            return list(refs), []
        ready: List[Any] = []
        rest: List[Any] = []
        for ref, is_there in zip(refs, there):
            (ready if is_there and len(ready) < num_returns else rest).append(ref)
        return ready, rest

    def _there(self, refs: Sequence[Any], num_returns: int, timeout: Optional[float], here: bool) -> List[bool]:
        """Which are there, once so many are or the time is over."""
        self.refuse_foreign(refs)
        keys = [ref._key if type(ref) is ObjectRef else self._wanted_key(ref) for ref in refs]
        deadline = None if timeout is None else monotonic() + timeout
        entries = self.table.entries
        # An item of a stream may have been read by another thread meanwhile: who waits looks again.
        found = [entries.get(key, None if type(ref) is ObjectRef else READY) for key, ref in zip(keys, refs)]
        if None in found:
            raise _not_held(keys[found.index(None)])
        local = [here and type(ref) is ObjectRef for ref in refs]  # items of streams come by themselves
        there = list(map(is_ready, found, local))
        if sum(there) < num_returns:
            self._wait_ready(keys, local, num_returns, deadline)
            there = [is_ready(entries.get(key, READY), at) for key, at in zip(keys, local)]
        return there

    def _wanted_key(self, stream: Any) -> bytes:
        self.refuse_foreign_stream(stream)
        return bytes(stream.wanted_key())

    def _wait_ready(self, keys: Sequence[bytes], local: Sequence[bool], num_returns: int, deadline: Optional[float]) -> None:
        want = wire.WANT_HERE if any(local) else wire.WANT_READY
        gate, entries, frames = Gate(num_returns, want), self.table.entries, []
        asks = _BRING if any(local) else _CHECK
        with self.table.lock:
            self._check_open()
            still = [key for key, at in zip(keys, local) if not is_ready(entries.get(key, READY), at)]
            gate.missing -= len(keys) - len(still)
            need = gate.missing
            if need <= 0:
                return
            for key in still:
                asked = asks.get(entries.get(key, REMOTE))
                if asked is not None:
                    entries[key] = asked
                    frames.append(wire.GET.pack(0, 0, key, 0, want))
            self.table.register_locked(gate, still)
        for frame in frames:
            self.connection.send(frame)
        try:
            self._block(gate, deadline, still, need)
        finally:
            self.table.unregister(gate, still)

    # Without waiting here.

    def when_ready(self, ref: ObjectRef, call: Any, readiness: bool = False) -> Callable[[], None]:
        """Calls call() once the value is here or never will be: now, or on the reader thread with the table locked. Gives what takes that back.

        readiness: that it exists is enough.
        """
        self.refuse_foreign((ref,))
        key, entries = ref._key, self.table.entries
        if type(entries.get(key, REMOTE)) is State and not readiness:
            self._ask([key])
        with self.table.lock:
            self.table.claim_locked(key)
            waits = type(entries.get(key)) is State and not (readiness and is_ready(entries[key])) and not self.table.closed
            if waits:
                callback = Callback(call, wire.WANT_READY if readiness else wire.WANT_VALUE)
                self.table.register_locked(callback, [key])
        if waits:
            self.connection.flush()
            return partial(self.table.unregister, callback, [key])
        call()
        return _nothing

    def _outcome(self, ref: ObjectRef) -> Tuple[Any, Optional[BaseException]]:
        """The value, or the error; Left: it is to be asked for again."""
        entry = self.table.entries.get(ref._key)
        if type(entry) is State:  # the agent wanted it back meanwhile, or another has read it
            return None, self.table.closed or Left()
        try:
            return self._read(ref._key, entry), None
        except BaseException as e:  # noqa: B902: also what a user's task raised as KeyboardInterrupt
            return None, e

    def async_future(self, ref: ObjectRef) -> Tuple[Any, Callable[[], None]]:
        """An asyncio future of the value, in the running loop, and what forgets it."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def settle() -> None:
            if not future.done():
                value, error = self._outcome(ref)
                if type(error) is Left:
                    self.when_ready(ref, arrived)
                else:
                    _settle(future, value, error)

        def arrived() -> None:
            call_soon(loop, settle)

        return future, self.when_ready(ref, arrived)

    def future(self, ref: ObjectRef) -> Any:
        """A concurrent.futures.Future of the value; its callbacks run on a thread for that."""
        import concurrent.futures
        import queue

        if self._futures is None:
            self._futures = queue.SimpleQueue()
            threading.Thread(target=_complete, args=(self._futures,), name="maniple-futures", daemon=True).start()
        futures: Any = self._futures
        future: Any = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        self.when_ready(ref, lambda: futures.put((self, ref, future)))
        return future


def call_soon(loop: Any, call: Callable[[], Any]) -> None:
    """Has an event loop make a call, whatever thread this is. If the loop is over, so is whoever waited in it."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass


def _nothing() -> None:
    """Takes back what is done."""


def _complete(queue: Any) -> None:
    while True:
        session, ref, future = queue.get()
        value, error = session._outcome(ref)
        if type(error) is Left:
            session.when_ready(ref, partial(queue.put, (session, ref, future)))
        else:
            _settle(future, value, error)
        del value, error, session, ref, future


def _settle(future: Any, value: Any, error: Optional[BaseException]) -> None:
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):  # futures refuse it
        future.set_exception(RuntimeError(f"the task raised StopIteration: {error}"))
    else:
        future.set_exception(error)


def _not_held(key: bytes) -> BaseException:
    return exceptions.ObjectLostError(
        f"this process holds no reference to object {key.hex()}: one from before a fork or a shutdown is of no use after it; pass it as an argument, or put the value again"
    )


def _foreign(what: str) -> BaseException:
    return exceptions.ObjectLostError(f"{what} is of another session, from before a fork or a shutdown, and of no use in this one: put the value again, or call again what gave it")


def _failed(entry: Any) -> bool:
    return isinstance(entry, BaseException) or (type(entry) is Value and bool(entry.flags & wire.ERROR))


_warned = False


def _warn_once(text: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        sys.stderr.write(f"maniple: {text}\n")
