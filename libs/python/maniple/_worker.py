"""A worker process: takes tasks or one actor from its agent, and runs them.

Started by the agent as `python -m maniple._worker` with MANIPLE_ADDRESS and MANIPLE_WORKER (its key), or
forked from a template (`python -m maniple._template`). Tasks run on the main thread; the reader thread
answers recalls and cancels meanwhile. When the socket closes the process ends within a second.
"""

from __future__ import annotations

import _signal
import os
import signal
import sys
import threading
from collections import deque
from typing import Any, Dict, List, NamedTuple, Optional


from maniple import _actor_host, _packages
from maniple._core import dial, failures, frames, session as _session, values, wire
from maniple._core.arenas import Place
from maniple._core.connection import AGENT_CLOSED
from maniple._core.context import running
from maniple._core.inbox import Inbox, Native
from maniple._core.session import Session
from maniple._core.table import ASKED, FETCHING, PENDING, State, Value
from maniple._core.wire import ProtocolError
from maniple._execute import ActorExit, Executor, Job, TaskInterrupt, forked, note

# Users' programs own USR1 and USR2 in practice; the C library keeps the first real-time signals.
CANCEL_SIGNAL = signal.SIGRTMIN + 10
_LAST_WORDS = 0.5  # seconds for flushing standard output when the agent is gone
_OBJECT = wire.OBJECT_SIZE
_PLAIN = (frames.FUNCTION, frames.SHAPE, frames.METHODS, frames.ACTOR_STATE)  # frames without references
_FIRST_WORD = wire.STARTED.pack(0, 0, wire.NO_TASK)


def _plain(kind: int, body: bytes) -> bool:
    """Whether a frame has no references in it."""
    fields = wire.untable("Create", body) if kind == frames.CREATE else {}
    return not (fields.get("deps") or fields.get("refs")) if fields else kind in _PLAIN


