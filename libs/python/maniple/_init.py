"""init, shutdown and is_initialized: this process becomes a driver of a cluster."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from numbers import Real
from typing import Any, Dict, Iterator, List, Optional, Tuple

from maniple import _local, runtime_env as _runtime_env
from maniple._core import dial, session as _session, twin
from maniple._core.session import Session

_lock = threading.RLock()
_guard: Optional[_local.Guard] = None  # of the cluster that this process started

# Arguments of Ray's init that mean nothing here, and are taken.
_UNUSED = {
    "configure_logging", "logging_config", "logging_format", "logging_level", "include_dashboard", "dashboard_host",
    "dashboard_port", "job_config", "_temp_dir", "_system_config", "_metrics_export_port", "_node_ip_address",
    "_driver_object_store_memory", "_memory", "_redis_username", "_redis_password", "_node_name", "_enable_object_reconstruction", "_tracing_startup_hook",
}  # fmt: skip
_ATTACH_TRIES = 4  # so often a cluster is looked for that another program of the job brings up, and may end before this one has attached
_LIBRARIES = ("lib-dynload", "site-packages", "dist-packages")  # directories that workers have by themselves
# Libraries that take long to import: workers are born with those that the driver has when it connects.
_SLOW = ("numpy", "pandas", "pyarrow", "scipy", "sklearn", "torch")


class Context:
    """What init gives: facts about the cluster, as attributes of `address_info`; `with init():` shuts down at the end."""

    def __init__(self, session: Session):
        self.address_info: Dict[str, Any] = {"address": session.path, "node_id": session.node, "cluster": session.cluster, "job_id": session.job}
        self.dashboard_url = ""

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *exc: Any) -> None:
        shutdown()

    def disconnect(self) -> None:
        shutdown()

    def __repr__(self) -> str:
        return f"Context({self.address_info})"


def init(
    address: Optional[str] = None,
    *,
    num_cpus: Optional[int] = None,
    num_gpus: Optional[int] = None,
    resources: Optional[Dict[str, float]] = None,
    labels: Optional[Dict[str, str]] = None,
    object_store_memory: Optional[int] = None,
    object_spilling_directory: Optional[str] = None,
    object_spilling_limit: Optional[int] = None,
    namespace: Optional[str] = None,
    runtime_env: Optional[Dict[str, Any]] = None,
    ignore_reinit_error: bool = False,
    local_mode: bool = False,
    log_to_driver: bool = True,
    **other: Any,
) -> Context:
    """Joins a cluster, or starts one of this machine that ends with this process.

    address: None (default): the cluster of MANIPLE_ADDRESS, else this user's on this machine or in this
    Slurm job, else a new one, in a Slurm job of all its nodes; "auto": as None, but never a new one; "local": always a new
    one, of this machine alone; the name of a cluster; or the path of an agent's socket.
    num_cpus, num_gpus, resources, labels: what a new cluster's node has (default: what this machine has), which is of this machine alone, in a
    Slurm job too; num_cpus=0: what needs a CPU does not run there;
    object_store_memory: bytes of its memory for values (default: 30%; 80% at most);
    object_spilling_directory: where it writes values that this has no room for (default: on the node's own disk; several:
    divided by commas; "none": nowhere; "shared:" before one that all nodes see; hdfs://... or s3://bucket/prefix), and object_spilling_limit: how many
    bytes of them may lie there. An error when joining one.
    namespace: of named actors (default: one of its own). runtime_env: for all tasks and actors of this driver.
    ignore_reinit_error: a second init does nothing (default: RuntimeError).
    log_to_driver: what workers print is printed here, too, each line marked with who said it (default: yes).

    Raises ConnectionError if there is no such cluster, RuntimeError for unknown arguments.
    """
    global _guard
    unknown = sorted(set(other) - _UNUSED)
    if unknown:
        raise RuntimeError(f"init() has no argument {', '.join(unknown)}")
    if local_mode:
        raise RuntimeError("local_mode is not there: use a debugger in the function, or call the plain function")
    if namespace is not None and not (isinstance(namespace, str) and namespace):
        raise ValueError(f"a namespace is a text that is not empty, not {namespace!r}")
    problem = _runtime_env.check(runtime_env)
    if problem:
        raise ValueError(problem)
    for what, number in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if number is not None and not (isinstance(number, Real) and number >= 0 and number % 1 == 0):
            raise ValueError(f"{what} is a whole number, 0 or more, not {number!r}")
    if object_store_memory is not None and not (isinstance(object_store_memory, int) and object_store_memory > 0):
        raise ValueError(f"object_store_memory is a number of bytes above 0, not {object_store_memory!r}")
    if object_spilling_directory is not None and not (isinstance(object_spilling_directory, str) and object_spilling_directory):
        raise ValueError(f"object_spilling_directory is a path, not {object_spilling_directory!r}")
    if object_spilling_limit is not None and not (isinstance(object_spilling_limit, int) and object_spilling_limit > 0):
        raise ValueError(f"object_spilling_limit is a number of bytes above 0, not {object_spilling_limit!r}")
    new = {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources, "labels": labels, "object_store_memory": object_store_memory}
    new["object_spilling_directory"], new["object_spilling_limit"] = object_spilling_directory, object_spilling_limit
    with _lock:
        session = _session.attached()
        if session is not None and not session.table.closed:
            if ignore_reinit_error:
                return Context(session)
            raise RuntimeError("maniple.init() was called already: call maniple.shutdown() before, or give ignore_reinit_error=True")
        if session is not None:
            shutdown()
        path = None if address == "local" else _local.find(address)
        if path is not None and any(value is not None for value in new.values()):
            given = ", ".join(k for k, v in new.items() if v is not None)
            raise ValueError(f"{given} can't be given when joining a cluster that is up (at {path}); address=\"local\" starts another")
        guard, namespace = None, namespace or os.urandom(8).hex()
        session, tries = None, 0
        while session is None:
            if path is None:  # there is none, or who started it has just ended it
                path, guard = _local.start(new, address == "local")
            tries += 1
            try:
                session = attach(path, dial.DRIVER, namespace, runtime_env)
            except BaseException as e:
                if guard is not None and not isinstance(e, Exception):  # a Ctrl-C, which is not to wait
                    guard.leave()
                elif guard is not None:
                    guard.end(patient=False)
                if guard is not None or not isinstance(e, ConnectionError) or not _local.by_itself(address) or tries == _ATTACH_TRIES:
                    raise
                path = None
        _guard, session.prints.shown = guard, log_to_driver
        return Context(session)


def attach(path: str, kind: int, namespace: str, runtime_env: Optional[Dict[str, Any]], job: int = 0) -> Session:
    """Attaches this process to the agent at path and makes that its session."""
    from maniple import __version__

    config: Dict[str, Any] = {"namespace": namespace, "argv": sys.argv[:8], "cwd": os.getcwd()}
    config["sys_path"], config["sys_path_end"] = _sys_path()
    if kind == dial.DRIVER:  # what the agent starts workers with
        config["executable"], config["env"] = sys.executable, dict(os.environ)
        config["preload"] = [name for name in _SLOW if name in sys.modules]
    if job:
        config["job"] = job
    fields = {
        "name": os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python", "pid": os.getpid(), "build": __version__,
        "kind": kind, "language": "python", "job_config": json.dumps(config), "direct": twin.fast is not None,
    }  # fmt: skip
    sock = dial.dial(path)
    try:
        attached = dial.attach(sock, __version__, fields)
    except BaseException:
        sock.close()
        raise
    session = Session(sock, attached, kind, path)
    session.namespace = namespace
    session.job = session.job or job
    session.start()
    try:
        session.runtime_env = session.environment(runtime_env)
    except BaseException:
        session.close()
        raise
    _session.set_current(session)
    return session


def _sys_path() -> Tuple[List[str], List[str]]:
    """Where this program's own modules are, for workers to look in, too: before Python's own, and behind them. What the program has added is there as well as
    its directory."""
    own = os.path.dirname(os.__file__)
    before: List[str] = []
    behind: List[str] = []
    into = before
    for path in sys.path:
        if path == own or os.path.basename(path) in _LIBRARIES or re.fullmatch(r"python\d+\.zip", os.path.basename(path)):
            into = behind
        elif os.path.exists(path or "."):
            into.append(os.path.abspath(path))
    return before, behind


def connect_first() -> Session:
    """The session for a call without init: a forked child joins its parent's cluster, all others call init."""
    with _lock:
        session = _session.attached()
        if session is None:
            parent = _session.forked_from()
            if parent is None:
                init()
            else:
                attach(parent[0], dial.CLIENT, parent[2], parent[3], parent[1])
            session = _session.attached()
        assert session is not None
        return session


def is_initialized() -> bool:
    """This process is connected to a cluster."""
    session = _session.attached()
    return session is not None and not session.table.closed


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Disconnects, and ends the cluster if init started it. Does nothing without a session. References become useless."""
    global _guard
    with _lock:
        session = _session.attached()
        _session.set_current(None)
        if session is not None:
            session.close()
        guard, _guard = _guard, None
        if guard is not None:
            guard.end()


def _forked() -> None:
    global _guard, _lock
    _lock = threading.RLock()
    if _guard is not None:
        _guard.forget()
        _guard = None


def _at_exit() -> None:
    shutdown(True)


def _register() -> None:
    import atexit

    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_forked)


_register()
