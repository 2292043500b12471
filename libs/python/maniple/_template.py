"""The warm process that workers are forked from.

    python -m maniple._template [MODULE...]

It imports, checks itself, attaches, and forks a worker for each Fork frame. It never uses what it imported: a
library that had started its threads here would hang in the child. A module that leaves more than imports
behind (a thread, a socket, a GPU) is named on stderr, and the process starts again without it.

The modules that MANIPLE_PRELOAD names, with commas between them, take seconds to import: so the first template starts a second one with
them once it serves, and the agent has that one fork as soon as it attaches. The first one goes on for the workers that it has.

It has one thread, tells the agent, which is not their parent, when its children end, and passes on what they print (_prints).
"""

from __future__ import annotations

import _signal  # signal's own signal looks up names for numbers, which each new worker would copy sixty pages for
import errno
import gc
import os
import select
import signal
import socket
import sys
import time
from importlib import import_module
from struct import Struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from maniple import _worker
from maniple._core import dial, frames, twin, wire
from maniple._core.wire import HEADER, HEADER_SIZE
from maniple._prints import Prints, close, speaker

# Pools that libraries have from their import on and that are whole in a child: threads by module.
KNOWN_THREADS = {"pyarrow": 1}
_DEVICES = ("/dev/nvidia", "/dev/infiniband", "/dev/kfd", "/dev/dri", "/dev/cxi", "/dev/hfi", "/dev/ipath", "/dev/shm/psm")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_set_here: List[str] = []  # of these, what nobody had set: while it imports
_WITHOUT = "--without="
_PRELOAD = "MANIPLE_PRELOAD"
_SECOND_ENDS = 1.0  # seconds that a second template has to pass on its workers' last lines
_LAST_LINES = 200  # milliseconds without a line after which a template that is to end looks for no more
_LARGE, _NEARLY = 16 << 20, 0.9  # bytes of a mapping that is worth the work; which part of one is in use that has few holes
_INT = Struct("@i")
_ONE_DESCRIPTOR = socket.CMSG_LEN(_INT.size)
_AT_ONCE = 8  # workers that are made together at most: the agent hears of them when all are
_RUNNING, _ENDED = frames.RANK_PHASE_RUNNING, frames.RANK_PHASE_ENDED  # WorkerState.phase
# What every worker needs.
_OWN = (*twin.MODULES, "maniple._worker", "maniple._actor_host", "maniple.actor", "maniple._api", "maniple._init", "concurrent.futures.thread", "cloudpickle", "json", "hashlib")


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> Dict[int, str]:
    """What each open descriptor is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing
            pass
    return found


def unfit(before: Set[int], allowed_threads: int) -> Optional[str]:
    """What makes this process unfit to fork from; None if nothing does. before: descriptors that it began with."""
    count = threads()
    if count > allowed_threads:
        return f"{count - 1} threads run"
    for fd, what in descriptors().items():
        if fd in before:
            continue
        if what.startswith("socket:") or what == "anon_inode:[eventpoll]":
            return f"descriptor {fd} is {what}"
        if what.startswith(_DEVICES):
            return f"{what} is open"
    return None


def warm(modules: Sequence[str], without: Set[str]) -> Optional[str]:
    """Imports what it can of modules. The one that made this process unfit, None if none did."""
    before, allowed = set(descriptors()), threads()
    for name in [*_OWN, *modules]:
        if name in without:
            continue
        try:
            import_module(name)
        except Exception as e:  # whatever an import raises: the worker that needs it will say it too
            _say(f"{name} can't be imported here ({type(e).__name__}: {e}): workers start without it")
            continue
        allowed += KNOWN_THREADS.get(name, 0)
        why = unfit(before, allowed)
        if why:
            _say(f"after importing {name} {why}: workers import it themselves")
            return name
    return None


def reseed() -> None:
    """Makes what would be the same in all children their own; the module random has seen to itself."""
    generators, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if generators is not None:
        generators.seed(int.from_bytes(os.urandom(4), "little"))
    if torch is not None:
        torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)  # devices have none before their first use
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = os.urandom(32)


def pools() -> Any:
    """What sets the thread counts of the libraries that were imported here; None if there is nothing to set."""
    if "numpy" not in sys.modules and "scipy" not in sys.modules:
        return None
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()  # it looks through all that is loaded, which takes longer than a fork


def thread_count() -> int:
    """What the environment says of threads; 0: nothing."""
    try:
        return max(0, int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]))
    except ValueError:
        return 0


def set_threads(known: Any) -> None:
    """Thread counts by the libraries' own calls: OMP_NUM_THREADS is not read after an import. known: pools."""
    count = thread_count()
    if not count:
        return
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    if known is not None:
        known.limit(limits=count)


