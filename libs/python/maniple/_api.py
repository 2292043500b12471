"""What programs call: remote, get, put, wait, kill, cancel, get_actor and questions about the cluster."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union, overload

from maniple._core import session as _session
from maniple._core import wire
from maniple._core.references import ObjectRef
from maniple._core.streams import ObjectRefGenerator

_FORCE_FINAL, _FORCE_RESTART = 1, 2  # Cancel.force of an actor: it is not started again, or may be


def remote(*args: Any, **options: Any) -> Any:
    """Makes a function a remote function, or a class an actor class: `@remote` or `@remote(num_cpus=2, ...)`.

    Options of tasks, with defaults: num_cpus 1, num_gpus 0, memory, resources, num_returns (1; "streaming"
    for generators), max_retries 3, retry_exceptions False, max_calls 0 (no bound; 1 with GPUs), name,
    runtime_env, scheduling_strategy "DEFAULT", label_selector, fallback_strategy, accelerator_type. Of actors: num_cpus (1 to be
    placed, 0 to run), max_restarts 0, max_task_retries 0, max_concurrency (1; 1000 if async),
    concurrency_groups, max_pending_calls -1, name, namespace, lifetime, get_if_exists False, and those above
    that say where. Raises ValueError or TypeError for options that are unknown or wrong.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _remote(args[0], {})
    if args or not options:
        raise TypeError("@remote stands alone, or with options in parentheses, as in @remote(num_cpus=2)")
    return lambda target: _remote(target, options)


def _remote(target: Any, options: Dict[str, Any]) -> Any:
    if inspect.isclass(target):
        from maniple.actor import ActorClass

        return ActorClass(target, options)
    if inspect.isfunction(target) or inspect.isbuiltin(target) or type(target).__name__ == "cython_function_or_method":
        from maniple.remote_function import RemoteFunction

        return RemoteFunction(target, options)
    raise TypeError(f"@remote is for functions and classes, not for a {type(target).__name__}")


@overload
def get(object_refs: ObjectRef, *, timeout: Optional[float] = None, _use_object_store: bool = False) -> Any: ...
@overload
def get(object_refs: Sequence[ObjectRef], *, timeout: Optional[float] = None, _use_object_store: bool = False) -> List[Any]: ...


def get(object_refs: Union[ObjectRef, Sequence[ObjectRef]], *, timeout: Optional[float] = None, _use_object_store: bool = False) -> Any:
    """The value of a reference, or the list of values of several, in order.

    timeout: seconds (default: no end; 0: only what is there). _use_object_store: tensors that stayed on a device come by the object store.
    Raises what the task raised (as the user's type
    and TaskError), GetTimeoutError, or another error of maniple.exceptions; ValueError for what is no reference.
    """
    if _use_object_store:
        from maniple import _device

        with _device.by_the_store():
            return get(object_refs, timeout=timeout)
    session = _session._session or _session.current()
    if timeout is not None:
        _check_seconds(timeout)
    if type(object_refs) is ObjectRef:
        return session.get((object_refs,), timeout)[0]
    if isinstance(object_refs, ObjectRefGenerator):
        raise ValueError("get() takes references: iterate over the generator to have them")
    if not isinstance(object_refs, (list, tuple)):
        raise ValueError(f"get() takes a reference or a list of them, not a {type(object_refs).__name__}")
    for ref in object_refs:
        if type(ref) is not ObjectRef:
            raise TypeError(f"get() takes references, and one of the list is a {type(ref).__name__}")
    return session.get(object_refs, timeout)


def _check_seconds(timeout: Any) -> None:
    if not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout is a number of seconds or None, not {timeout!r}")


def get_range(ref: ObjectRef, start: Optional[int] = None, stop: Optional[int] = None, *, item: Any = None, timeout: Optional[float] = None) -> Any:
    """get(ref)[start:stop], or get(ref)[item][start:stop], without bringing the rest of the value to this node.

    That is so for bytes and for arrays of numpy (their rows), of which item, the key of a dict or the index of a list, names one. Of anything else, and of what is
    small, all of the value is brought. What is at this node already is viewed there. timeout: as of get.
    Raises what get and slicing raise.
    """
    session = _session._session or _session.current()
    if type(ref) is not ObjectRef:
        raise TypeError(f"get_range() takes one reference, not a {type(ref).__name__}")
    if timeout is not None:
        _check_seconds(timeout)
    for end in (start, stop):
        if end is not None and not hasattr(end, "__index__"):
            raise TypeError(f"get_range() goes from a whole number to another, not to {end!r}")
    from maniple._core.ranges import get_range

    session.refuse_foreign((ref,))
    return get_range(session, ref, start, stop, item, timeout)