class WorkerSession(Session):
    """The session of a worker: also takes work."""

    def __init__(self, sock: Any, attached: Dict[str, Any], path: str):
        super().__init__(sock, attached, dial.WORKER, path)
        self.inbox: Any = Inbox() if self.link is None else Native(self.link, self._given)
        self._early: "deque[bytes]" = deque(maxlen=64)  # cancelled while they were handed over
        self.jobs: Dict[bytes, Job] = {}  # given and not ended, by task
        self.shapes: Dict[int, Dict[str, Any]] = {}
        self.executor = Executor(self)
        self.guarded: Optional[Job] = None  # whose code the main thread runs
        # By key: value, number of jobs that use it, and that it came for one that comes next.
        self._deps: Dict[bytes, List[Any]] = {}
        self._coming: List[Any] = []  # references that keep what came for that one

    def early(self) -> None:
        """Before the fork: takes what the worker was sent already, if that makes no references, which would be this process's. In a child all that would be done for the first time."""
        self.connection.early(_plain)

    # What comes, on the reader thread with the table locked.

    def unknown_result_locked(self, key: bytes, value: Value) -> None:
        if self.streams and key[: wire.TASK_SIZE] in self.streams:
            super().unknown_result_locked(key, value)
        else:
            if value.flags & wire.LOCATED:
                value = self.located_locked(key, value)
            # An argument of a task that comes next; or what a dropped reference was to, which nobody claims.
            dep = self._deps.get(key)
            if dep is None:
                self._deps[key] = [value, 0, True]
            else:
                dep[0], dep[2] = value, True

    def placed_locked(self, key: bytes, before: Any) -> Any:
        ref = super().placed_locked(key, before)
        asked = type(before) is State and before in (PENDING, ASKED, FETCHING)
        if not asked and (key in self._deps or before is not None):
            self._coming.append(ref)  # nobody here has asked for it
        return ref

    def _take_locked(self, task: bytes, frame: Any, format: int, deps: int, refs: int, kind: int, payload: Any) -> None:
        if (deps + refs) * _OBJECT > len(payload):
            raise ProtocolError(f"{deps} arguments and {refs} references in {len(payload)} bytes")
        keys = [bytes(payload[at : at + wire.KEY_SIZE]) for at in range(0, deps * _OBJECT, _OBJECT)]
        found = []
        for key in keys:
            dep = self._deps.get(key)
            if dep is not None:
                dep[1], dep[2] = dep[1] + 1, False
                found.append(dep[0])
            else:
                entry = self._entries.get(key)
                found.append(None if entry is None or type(entry) is State else entry)
        for key in [k for k, dep in self._deps.items() if not dep[1]]:  # arguments come right before their task
            del self._deps[key]
        held, envelope = self.references_locked(refs, payload[deps * _OBJECT :])
        job = Job(task, frame, kind, format, envelope, held, found, keys, bool(self.jobs) or not self.inbox.empty())
        placed = [key for key, value in zip(keys, found) if type(value) is Value and type(value.payload) is Place]
        job.kept = [self.held.again_locked(key) for key in placed if key in self._entries]
        self._coming.clear()
        self.jobs[task] = job
        self.inbox.put(job)

    def _given(self, job: Any) -> Any:
        """A job without references, out of the extension's inbox; that it began has been said."""
        self.jobs[job.task] = job
        if self._early and job.task in self._early:
            job.cancelled = True
        return job

    def _submit_locked(self, corr: int, body: bytes, payload: Any) -> None:
        f = wire.SUBMIT.read(body)
        self._take_locked(f.task, f, f.format, f.deps, f.refs, wire.SUBMIT.number, payload)

    def _call_locked(self, corr: int, body: bytes, payload: Any) -> None:
        f = wire.CALL.read(body)
        self._take_locked(f.task, f, f.format, f.deps, f.refs, wire.CALL.number, payload)

    def _create_locked(self, corr: int, body: bytes, payload: Any) -> None:
        f = wire.untable("Create", body)
        self._take_locked(wire.task_bytes(f.get("actor")), f, f.get("format") or 0, f.get("deps") or 0, f.get("refs") or 0, frames.CREATE, payload)

    def _function_locked(self, corr: int, body: bytes, payload: Any) -> None:
        self.executor.functions.add(wire.untable("Function", body), payload)

    def _shape_locked(self, corr: int, body: bytes, payload: Any) -> None:
        fields = wire.untable("Shape", body)
        if fields.get("over"):
            self.shapes.pop(fields.get("number") or 0, None)
        else:
            self.shapes[fields.get("number") or 0] = fields

    def _recall_locked(self, corr: int, body: bytes, payload: Any) -> None:
        task = wire.RECALL.read(body).task
        if task == wire.NO_TASK:
            for waiting in [t for t, job in self.jobs.items() if not job.started]:
                self._give_back_locked(waiting)
        elif task in self.jobs and not self.jobs[task].started:
            self._give_back_locked(task)
        else:
            self.connection.enqueue(wire.RECALLED.pack(0, 0, task, 1))
        self._later.append(self.connection.flush)

    def _give_back_locked(self, task: bytes) -> None:
        self._forget_locked(self.jobs[task])
        self.connection.enqueue(wire.RECALLED.pack(0, 0, task, 0))

    def _cancel_locked(self, corr: int, body: bytes, payload: Any) -> None:
        task = wire.CANCEL.read(body).task
        job = self.jobs.get(task) or self.inbox.withdraw(task)
        if job is None:
            self._early.append(task)
            job = self.jobs.get(task)
            if job is None:
                return
        job.cancelled = True
        if not job.started:
            self._forget_locked(job)
            self._later.append(lambda: self._say_cancelled(job))
            return
        if job.gate is not None:
            job.gate.set()
        if job.interrupt is not None:
            self._later.append(job.interrupt)

    def _say_cancelled(self, job: Job) -> None:
        payload = failures.plain("CANCELLED", "the task was cancelled before it began", job.task)
        self.executor.result(job, 0, wire.LAST | wire.ERROR | wire.FINAL, values.Encoded(wire.FAILURE, [], payload))
        job.payload, job.refs, job.deps, job.kept = None, (), (), ()  # the executor may know it for a while
        self.connection.flush()

    def _get_locked(self, corr: int, body: bytes, payload: Any) -> None:
        """How far a stream's reader is."""
        key = wire.GET.read(body).object
        job = self.jobs.get(key[: wire.TASK_SIZE])
        if job is not None:
            job.wanted = max(job.wanted, wire.INDEX.unpack_from(key, wire.TASK_SIZE)[0])
            if job.gate is not None:
                job.gate.set()

    def _leave_locked(self, corr: int, body: bytes, payload: Any) -> None:
        self.inbox.put(None)

    handlers = {
        **Session.handlers,
        frames.SUBMIT: _submit_locked,
        frames.CALL: _call_locked,
        frames.CREATE: _create_locked,
        frames.FUNCTION: _function_locked,
        frames.SHAPE: _shape_locked,
        frames.RECALL: _recall_locked,
        frames.CANCEL: _cancel_locked,
        frames.GET: _get_locked,
        frames.SHUTDOWN: _leave_locked,
    }

    # Jobs.

    def outlive(self, may: bool) -> None:
        """Whether this process may live on after its agent; if not, a native thread sees to it, whatever the interpreter does."""
        if self.link is not None:
            self.link.fate(not may)

    def begin(self, job: Job) -> bool:
        """A job's turn has come. False: it was given back or cancelled."""
        with self.table.lock:
            job.started = True  # from here on nobody takes it back
            if self.jobs.get(job.task) is not job:
                self.inbox.ended(job.task)
                return False
            self.inbox.begun(job.task)
        if job.behind and job.kind == wire.SUBMIT.number:
            self.connection.send(wire.STARTED.pack(0, 0, job.task))
        return True

    def ended(self, job: Job) -> None:
        """A job has sent its last result."""
        with self.table.lock:
            self._forget_locked(job)
        if self.inbox.ended(job.task):
            self.connection.flush()

    def _forget_locked(self, job: Job) -> None:
        if self.jobs.get(job.task) is job:
            del self.jobs[job.task]
        keys, job.dep_keys = job.dep_keys, ()
        deps, seen = self._deps, self.seen
        for key in keys:
            dep = deps.get(key)
            if dep is not None:
                dep[1] -= 1
                if dep[1] <= 0 and not dep[2]:
                    del deps[key]
            if seen and key in seen:
                self.leave_locked(key)

    def uses_locked(self, key: bytes) -> bool:
        return key in self._deps or super().uses_locked(key) or any(key in job.dep_keys for job in self.jobs.values())

    def argument(self, key: bytes) -> Any:
        """The value of an argument that was not sent along: it lay in a file when the task was given."""
        with self.table.lock:
            self.table.claim_locked(key)
            known = key in self._entries
            if known:
                ref = self.held.again_locked(key)
            else:
                self.connection.enqueue(wire.GET.pack(0, 0, key, 0, wire.WANT_VALUE))  # by which this process holds it
                self._entries[key] = ASKED
                ref = self.held.made(key)
        token = running.set(None)  # the task has not begun: its CPU is not lent to another, which would want memory, too
        try:
            return self.get([ref])[0]
        finally:
            running.reset(token)

    def guard(self, job: Optional[Job]) -> None:
        """Which job's code the main thread runs: the one that a cancel may interrupt."""
        self.guarded = job

    def interrupted(self, signum: int, frame: Any) -> None:
        """Handler of CANCEL_SIGNAL, on the main thread."""
        job = self.guarded
        if job is not None and job.cancelled:
            self.guarded = None  # once
            raise TaskInterrupt("the task was cancelled")