def unset() -> None:
    """Takes back what this process had set for its imports: workers load libraries of their own."""
    for name in _set_here:
        os.environ.pop(name, None)


def compact() -> None:
    """Puts large memory that is nearly full into huge pages, where the kernel can: a fork copies one entry for each of them in place of 512. What has
    torch has 300 MiB, whose entries are most of its fork."""
    if twin.fast is None:
        return
    here, size = (0, 0), 0  # of the mapping that is described
    try:
        with open("/proc/self/smaps") as f:
            for line in f:
                first, _, rest = line.partition(" ")
                if not first.endswith(":"):
                    words = rest.split()
                    own = words[0] == "rw-p" and (len(words) == 4 or words[4] == "[heap]")
                    start, _, end = first.partition("-")
                    here = (int(start, 16), int(end, 16)) if own else (0, 0)
                    size = here[1] - here[0]
                elif first == "Anonymous:" and size >= _LARGE and int(rest.split()[0]) << 10 >= size * _NEARLY:
                    twin.fast.huge(*here)
    except OSError:  # no such file: nothing is gained
        pass


class Environment:
    """What this process has in its environment for the next child: mostly what the last one had, and then a child has nothing to set."""

    def __init__(self) -> None:
        self._before: Dict[str, Optional[str]] = {}  # of what was set for children, what the template had

    def take(self, pairs: Sequence[str]) -> None:
        """Pairs are K=V, over what the template had; K without a value goes away."""
        wanted = {name: value if equals else None for name, equals, value in (pair.partition("=") for pair in pairs)}
        for name in [n for n in self._before if n not in wanted]:
            _put(name, self._before.pop(name))
        for name, value in wanted.items():
            has = os.environ.get(name)
            self._before.setdefault(name, has)
            if has != value:
                _put(name, value)


def _put(name: str, value: Optional[str]) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def child(path: str, key: int, born: Any, known: Any, already: int, settings: "Tuple[int, _worker.Settings]") -> None:
    """The life of a forked worker. born: its session, if that is there; known, already: as _Template; settings: what its environment says
    of threads and of its job, read before the fork. Does not return."""
    code = 1
    try:
        gc.freeze()  # or what the template has made since it began would be looked through here at once
        gc.enable()
        reseed()
        if settings[0] != already:
            set_threads(known)
        code = _worker.run(born or _worker.attach(path, key), settings[1], born is not None)
        _worker.finish(code)
    except ConnectionError as e:
        _say(str(e))
    except SystemExit:
        code = 0
    except BaseException as e:  # noqa: B902: nothing may come back into the template's loop
        import traceback

        traceback.print_exception(type(e), e, e.__traceback__)
    finally:
        os._exit(code)


def second(modules: Sequence[str]) -> int:
    """Starts a template that imports modules, with the environment that this one had. Its process; 0: none could be started."""
    names = [name for name in modules if all(part.isidentifier() for part in name.split("."))]
    environment = {k: v for k, v in os.environ.items() if k not in _set_here}
    try:
        return os.posix_spawn(sys.executable, [sys.executable, "-m", "maniple._template", *names], environment) if names else 0
    except OSError as e:
        _say(f"no process could be started that imports {', '.join(names)} ({e.strerror}): workers import it themselves")
        return 0


def serve(path: str, preload: Sequence[str] = ()) -> None:
    """Forks on demand, and tells of its children's ends, until the agent closes the connection."""
    from maniple import __version__

    sock = dial.dial(path)
    build, key = str(__version__), int(os.environ.get("MANIPLE_WORKER", "0"))
    dial.attach(sock, build, {"name": "template", "pid": os.getpid(), "build": build, "kind": dial.TEMPLATE, "worker": key, "language": "python", "job_config": "", "born": twin.fast is not None})
    pid = second(preload)
    known, already = pools(), int(all(os.environ.get(name) == "1" for name in _ONE_THREAD))
    unset()
    os.environ.pop("MANIPLE_WORKER", None)  # its own: a worker that is attached when it is born needs none
    gc.collect()
    gc.freeze()
    compact()
    template = _Template(sock, path, pid, known, already)
    try:
        if preload and not pid:
            template.alone()
        while template.turn():
            pass
    except ConnectionError:  # the agent is gone, and that is no error of ours
        pass
    template.end()