def concat(parts: Sequence[Any], **options: Any) -> ObjectRef:
    """The reference to an object that has the parts one behind another: bytes, or the rows of arrays of numpy of one type and shape.

    parts: references, or ranges of what they refer to: (ref, start, stop) or (ref, start, stop, item), as get_range takes them; a range has to be there as a whole. A task makes the object as
    soon as all parts are there. It brings of each, at its own node, no more than the range, straight into the memory of the object. options: those of remote functions, for that task.
    Raises TypeError and ValueError for what are no such parts, or options; what goes wrong later, get raises: the error of a part, or which part is of another kind or too short.
    """
    from maniple._core.concat import concat

    return concat(parts, options)


def put(value: Any) -> ObjectRef:
    """Makes an object of the value and gives the reference to it.

    Raises TypeError for a reference (put a list of it if that is meant) and for what can't be pickled.
    """
    if type(value) is ObjectRef:
        raise TypeError("put() of a reference is not allowed: wrap it in a list if the reference itself is meant")
    return (_session._session or _session.current()).put(value)


def cached(key: Union[str, bytes], make: Callable[[], Any], *, timeout: Optional[float] = None) -> Any:
    """The value that this node keeps under a key, made by make() if there is none.

    key: names the content, for all programs of the cluster: 1 to 256 bytes, a str as UTF-8, best with a hash of what make() depends on. One process of the node makes the
    value while the others that ask wait; if it fails, the next one makes it, and the error is its own caller's only. The value lies in shared memory: arrays in it are
    read-only views of that, in whoever asked. It outlives the program, and goes when memory is short, the least recently used first, but not while it is looked at. What
    finds no room is given to its maker alone.
    timeout: seconds to wait for another that makes it (default: no end); GetTimeoutError then. make() itself is not interrupted.
    Raises what make() raises; TypeError for a value that can't be pickled, or has references in it; DeadlockError if the thread that makes the value asks for
    the same key meanwhile, in make(), as it is pickled, or in a signal's handler.
    """
    name = key.encode() if isinstance(key, str) else key
    if not isinstance(name, bytes):
        raise TypeError(f"a key is str or bytes, not a {type(key).__name__}")
    if not 1 <= len(name) <= 256:
        raise ValueError(f"a key has 1 to 256 bytes, not {len(name)}: " + ("give a hash of a longer one" if name else "an empty one names nothing"))
    if not callable(make):
        raise TypeError(f"make is a function without arguments, not a {type(make).__name__}")
    if timeout is not None:
        _check_seconds(timeout)
    from maniple._core.caching import cached

    return cached(_session._session or _session.current(), name, make, timeout)


def wait(
    ray_waitables: Sequence[Any], *, num_returns: int = 1, timeout: Optional[float] = None, fetch_local: bool = True
) -> Tuple[List[Any], List[Any]]:
    """Waits until num_returns of the references (or generators) are there. Gives those, and the others, in order.

    At most num_returns are in the first list. timeout: seconds (default: no end; 0: look once).
    fetch_local: those are there whose values are at this node; large ones that are not are brought (default). False: that they are at any node is
    enough, and nothing is brought.
    Raises TypeError for what is no list of references, ValueError for duplicates or a wrong number.
    """
    if isinstance(ray_waitables, (ObjectRef, ObjectRefGenerator)):
        raise TypeError("wait() takes a list of references; this is a single one")
    if not isinstance(ray_waitables, (list, tuple)):
        raise TypeError(f"wait() takes a list of references, not a {type(ray_waitables).__name__}")
    if timeout is not None:
        _check_seconds(timeout)
        if timeout < 0:
            raise ValueError(f"timeout can't be negative: {timeout}")
    if not isinstance(num_returns, int):
        raise TypeError(f"num_returns is a whole number, not {num_returns!r}")
    session = _session.attached()
    there = None if session is None else session.table.readiness(ray_waitables, fetch_local)
    if there is None:
        for ref in ray_waitables:
            if not isinstance(ref, (ObjectRef, ObjectRefGenerator)):
                raise TypeError(f"wait() takes references, and one of the list is a {type(ref).__name__}")
        if not ray_waitables:
            _session.current()
            return [], []
        if len(set(ray_waitables)) != len(ray_waitables):
            raise ValueError("wait() takes each reference once")
    if num_returns <= 0:
        raise ValueError(f"num_returns must be at least 1, not {num_returns}")
    if num_returns > len(ray_waitables):
        raise ValueError(f"num_returns {num_returns} is more than the {len(ray_waitables)} references")
    return (session or _session.current()).wait(ray_waitables, num_returns, timeout, there, fetch_local)