def work(session: WorkerSession) -> None:
    """Runs what comes on this thread, the main one, until the agent says that it is enough."""
    main = threading.get_ident()

    def interrupt() -> None:
        signal.pthread_kill(main, CANCEL_SIGNAL)

    executor = session.executor
    while True:
        job = None
        try:
            job = session.inbox.get()
            if job is None:
                return
            if not session.begin(job):
                continue
            job.interrupt = interrupt
            if job.kind == frames.CREATE:
                break
            executor.run(job, session.guard)
            session.ended(job)
        except TaskInterrupt:  # it came when the job's code was over
            continue
        except Exception as e:
            executor.stray(job, e)
    _actor_host.live(session, executor, job)


def attach(path: str, key: int) -> WorkerSession:
    """Attaches as the worker of this key."""
    sock = dial.dial(path)
    fields = {"name": "worker", "pid": os.getpid(), "build": _build(), "kind": dial.WORKER, "worker": key, "language": "python", "job_config": ""}
    return WorkerSession(sock, dial.attach(sock, _build(), fields), path)


class Settings(NamedTuple):
    """What a worker's environment says of its job, and of the task or actor that it is for."""

    job: Dict[str, Any]
    runtime_env: Optional[Dict[str, Any]]  # what it starts has that, too

    @staticmethod
    def read() -> "Settings":
        import json

        try:
            job = json.loads(os.environ.get("MANIPLE_JOB_CONFIG") or "{}")
        except ValueError:
            job = {}
        own = os.environ.get("MANIPLE_RUNTIME_ENV")
        return Settings(job if isinstance(job, dict) else {}, json.loads(own) if own else None)


