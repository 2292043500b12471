"""The life of an actor in its worker: one call after the other, on threads, or in an event loop."""

from __future__ import annotations

import asyncio
import collections
import inspect
import queue
import threading
from typing import Any, AsyncIterator, Callable, Dict, List, Optional

from maniple import _execute
from maniple._core import values, wire
from maniple._core.context import running
from maniple._execute import ActorExit, Executor, Job, TaskInterrupt, note
from maniple._flow import Flow
from maniple._prints import speaker
from maniple.actor import _GIVERS, TENSORS, _methods

_GROUP_SHIFT = 24
_DEFAULT = ""
_MAX_NAME = 100  # characters of an actor's text
_LOOK_AFTER = 2.0  # seconds after which a signal is noticed that woke nobody


def live(session: Any, executor: Executor, creation: Job) -> None:
    """Makes the actor and runs its calls until it ends."""
    fields = creation.frame
    groups = {g.get("name") or "": g for g in fields.get("groups") or ()}
    by_method = {m.partition("\t")[0]: name for name, g in groups.items() for m in g.get("methods") or ()}
    sizes = {_DEFAULT: fields.get("concurrency") or 1, **{name: g.get("size") or 1 for name, g in groups.items()}}
    names = list(groups)

    def group_of(job: Job) -> str:
        chosen = job.frame.method >> _GROUP_SHIFT
        if 0 < chosen <= len(names):
            return names[chosen - 1]
        number = job.frame.method & ((1 << _GROUP_SHIFT) - 1)
        return by_method.get(executor.methods[number]["name"], _DEFAULT) if number < len(executor.methods) else _DEFAULT

    if fields.get("asynchronous"):
        _Loop(session, executor, sizes, group_of).live(creation)
    elif not _construct(session, executor, creation):
        return
    elif sizes[_DEFAULT] > 1 or set(groups) - {TENSORS}:
        _on_threads(session, executor, sizes, group_of)
    else:
        inbox = _beside(session, executor, group_of) if groups else session.inbox
        _one_by_one(session, executor, creation.interrupt, inbox)
    if executor.actor is not None:
        session.connection.flush()  # the results so far do not wait for its last method
        _shut(executor)


def _construct(session: Any, executor: Executor, job: Job) -> bool:
    """Runs the constructor; its end is the result of the creation. False: it failed."""
    fields, made = job.frame, []
    cls: Any = None

    def construct(*args: Any, **kwargs: Any) -> None:
        made.append(cls(*args, **kwargs))

    executor.actor_task, executor.actor_job = job.task, job.frame.get("job") or 0
    try:
        cls, _ = executor.target(job)
        executor.methods = _methods(cls)
        if executor.methods[-1]["name"] == TENSORS:
            from maniple._device import keeper

            executor.keeper, session.on_alone = keeper, keeper.free
        _execute.actor_facts.update(
            name=fields.get("name") or "", function=fields.get("function") or 0,
            groups=fields.get("groups") or (), max_pending=fields.get("max_pending", -1), max_task_retries=fields.get("max_task_retries") or 0,
            life=session.sequences.get(job.task, (0, 0))[0], shape=session.shapes.get(fields.get("shape") or 0),
        )  # fmt: skip
        _execute.actor_facts["class"] = f"{cls.__module__}.{cls.__qualname__}"
        executor.target = lambda job: (construct, f"{cls.__qualname__}.__init__")  # type: ignore[method-assign]
    except Exception as e:  # the class can't be had
        executor.fail(job, e, executor.functions.name(fields.get("function") or 0))
        session.ended(job)
        return False
    try:
        executor.run(job, session.guard)
    except ActorExit:
        made.clear()
    finally:
        del executor.target
    session.ended(job)
    if made:
        executor.actor = made[0]
        _introduce(made[0])
    return bool(made)


def _introduce(actor: Any) -> None:
    """By an actor's own text, if its class defines one, it is known where it prints."""
    if type(actor).__repr__ is not object.__repr__:
        try:
            speaker.say(repr(actor)[:_MAX_NAME])
        except Exception as e:
            note(f"__repr__ raised {type(e).__name__}: {e}")