def kill(actor: Any, *, no_restart: bool = True) -> None:
    """Ends an actor at once: what runs and what waits there fails. no_restart=False: max_restarts still counts.

    Raises ValueError for what is no handle.
    """
    from maniple.actor import ActorHandle

    if not isinstance(actor, ActorHandle):
        raise ValueError(f"kill() is for actors, not for a {type(actor).__name__}; cancel() is for tasks")
    session = _session.current()
    actor._target.check(session)
    session.send(wire.CANCEL.pack(0, 0, actor._id, _FORCE_FINAL if no_restart else _FORCE_RESTART, 0))
    session.connection.flush()


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancels a task: one that waits never runs, one that runs gets a KeyboardInterrupt. get() then raises TaskCancelledError.

    force: kills its worker (default: no). recursive: what the task has started, too (default: yes).
    Raises TypeError for what is no reference, ValueError for an actor's call with force: its worker has other calls.
    """
    if isinstance(ray_waitable, ObjectRef):
        task = ray_waitable.binary()[: wire.TASK_SIZE]
    elif isinstance(ray_waitable, ObjectRefGenerator):
        task = ray_waitable._stream.task
    else:
        raise TypeError(f"cancel() is for references, not for a {type(ray_waitable).__name__}; kill() is for actors")
    session = _session.current()
    if isinstance(ray_waitable, ObjectRef):
        session.refuse_foreign((ray_waitable,), session.strict)
    else:
        session.refuse_foreign_stream(ray_waitable)
    if force and session.query("kind", wire.task_text(task)).get("kind") == "call":
        raise ValueError("an actor's call can't be cancelled by force, as that would end its actor: leave force away, or end the actor with kill()")
    session.send(wire.CANCEL.pack(0, 0, task, int(force), int(recursive)))
    session.connection.flush()


def get_actor(name: str, namespace: Optional[str] = None) -> Any:
    """The handle of a named actor. namespace: default this job's. Raises ValueError if there is none."""
    from maniple.actor import find

    return find(_session.current(), name, namespace)


def nodes() -> List[Dict[str, Any]]:
    """A dict per node: NodeID, Alive, NodeName, NodeManagerAddress, Resources, Labels and more."""
    out = []
    for node in _session.current().query("free").get("nodes") or []:
        addresses = node.get("addresses") or [""]
        host, _, port = addresses[0].rpartition(":")
        alive = node.get("state") != "dead"
        out.append({
            "NodeID": node.get("name"), "NodeName": node.get("name"), "NodeManagerHostname": node.get("name"), "NodeManagerAddress": host.strip("[]"),
            "NodeManagerPort": int(port) if port.isdigit() else 0, "Alive": alive, "alive": alive, "State": node.get("state"), "Why": node.get("why") or "",
            "Resources": (node.get("total") or {}) if alive else {}, "Available": (node.get("free") or {}) if alive else {}, "Labels": {"ray.io/node-id": node.get("name"), **(node.get("labels") or {})},
        })  # fmt: skip
    return out


def cluster_resources() -> Dict[str, float]:
    """Resources of all nodes that are alive, by name. memory is in bytes."""
    return _cluster("total")


def available_resources() -> Dict[str, float]:
    """Resources of all nodes that nothing holds, by name; what is used up is absent."""
    free: Dict[str, float] = {}
    for node in _session.current().query("free").get("nodes") or []:
        for name, amount in (node.get("free") or {}).items() if node.get("state") != "dead" else ():
            if amount:
                free[name] = free.get(name, 0) + amount
    return free


def _cluster(field: str) -> Dict[str, float]:
    return dict((_session.current().query("cluster").get("cluster") or {}).get(field) or {})


def get_gpu_ids() -> List[Any]:
    """The GPUs that this worker may use, as its mask names them; whole numbers as int."""
    from maniple.runtime_context import gpu_ids

    return [int(g) if g.isdigit() else g for g in gpu_ids()]