def run(session: WorkerSession, settings: Settings, born: bool = False) -> int:
    """Works. Gives the exit code. born: it did not attach itself, so that the agent has not heard of it yet."""
    forked()
    _configure(session, settings)
    session.on_end = _agent_gone
    session.outlive(False)
    _signal.signal(CANCEL_SIGNAL, session.interrupted)  # see _template
    _session.set_current(session)
    session.start()
    if born:
        session.send(_FIRST_WORD)
        session.connection.flush()  # it is written before anything is begun
    work(session)
    session.on_end = None
    session.outlive(True)
    session.close("the worker is done")
    return 0


def _configure(session: Session, settings: Settings) -> None:
    """Takes over what the driver said of its job."""
    session.namespace = settings.job.get("namespace") or ""
    sys.path[:0] = [path for path in settings.job.get("sys_path") or () if path not in sys.path]
    sys.path += [path for path in settings.job.get("sys_path_end") or () if path not in sys.path]
    if settings.runtime_env is not None:
        session.runtime_env = settings.runtime_env
        os.environ.pop("MANIPLE_RUNTIME_ENV", "")
        _packages.enter(settings.runtime_env, os.environ.pop("MANIPLE_PACKAGES", ""))


def _build() -> str:
    from maniple import __version__

    return str(__version__)


def _agent_gone(why: str) -> None:
    """The fate rule: a worker does not outlive its agent."""

    def last_words() -> None:
        if why != AGENT_CLOSED:
            note(why)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass

    thread = threading.Thread(target=last_words, daemon=True)
    thread.start()
    thread.join(_LAST_WORDS)
    os._exit(1)


def start_here() -> None:
    """What a process that is not the user's own does first: nothing to read, lines as they come, no Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the driver
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        except (AttributeError, ValueError):
            pass


def finish(code: int) -> None:
    """Ends the process without waiting for threads that users left behind."""
    import atexit

    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    path, key = os.environ.get("MANIPLE_ADDRESS"), os.environ.get("MANIPLE_WORKER")
    if not path or not key:
        sys.exit("maniple: a worker is started by its agent: MANIPLE_ADDRESS and MANIPLE_WORKER are not set")
    start_here()
    try:
        code = run(attach(path, int(key)), Settings.read())
    except ConnectionError as e:
        sys.exit(str(e))
    except ActorExit:
        code = 0
    finish(code)


if __name__ == "__main__":
    # Under its own name: what it defines must be the same as what others import.
    from maniple._worker import main as _main

    _main()