def _one_by_one(session: Any, executor: Executor, interrupt: Any, inbox: Any) -> None:
    """In the order in which calls come, on the main thread. interrupt: reaches that."""
    while True:
        job = None
        try:
            job = inbox.get()
            if job is None:
                return
            if not session.begin(job):
                continue
            job.interrupt = interrupt
            try:
                executor.run(job, session.guard)
            except ActorExit:
                pass  # the end is in the inbox, behind what came before it
            session.ended(job)
        except TaskInterrupt:
            continue
        except Exception as e:
            executor.stray(job, e)


def _giving(session: Any, executor: Executor) -> "Callable[[Job], None]":
    """What has others given tensors that this process keeps, on threads of its own."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(_GIVERS, thread_name_prefix="maniple-giving")

    def run(job: Job) -> None:
        if session.begin(job):
            executor.run(job, lambda job: None)
            session.ended(job)

    return lambda job: (pool.submit(run, job), None)[1]


def _beside(session: Any, executor: Executor, group_of: Any) -> Any:
    """Takes what comes on a thread of its own, and lets those who want tensors have them at once. Gives where the other calls are to be had."""
    calls: Any = queue.SimpleQueue()
    give = _giving(session, executor)

    def sort() -> None:
        job: Any = True
        while job is not None:
            job = session.inbox.get()
            (give if job is not None and group_of(job) == TENSORS else calls.put)(job)

    threading.Thread(target=sort, name="maniple-calls", daemon=True).start()
    return calls


def _on_threads(session: Any, executor: Executor, sizes: Dict[str, int], group_of: Any) -> None:
    """At most so many at a time in each group, each call on a thread of its group. A cancel reaches only calls that wait."""
    from concurrent.futures import ThreadPoolExecutor

    pools = {name: ThreadPoolExecutor(size, thread_name_prefix=f"maniple-{name or 'calls'}") for name, size in sizes.items()}

    def run(job: Job) -> None:
        if not session.begin(job):
            return
        try:
            executor.run(job, lambda job: None)
        except ActorExit:
            pass  # as in _one_by_one
        session.ended(job)

    ended, over = threading.Lock(), []
    ended.acquire()

    def take() -> None:
        why: Optional[BaseException] = None
        try:
            for job in iter(session.inbox.get, None):
                pools[group_of(job)].submit(run, job)
        except BaseException as e:  # noqa: B902: no thread could be started, say: the main one has to know
            why = e
        over.append(why)
        ended.release()

    threading.Thread(target=take, name="maniple-inbox", daemon=True).start()
    while not over:  # the main thread is for signals' handlers
        try:
            ended.acquire(timeout=_LOOK_AFTER)
        except Exception as e:
            executor.stray(None, e)
    if over[0] is not None:
        raise over[0]
    threading.Thread(target=_refuse, args=(session, executor), name="maniple-calls", daemon=True).start()
    for pool in pools.values():
        pool.shutdown(wait=True)


def _refuse(session: Any, executor: Executor) -> None:
    """Answers what comes behind the end, while others still run, which may be for long. Until the end comes again."""
    while True:
        job = session.inbox.get()
        if job is None:
            return
        if session.begin(job):
            executor.died(job, "the actor is ending, and takes no more calls")
            session.ended(job)


class _Loop:
    """An actor with async methods: its calls are coroutines of one event loop, on the main thread."""

    def __init__(self, session: Any, executor: Executor, sizes: Dict[str, int], group_of: Any):
        self.session, self.executor, self.group_of = session, executor, group_of
        self._sizes, self._tasks = sizes, set()  # type: ignore[var-annotated]
        self._come: "collections.deque[Optional[Job]]" = collections.deque()  # and was not begun
        self._give = _giving(session, executor) if TENSORS in sizes else None

    def live(self, creation: Job) -> None:
        """asyncio.run(), which goes on when a signal's handler of the user's raises in the loop itself, as one does that comes while nothing is to be done."""
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            life, error = loop.create_task(self._run_all(creation)), None
            while True:
                try:
                    if life.done():
                        break
                    if error is not None:
                        self.executor.stray(None, error)
                        error = None
                    loop.call_soon(self._start)  # what came when that was raised
                    loop.run_until_complete(life)
                except Exception as e:
                    error = e
            life.result()
        finally:
            _close(loop)

    async def _run_all(self, creation: Job) -> None:
        if not _construct(self.session, self.executor, creation):  # in the loop: what it makes may belong to it
            return
        self._loop = loop = asyncio.get_running_loop()
        self._limits = {name: asyncio.Semaphore(size) for name, size in self._sizes.items()}
        self._done = loop.create_future()
        fetcher = loop.run_in_executor(None, self._fetch, loop)
        await self._done
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self.session.inbox.put(None)
        await fetcher

    def _fetch(self, loop: Any) -> None:
        """Passes what comes to the loop; the batch that is there at once."""
        while True:
            jobs: List[Optional[Job]] = [self.session.inbox.get()]
            while jobs[-1] is not None and not self.session.inbox.empty():
                jobs.append(self.session.inbox.get())
            if self._give is not None:
                for job in [job for job in jobs if job is not None and self.group_of(job) == TENSORS]:
                    jobs.remove(job)
                    self._give(job)
            self._come.extend(jobs)
            loop.call_soon_threadsafe(self._start)
            if None in jobs:
                return _refuse(self.session, self.executor)

    def _start(self) -> None:
        while self._come:
            try:
                while self._come:
                    job = self._come[0]
                    if job is None:
                        self._leave()
                    else:
                        task = self._loop.create_task(self._call(job))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                    self._come.popleft()
            except Exception as e:  # a signal's handler: what was the first is done again
                self.executor.stray(None, e)

    def _leave(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _call(self, job: Job) -> None:
        try:
            async with self._limits[self.group_of(job)]:
                if job.interrupt is not None or not self.session.begin(job):
                    return
                me, loop = asyncio.current_task(), self._loop
                job.interrupt = lambda: loop.call_soon_threadsafe(me.cancel)  # type: ignore[union-attr]
                await self._run(job)
                self.session.ended(job)
        except Exception as e:
            self.executor.stray(job, e)

    async def _run(self, job: Job) -> None:
        executor, name, retry, index = self.executor, "the call", None, [0]
        began, read = _execute.wall(), 0

        def spent() -> _execute.Spent:
            return 0, began, read, _execute.wall()

        try:
            function, name = executor.target(job)
            context = executor.context(job, name)
            context.blocks = False  # it would stop all other calls; see _core.waiting
            running.set(context)
            args, kwargs, retry = executor.arguments(job)
            if args or kwargs:
                read = _execute.wall()
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            _execute.end_child(None)
            if wire.STREAM <= job.returns < wire.DYNAMIC:
                return await self._stream(job, value, index, spent)
            if job.returns == wire.DYNAMIC:
                return executor.stream(job, value, index, began, read)
            executor.succeed(job, value, spent())
        except BaseException as e:  # noqa: B902: errors of the user's code
            _execute.end_child(e)
            if isinstance(e, ActorExit):
                return executor.leave(job, name, spent())  # and the end comes by the inbox
            executor.fail(job, e, name, retry, index[0], spent())
        finally:
            if executor.keeper is not None:
                executor.keeper.sent(self.session, job.task)

    async def _stream(self, job: Job, items: Any, index: List[int], spent: Callable[[], _execute.Spent]) -> None:
        executor, flow = self.executor, Flow(job, self.session.stream_bytes)
        async for item in items if hasattr(items, "__aiter__") else _each(items):
            if _execute.in_child():
                continue  # to its end
            if executor.item(job, item, index, flow):
                await flow.turn(self.session)
            if job.cancelled:
                raise TaskInterrupt
        _execute.end_child(None)
        executor.result(job, index[0], wire.LAST, values.Encoded(wire.RAW, [], b""), spent())


async def _each(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Ends a loop as asyncio.run() does."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _shut(executor: Executor) -> None:
    """The actor's own last method, if it has one."""
    last = getattr(executor.actor, "__ray_shutdown__", None)
    if last is not None:
        try:
            last()
        except Exception as e:
            note(f"__ray_shutdown__ raised {type(e).__name__}: {e}")
