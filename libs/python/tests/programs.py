"""What the tests of workers run: remote functions and classes as a user's module has them."""

import asyncio
import dataclasses
import os
import random
import signal
import sys
import threading
import time

import maniple

HOLD = 60  # seconds that a task takes which is to be interrupted


def mark(path):
    """Says that a task has begun: a file with the process's ID, which is whole when it is there."""
    with open(path + "~", "w") as f:
        f.write(str(os.getpid()))
    os.replace(path + "~", path)


@maniple.remote
def add(a, b=0):
    return a + b


@maniple.remote
def fail(text="no"):
    raise ValueError(text)


@maniple.remote
def nested(depth):
    return depth if depth == 0 else 1 + maniple.get(nested.remote(depth - 1))


@maniple.remote
def look(refs):
    return [type(r).__name__ for r in refs], maniple.get(refs)


@maniple.remote(num_returns=2)
def pair(*args):
    return args


@maniple.remote(num_returns=0)
def nothing():
    return None


@maniple.remote
def count(n, bad_at=None):
    for i in range(n):
        if i == bad_at:
            raise KeyError(i)
        yield i


@maniple.remote(num_returns="dynamic")
def dynamic(n):
    yield from range(n)


@maniple.remote
def hold(path):
    mark(path)
    try:
        time.sleep(HOLD)
    except KeyboardInterrupt:
        with open(path, "a") as f:
            f.write(" interrupted")
        raise
    return "held"


@maniple.remote
def asks_whether(path):
    """Goes on though it was interrupted, and writes what it is told of that."""
    asked = [maniple.get_runtime_context().is_canceled()]
    mark(path)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        asked.append(maniple.get_runtime_context().is_canceled())
    with open(path, "a") as f:
        f.write(f" {asked}")


@maniple.remote
def spin(path):
    """Interrupted in a loop that swallows every Exception."""
    mark(path)
    end = time.monotonic() + HOLD
    while time.monotonic() < end:
        try:
            sum(range(1000))
        except Exception:
            pass


@maniple.remote
def context():
    c = maniple.get_runtime_context()
    return c.get(), c.get_task_name(), os.getpid(), maniple.is_initialized()


@maniple.remote
def randoms():
    return random.random(), random.Random().random(), os.getpid()


@maniple.remote
def leave(how):
    if how == "exit":
        sys.exit(3)
    os._exit(3)


@maniple.remote
def interrupt():
    raise KeyboardInterrupt


class Strange(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} {b}")
        self.a, self.lock = a, threading.Lock()


@maniple.remote
def strange():
    raise Strange(1, 2)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    why: str


@maniple.remote
def odd(words):
    if words == "several":
        raise ExceptionGroup(words, [ValueError(1)]) if sys.version_info >= (3, 11) else ValueError(words)
    if words == "elsewhere":
        raise Elsewhere("n7")
    raise MemoryError(words) if words == "little" else Frozen(words)


class Elsewhere(Exception):
    def __init__(self, node):
        super().__init__("at " + node)
        self.node = node

    @property
    def message(self):
        return "said " + self.node


@maniple.remote
def large(size):
    raise ValueError("x" * size)


@maniple.remote
def unpicklable():
    import threading

    return threading.Lock()


@maniple.remote
def forks(refs, view, n):
    """What a DataLoader does: children that have the parent's references and views, and end."""
    pids = []
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            try:
                code = 0 if sum(view) == 6 and not maniple.is_initialized() else 1
                refs.clear()
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return codes, maniple.get(refs)


def bell(path):
    """From now on SIGUSR1 raises."""

    def rings(signum, frame):
        mark(path)
        raise RuntimeError("the bell")

    signal.signal(signal.SIGUSR1, rings)
    return os.getpid()


@maniple.remote(max_retries=0)
def closes_all():
    """Closes what is not its own, as programs do that make a daemon of themselves."""
    os.closerange(3, 4096)
    return "closed"


@maniple.remote
def returns_twice():
    """The child that it forks comes back from it, too. Whether that ended."""
    pid, deadline = os.fork(), time.monotonic() + HOLD / 6
    while pid and time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return "the child ended"
        time.sleep(0.01)
    return "the child lives" if pid else "this is the child"


@maniple.remote
class Counter:
    def __init__(self, n=0, path=None):
        self.n = n
        if path:
            bell(path)

    def add(self, n=1):
        self.n += n
        return self.n

    def fail(self):
        raise ValueError("of the actor")

    def pid(self):
        return os.getpid()

    def items(self, n):
        yield from range(n)

    def hold(self, path):
        mark(path)
        time.sleep(HOLD)

    def me(self):
        return maniple.get_runtime_context().current_actor

    def leave(self):
        maniple.actor.exit_actor()

    def sends_and_raises(self):
        """As a signal's handler that raises right behind its result."""
        from maniple._core.session import current

        executor = current().executor
        result = executor.result

        def sends(*args):
            del executor.result
            result(*args)
            raise RuntimeError("the bell")

        executor.result = sends
        return "sent"

    def forks(self, refs, view, n):
        return forks._function(refs, view, n)


@maniple.remote
class Broken:
    def __init__(self):
        raise RuntimeError("can't be made")

    def f(self):
        return 1


@maniple.remote
class Async:
    def __init__(self, path=None):
        self.event, self.inside, self.most = asyncio.Event(), 0, 0
        if path:
            bell(path)

    async def pid(self):
        return os.getpid()

    async def wait(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.event.wait()
        self.inside -= 1
        return maniple.get_runtime_context().get_task_id()

    async def go(self):
        self.event.set()
        return self.most

    async def hold(self, path):
        mark(path)
        await asyncio.sleep(HOLD)

    async def items(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def passes_on(self, refs):
        return await refs[0]

    async def leave(self):
        maniple.actor.exit_actor()


@maniple.remote(concurrency_groups={"io": 2, "one": 1})
class Grouped:
    def __init__(self):
        import threading

        self.barrier, self.names = threading.Barrier(2), set()

    @maniple.method(concurrency_group="io")
    def meet(self):
        """Returns only if two are here at a time."""
        self.barrier.wait(20)
        return True

    @maniple.method(concurrency_group="one")
    def alone(self):
        return True

    def plain(self):
        return True