class _Birth(NamedTuple):
    """A worker that is to be forked: its key, its environment, the ends of its output's pipes, and if it is attached when it is born, the
    descriptor of its connection and its session."""

    key: int
    env: List[str]
    reads: List[int]
    writes: List[int]
    fd: int
    session: Any


def _forks(count: int) -> "Union[List[int], int]":
    """Forks, so many times at most. Gives the processes; in a child, how many were made before it. Raises OSError if there is none."""
    if twin.fast is not None:
        return twin.fast.forks(count)  # type: ignore[no-any-return]
    pid = os.fork()
    return [pid] if pid else 0


class _Template:
    """The loop of a process that forks workers."""

    def __init__(self, sock: Any, path: str, second: int, known: Any, already: int):
        """second: the process of the template after this one; 0: there is none. known: as set_threads; already: the count of threads that they have."""
        self._sock, self._fd, self._path, self._second = sock, sock.fileno(), path, second
        self._pools, self._environment = (known, already), Environment()
        self._children: Dict[int, int] = {}  # keys by pid
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._ending = False
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._poll = select.poll()
        for fd in (sock.fileno(), self._woken):
            self._poll.register(fd, select.POLLIN)
        self.prints = Prints(self._poll, node=os.environ.pop("MANIPLE_MARK_NODE", ""))

    def _terminated(self, signum: int, frame: Any) -> None:
        self._ending = True

    def turn(self) -> bool:
        """Waits for something and does what is there. False: it was the word to end."""
        ready = [fd for fd, _ in self._poll.poll() if not self.prints.event(fd)]
        if self._woken in ready:
            os.read(self._woken, 4096)
            self._reap()
        if self._ending or self._sock.fileno() not in ready:
            return not self._ending
        return self._listen()

    def _listen(self) -> bool:
        """Does what the agent has said. Workers that it asks for one after the other are made together. False: it was the word to end."""
        births: List[_Birth] = []
        kind, wait = 0, 0
        while kind != frames.SHUTDOWN and len(births) < _AT_ONCE:
            try:
                head, came, _, _ = self._sock.recvmsg(HEADER_SIZE, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC | wait)  # recv_fds passes no flags on
            except BlockingIOError:  # that was all
                break
            wait, fds = socket.MSG_DONTWAIT, [_INT.unpack(fd)[0] for _, what, fd in came if what == socket.SCM_RIGHTS]
            if not head:
                kind = frames.SHUTDOWN
                break
            length, body, kind, _, _, _, _, _ = HEADER.unpack(head + dial.exactly(self._sock, HEADER_SIZE - len(head)))
            if length > frames.MAX_MESSAGE or body > length:
                raise wire.ProtocolError(f"a frame of {length} bytes")
            data = dial.exactly(self._sock, length)
            if kind == frames.FORK:
                fields = wire.untable("Fork", data[:body])
                if births and births[0].env != fields["env"]:
                    self._bear(births, fds)
                    births = []
                births += self._conceive(fields, fds)
            close(fds)
        self._bear(births)
        return bool(kind != frames.SHUTDOWN)

    def _conceive(self, fields: Dict[str, Any], fds: List[int]) -> "List[_Birth]":
        """A worker that is to be forked, or none. fds: of one that is attached when it is born, its connection. All that can be made before
        the fork is: here it is warm, and in a child each page that is written for the first time is copied."""
        key, env, pipes, fd, session = fields["key"], fields["env"], self.prints.pipes(), -1, None
        reads, writes = pipes or ([], [])  # without, it prints where this process does
        try:
            self._environment.take(env)
            if fds:
                fd = fds.pop()
                session = _worker.WorkerSession(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd), fields["attached"], self._path)
                session.early()
            elif fields.get("attached"):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # its connection came, and there was no descriptor for it
        except Exception as e:  # of this worker alone: the others go on
            self._stillborn(_Birth(key, env, reads, writes, fd, session), e)
            return []
        return [_Birth(key, env, reads, writes, fd, session)]

    def _bear(self, births: "List[_Birth]", fds: Sequence[int] = ()) -> None:
        """Forks workers that have the same environment. fds: of one that comes after them. Between one and the next nothing runs here: each page that this process writes after a
        fork is copied, too, as long as the child has it."""
        while births:
            try:
                settings = thread_count(), _worker.Settings.read()
                made = _forks(len(births))
            except Exception as e:
                for birth in births:
                    self._stillborn(birth, e)
                return
            if type(made) is int:
                self._begin(births, births[made], fds, settings)
            for birth, pid in zip(births, made):
                self._forget(birth)
                self.prints.add(birth.reads, pid)
                self._children[pid] = birth.key
            self._sock.sendall(b"".join([wire.table("WorkerState", {"key": birth.key, "phase": _RUNNING, "pid": pid}) for birth, pid in zip(births, made)]))
            births = births[len(made) :]

    def _stillborn(self, birth: "_Birth", e: Exception) -> None:
        """There is no process for it."""
        close(birth.reads)
        self._forget(birth)
        why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        self._sock.sendall(wire.table("WorkerState", {"key": birth.key, "phase": _ENDED, "error": f"no process could be forked: {why}"}))

    def _forget(self, birth: "_Birth") -> None:
        """Ends what a child has, or would have had, here."""
        close(birth.writes)
        if birth.session is not None:
            birth.session.connection.forget()
            vars(birth.session).clear()  # else parts of it would hold one another, and nothing is collected here

    def _begin(self, births: "List[_Birth]", own: "_Birth", fds: Sequence[int], settings: Any) -> None:
        """The life of a child. births, fds: as _bear; settings: as child. Does not return."""
        close(fds)
        for birth in births:
            if birth is not own:
                close([*birth.reads, *birth.writes, *([birth.fd] if birth.fd >= 0 else [])])
        self._leave(own.reads, own.writes)
        child(self._path, own.key, own.session, *self._pools, settings)

    def _leave(self, reads: List[int], writes: List[int]) -> None:
        """In a child: nothing of what the template has open stays."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            _signal.signal(number, _signal.SIG_DFL)
        close([self._fd, self._woken, self._wake, *reads])  # the socket's own close runs three functions
        self.prints.leave()
        if writes:
            speaker.take_over(writes)

    def _reap(self) -> None:
        """Tells the agent of each child that has ended."""
        while self._children or self._second:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._second:
                self._second = 0
                self.alone()
            if pid not in self._children:
                continue
            self.prints.ended(pid)
            by_signal = os.WIFSIGNALED(status)
            fields = {
                "key": self._children.pop(pid), "phase": _ENDED, "pid": pid, "code": 0 if by_signal else os.WEXITSTATUS(status),
                "signal": os.WTERMSIG(status) if by_signal else 0, "max_rss": usage.ru_maxrss << 10, "cpu_time": int((usage.ru_utime + usage.ru_stime) * 1e9),
            }  # fmt: skip
            self._sock.sendall(wire.table("WorkerState", fields))

    def alone(self) -> None:
        """Nobody imports what workers would else import themselves: they need not wait."""
        self._sock.sendall(wire.table("WorkerState", {"key": 0, "phase": _ENDED}))

    def end(self) -> None:
        """Passes on what workers printed last, and waits a little for the second template to do the same."""
        self.prints.last(_LAST_LINES)
        if not self._second:
            return
        end = time.monotonic() + _SECOND_ENDS
        try:
            os.kill(self._second, signal.SIGTERM)
            while not os.waitpid(self._second, os.WNOHANG)[0] and time.monotonic() < end:
                time.sleep(0.005)
        except OSError:  # it has ended
            pass


def _say(text: str) -> None:
    sys.stderr.write(f"maniple: template: {text}\n")
    sys.stderr.flush()


def main(argv: List[str]) -> None:
    path = os.environ.get("MANIPLE_ADDRESS")
    if not path:
        sys.exit("maniple: a template is started by its agent: MANIPLE_ADDRESS is not set")
    wanted, here = os.environ.pop("MANIPLE_PYTHON", ""), "%d.%d" % sys.version_info[:2]
    if wanted not in ("", here):
        sys.exit(f"{sys.executable} is Python {here}, and the driver's is {wanted}: functions can't be sent from one to the other; have python={wanted} there")
    without = {arg[len(_WITHOUT) :] for arg in argv if arg.startswith(_WITHOUT)}
    if sys.path and sys.path[0] in ("", os.getcwd()) and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # by -m; what the program has of it comes with its job
    modules = [arg for arg in argv if not arg.startswith(_WITHOUT)]
    preload = [name for name in os.environ.pop(_PRELOAD, "").split(",") if name]
    _set_here[:] = [name for name in _ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(_set_here, "1"))
    gc.disable()
    _worker.start_here()
    bad = warm(modules, without)
    if bad is not None and bad not in _OWN:
        unset()
        os.execv(sys.executable, [sys.executable, "-m", "maniple._template", *argv, _WITHOUT + bad])
    try:
        serve(path, preload)
    except (ConnectionError, wire.ProtocolError) as e:
        sys.exit(str(e))


if __name__ == "__main__":
    from maniple._template import main as _main

    _main(sys.argv[1:])
