"""Real workers, forked from a real template, and the driver: what a user sees."""

import asyncio
import os
import sys
import threading
import time

import pytest

import maniple
import programs
from maniple import exceptions
from maniple._core import wire
from maniple.util import ActorPool, Queue
from scripted import PATIENCE, STREAM_BYTES

get = maniple.get


def written(path, words=""):
    """Waits for a file to be there and to have the words."""
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and words in path.read_text()):
        assert time.monotonic() < deadline, f"{path} is not written"
        threading.Event().wait(0.005)


def test_a_worker_that_closes_its_connection_ends(cluster):  # PY-4
    with pytest.raises(exceptions.WorkerCrashedError):
        get(programs.closes_all.remote(), timeout=PATIENCE)
    assert get(programs.add.remote(1, b=2)) == 3


def test_results_and_arguments(cluster):
    a = programs.add.remote(1, b=2)
    assert get(programs.add.remote(a, b=maniple.put(10))) == 13
    assert get([programs.add.remote(i) for i in range(20)]) == list(range(20))
    assert get(programs.add.remote("a" * 300_000, "b")) == "a" * 300_000 + "b"


def test_who_waits_again_and_again(cluster):
    """A worker and a driver that are in step read by themselves; what others have to say to them reaches them all the same."""
    echo = programs.Counter.remote()
    a = maniple.put(1)
    for i in range(40):  # with a reference inside, which takes another way through the worker
        assert get(programs.add.remote(i, 1)) == i + 1
        assert get(programs.look.remote([a])) == (["ObjectRef"], [1])
        assert get(echo.add.remote(1)) == i + 1
    assert get(programs.add.remote("a" * 300_000, "b")) == "a" * 300_000 + "b"
    assert get(programs.add.remote(1, 1)) == 2


def test_threads_that_wait_side_by_side(cluster):
    wrong = []

    def ask(n):
        for i in range(50):
            if get(programs.add.remote(n, i)) != n + i:
                wrong.append((n, i))

    threads = [threading.Thread(target=ask, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_references_inside_of_arguments_stay_references(cluster):
    a = programs.add.remote(1)
    assert get(programs.look.remote([a, maniple.put(5)])) == (["ObjectRef", "ObjectRef"], [1, 5])


def test_captured_values_and_references(cluster):
    ref, n = maniple.put(40), 2

    @maniple.remote
    def captures():
        return maniple.get(ref) + n

    assert get(captures.remote()) == 42


def test_functions_and_classes_that_name_themselves(cluster):
    """Of a script's own the code names itself, and is read back around that: with its defaults, and its methods."""

    @maniple.remote
    def down(n, step=1, *, floor=0):
        return n if n <= floor else get(down.remote(n - step))

    @maniple.remote
    class Tree:
        def __init__(self, depth=0):
            self.depth = depth

        @maniple.method(num_returns=2)
        def count(self):
            below = get(Tree.options(num_cpus=0).remote(self.depth - 1).count.remote()) if self.depth else [0, 0]
            return 1 + below[0], self.depth

    assert get(down.remote(3)) == 0
    assert get(Tree.remote(2).count.remote()) == [3, 2]


def test_nested_tasks_unblock(cluster):
    assert get(programs.nested.remote(5)) == 5
    assert cluster.seen["AWAITS"] >= 5 and cluster.seen["AWAITS"] == cluster.seen["UNBLOCKED"]


def test_several_results_and_none(cluster):
    assert get(programs.pair.remote(1, "b")) == [1, "b"]
    assert programs.nothing.remote() is None
    for ref in programs.pair.remote(1, 2, 3):
        with pytest.raises(ValueError, match="num_returns=2"):
            get(ref)


def test_errors_are_the_user_s(cluster):
    with pytest.raises(ValueError, match="no") as e:
        get(programs.fail.remote())
    assert isinstance(e.value, exceptions.TaskError) and "programs.py" in str(e.value) and e.value.pid != os.getpid()
    assert "_execute.py" not in str(e.value)
    with pytest.raises(ValueError, match="no"):  # through a task that depends on it
        get(programs.add.remote(programs.fail.remote()))
    with pytest.raises(TypeError, match="lock"):
        get(programs.unpicklable.remote())
    for ref, kind in ((programs.interrupt.remote(), KeyboardInterrupt), (programs.leave.remote("exit"), SystemExit)):
        with pytest.raises(exceptions.TaskError, match=kind.__name__) as e:  # which would end this process without a word
            get(ref)
        assert type(e.value.cause) is kind and not isinstance(e.value, kind)


def test_errors_that_pickle_can_not_make_again(cluster):
    with pytest.raises(programs.Strange) as e:  # whose __init__ wants other arguments than it passes on
        get(programs.strange.remote())
    assert str(e.value.cause) == "1 2" and e.value.cause.a == 1 and not hasattr(e.value.cause, "lock") and isinstance(e.value, exceptions.TaskError)
    for kind, words in ((ExceptionGroup, "several") if sys.version_info >= (3, 11) else (ValueError, "several"), (MemoryError, "little"), (programs.Frozen, "frozen")):
        with pytest.raises(kind, match=words) as e:
            get(programs.odd.remote(words))
        assert isinstance(e.value, exceptions.TaskError) and type(e.value.cause) is kind
    with pytest.raises(programs.Elsewhere, match="at n7") as e:  # with fields of the names that a TaskError has, one of which can't be set
        get(programs.odd.remote("elsewhere"))
    assert e.value.node == "n7" and e.value.message == "said n7" and f"pid={e.value.pid}" in str(e.value)


def test_errors_whose_text_no_frame_takes(cluster):
    with pytest.raises(ValueError, match="half") as e:  # a half character
        get(programs.fail.remote("half \ud800"))
    assert e.value.args == ("half \ud800",) and e.value.message == "half \\ud800"
    with pytest.raises(exceptions.TaskError, match=r"\.\.\. \(70000000 characters\)") as e:  # more than a message has
        get(programs.large.remote(70_000_000))
    assert e.value.type_name == "ValueError" and len(str(e.value)) < 2 << 20


def test_a_worker_that_dies(cluster):
    with pytest.raises(exceptions.WorkerCrashedError):
        get(programs.leave.remote("die"))
    assert get(programs.add.remote(1)) == 1


def test_generators(cluster):
    assert [get(r) for r in programs.count.remote(4)] == [0, 1, 2, 3]
    items = programs.count.remote(3, bad_at=2)
    assert [get(next(items)), get(next(items))] == [0, 1]
    with pytest.raises(KeyError):
        get(next(items))
    with pytest.raises(StopIteration):
        next(items)
    assert get(list(get(programs.dynamic.remote(3)))) == [0, 1, 2]


def test_a_generator_that_several_read(cluster):
    stream, taken = programs.count.remote(300), []

    def read():
        for ref in stream:
            taken.append(get(ref))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(taken) == list(range(300)) and not [t for t in threads if t.is_alive()]

    async def read_on(stream):
        return [await ref async for ref in stream]

    async def both(stream):
        return await asyncio.gather(read_on(stream), read_on(stream))

    one, other = asyncio.run(both(programs.count.remote(300)))
    assert sorted(one + other) == list(range(300))


def test_a_generator_that_is_held_back(cluster, tmp_path):
    @maniple.remote(_generator_backpressure_num_objects=1)
    def writes(path):
        for i in range(3):
            with open(path, "a") as f:
                f.write(str(i))
            yield i

    path = tmp_path / "out"
    items = writes.remote(str(path))
    first = next(items)
    assert get(first) == 0
    assert get(programs.add.remote(1)) == 1 and path.read_text() == "0"
    assert [get(r) for r in items] == [1, 2] and path.read_text() == "012"


def test_cancel_of_a_running_task(cluster, tmp_path):
    path = tmp_path / "held"
    ref = programs.hold.remote(str(path))
    written(path)
    began = time.monotonic()
    maniple.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        get(ref)
    assert time.monotonic() - began < 5 and "interrupted" in path.read_text()
    path.unlink()
    ref = programs.spin.remote(str(path))
    written(path)
    maniple.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        get(ref)


def test_a_task_can_ask_whether_it_was_cancelled(cluster, tmp_path):
    path = tmp_path / "asked"
    ref = programs.asks_whether.remote(str(path))
    written(path)
    maniple.cancel(ref)
    written(path, "[False, True]")
    with pytest.raises(RuntimeError):
        maniple.get_runtime_context().is_canceled()


def test_cancel_by_force(cluster, tmp_path):
    path = tmp_path / "held"
    ref = programs.hold.remote(str(path))
    written(path)
    pid = int(path.read_text())
    maniple.cancel(ref, force=True)
    with pytest.raises(exceptions.WorkerCrashedError):
        get(ref)
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline


def test_the_context_of_a_task(cluster):
    (facts, name, pid, initialized) = get(programs.context.remote())
    assert facts["job_id"] == "1" and facts["node_id"] == "n1" and len(facts["task_id"]) == 32 and "actor_id" not in facts
    assert facts["namespace"] == "test" and name == "context" and pid != os.getpid() and initialized
    assert maniple.get_runtime_context().get_task_id() is None


def test_forked_workers_are_not_alike(cluster, tmp_path):
    paths = [tmp_path / str(i) for i in range(2)]
    held = [programs.hold.remote(str(p)) for p in paths]  # so that two others have to be forked
    for p in paths:
        written(p)
    seen = {}
    for _ in range(20):
        first, second, pid = get(programs.randoms.remote())
        seen.setdefault(pid, (first, second))
    for ref in held:
        maniple.cancel(ref)
    values = list(seen.values())
    assert len({v[0] for v in values}) == len(values)


def test_forks_inside_of_tasks_and_actors(cluster):  # PY-3
    refs, view = [maniple.put(1), maniple.put(2)], [1, 2, 3]
    assert get(programs.forks.remote(refs, view, 4)) == ([0] * 4, [1, 2])
    a = programs.Counter.remote()
    assert get(a.forks.remote(refs, view, 4)) == ([0] * 4, [1, 2])


def test_a_fork_that_comes_to_the_end_of_its_task(cluster, tmp_path):
    """It ends as a program does: with its exit code, and without a word of its own to the agent."""

    def fork(how):
        pid = os.fork()
        if pid == 0 and how == "raises":
            raise ValueError("in the child")
        if pid == 0 and how == "exits":
            sys.exit(5)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "of the child"

    @maniple.remote
    class Sync:
        def fork(self, how):
            return fork(how)

    @maniple.remote
    class Async:
        async def fork(self, how):
            return fork(how)

    @maniple.remote
    def items(how):
        yield fork(how)

    task, sync, coroutine = maniple.remote(lambda how: fork(how)), Sync.remote(), Async.remote()
    for how, code in (("returns", 0), ("raises", 1), ("exits", 5)):
        refs = [task.remote(how), sync.fork.remote(how), coroutine.fork.remote(how), *items.remote(how)]
        assert get(refs, timeout=PATIENCE) == [code] * 4, how


def test_actors(cluster):
    a = programs.Counter.remote(10)
    assert get([a.add.remote() for _ in range(50)]) == list(range(11, 61))
    with pytest.raises(ValueError, match="of the actor"):
        get(a.fail.remote())
    assert [get(r) for r in a.items.remote(3)] == [0, 1, 2]
    assert get(a.pid.remote()) != os.getpid()
    assert get(a.__ray_ready__.remote()) is None

    @maniple.remote
    def uses(handle):
        return maniple.get(handle.add.remote(100))

    assert get(uses.remote(a)) == 160
    assert get(get(a.me.remote()).add.remote()) == 161


def test_actors_end(cluster, tmp_path):
    broken = programs.Broken.remote()
    with pytest.raises(exceptions.ActorDiedError):
        get(broken.f.remote())
    a = programs.Counter.remote()
    path = tmp_path / "held"
    held, pid = a.hold.remote(str(path)), get(programs.Counter.remote().pid.remote())
    written(path)
    maniple.kill(a)
    with pytest.raises(exceptions.ActorDiedError):
        get(held)
    with pytest.raises(exceptions.ActorDiedError, match="killed"):
        get(a.add.remote())
    b = programs.Counter.remote()
    last, after = b.leave.remote(), b.add.remote()
    with pytest.raises(exceptions.ActorDiedError, match=r"exit_actor\(\)"):
        get(last)
    assert get(after) == 1 and pid


@pytest.mark.parametrize("kind", ["one by one", "on threads", "async"])
def test_an_actor_that_has_left_takes_no_call(cluster, kind):
    made = {"one by one": programs.Counter, "on threads": programs.Counter.options(max_concurrency=2), "async": programs.Async}[kind]
    for i in range(20):
        a = made.remote()
        call = a.go if kind == "async" else a.add
        for _ in range(i % 2):
            get(call.remote())
        with pytest.raises(exceptions.ActorDiedError, match=r"exit_actor\(\)"):
            get(a.leave.remote())
        for _ in range(3):
            with pytest.raises(exceptions.ActorDiedError):
                get(call.remote(), timeout=PATIENCE)


def test_an_actor_that_leaves_takes_no_call_while_others_run(cluster, tmp_path):
    for made in (programs.Counter.options(max_concurrency=2), programs.Async):
        a, path = made.remote(), tmp_path / ("async" if made is programs.Async else "threads")
        a.hold.remote(str(path))
        written(path)
        with pytest.raises(exceptions.ActorDiedError, match=r"exit_actor\(\)"):
            get(a.leave.remote())
        with pytest.raises(exceptions.ActorDiedError):
            get((a.go if made is programs.Async else a.add).remote(), timeout=PATIENCE)


def test_cancel_of_an_actor_s_call(cluster, tmp_path):
    a, path = programs.Counter.remote(), tmp_path / "held"
    ref = a.hold.remote(str(path))
    written(path)
    maniple.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        get(ref)
    assert get(a.add.remote()) == 1


def test_async_actors(cluster, tmp_path):
    a = programs.Async.remote()
    waits = [a.wait.remote() for _ in range(20)]
    deadline = time.monotonic() + PATIENCE
    first = get(a.go.remote())
    assert 1 <= first <= 20 and time.monotonic() < deadline
    assert len(set(get(waits))) == 20  # each knows its own task
    assert [get(r) for r in a.items.remote(3)] == [0, 1, 2]
    assert get(a.passes_on.remote([maniple.put("x")])) == "x"
    path = tmp_path / "held"
    held = a.hold.remote(str(path))
    written(path)
    maniple.cancel(held)
    with pytest.raises(exceptions.TaskCancelledError):
        get(held)


def test_concurrency_groups(cluster):
    a = programs.Grouped.remote()
    assert get([a.meet.remote(), a.meet.remote(), a.alone.remote(), a.plain.remote()]) == [True] * 4
    assert get([a.plain.options(concurrency_group="one").remote()]) == [True]
    threaded = programs.Counter.options(max_concurrency=4).remote()
    assert sorted(get([threaded.add.remote() for _ in range(10)]))[-1] == 10


def test_named_actors_across_processes(cluster):
    a = programs.Counter.options(name="shared").remote(5)
    get(a.add.remote())

    @maniple.remote
    def finds():
        return maniple.get(maniple.get_actor("shared").add.remote())

    assert get(finds.remote()) == 7
    same = programs.Counter.options(name="shared", get_if_exists=True).remote(100)
    assert same == a and get(same.add.remote()) == 8


def test_pool(cluster):
    pool = ActorPool([programs.Counter.remote(i) for i in (0, 0)])
    assert list(pool.map(lambda a, v: a.add.remote(v - v), range(5))) == [0] * 5
    assert sorted(pool.map_unordered(lambda a, v: a.add.remote(0), range(4))) == [0] * 4
    pool.submit(lambda a, v: a.fail.remote(), 1)
    with pytest.raises(ValueError, match="of the actor"):
        pool.get_next()
    assert pool.has_free() and not pool.has_next()
    one = pool.pop_idle()
    with pytest.raises(ValueError, match="already"):
        pool.push(pool._idle[0])
    pool.push(one)
    with pytest.raises(StopIteration):
        pool.get_next()


def test_a_pool_goes_on_without_an_actor_that_died(cluster):
    pool = ActorPool([programs.Counter.remote(1), programs.Counter.remote(1)])
    for how in ("exit", 1, 1, 1, 1):
        pool.submit(lambda a, v: a.leave.remote() if v == "exit" else a.add.remote(v), how)
    ended = 0
    while pool.has_next():
        try:
            assert pool.get_next_unordered(timeout=PATIENCE) > 1
        except exceptions.ActorDiedError:
            ended += 1
    assert ended == 1 and len(pool._idle) == 1


def test_a_call_on_a_thread_sees_that_it_is_cancelled(cluster, tmp_path):
    with pytest.raises(RuntimeError, match="driver"):
        maniple.get_runtime_context().is_canceled()

    @maniple.remote(max_concurrency=2)
    class Threads:
        def wait(self, path):
            programs.mark(path)
            while not maniple.get_runtime_context().is_canceled():
                time.sleep(0.005)
            with open(path, "a") as f:
                f.write(" saw it")

        def is_canceled(self):
            return maniple.get_runtime_context().is_canceled()

    threads, path = Threads.remote(), tmp_path / "call"
    ref = threads.wait.remote(str(path))
    written(path)
    assert get(threads.is_canceled.remote()) is False
    maniple.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        get(ref)
    written(path, "saw it")

    @maniple.remote
    class Coroutines:
        async def ask(self):
            return maniple.get_runtime_context().is_canceled()

    with pytest.raises(RuntimeError, match="async"):
        get(Coroutines.remote().ask.remote())


def test_queue(cluster):
    from queue import Empty, Full

    queue = Queue(maxsize=2)
    queue.put(1)
    queue.put_nowait("b")
    assert (len(queue), queue.full(), queue.empty()) == (2, True, False)
    with pytest.raises(Full):
        queue.put(3, timeout=0.01)
    with pytest.raises(Full):
        queue.put_nowait_batch([3])
    assert queue.get() == 1 and queue.get_nowait_batch(1) == ["b"]
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    with pytest.raises(Empty):
        queue.get_nowait()

    @maniple.remote
    def fills(q):
        q.put("from a task")

    fills.remote(queue)
    assert queue.get(timeout=PATIENCE) == "from a task"
    queue.shutdown()


def test_retries_are_for_the_types_that_were_named(cluster):
    named = programs.fail.options(retry_exceptions=[KeyError])
    ref = named.remote()
    with pytest.raises(ValueError):
        get(ref)
    assert cluster.objects[ref.binary()][0] & wire.FINAL
    ref = programs.fail.options(retry_exceptions=[ValueError]).remote()
    with pytest.raises(ValueError):
        get(ref)
    assert not cluster.objects[ref.binary()][0] & wire.FINAL


def noted(path, count, wait=30.0):
    """How many items were made, once they are so many, or time is up."""
    end = time.monotonic() + wait
    while time.monotonic() < end and (not path.exists() or len(path.read_text()) < count):
        time.sleep(0.01)
    return len(path.read_text())


def test_a_generator_is_held_by_the_bytes_that_nobody_took(cluster, tmp_path):
    @maniple.remote
    def makes(path, count, size):
        for i in range(count):
            with open(path, "a") as f:
                f.write(".")
            yield bytes([i % 256]) * size

    half = STREAM_BYTES // 2
    path = tmp_path / "large"
    items = makes.remote(str(path), 5, half)
    assert noted(path, 1) == 1 and get(programs.add.remote(1)) == 1 and len(path.read_text()) == 1
    for i in range(5):
        assert get(next(items))[:1] == bytes([i])
        assert noted(path, min(i + 2, 5)) == min(i + 2, 5)
    assert next(items, None) is None

    path = tmp_path / "small"
    count = 2 * STREAM_BYTES >> 10
    items = makes.remote(str(path), count, 1)
    assert get(programs.add.remote(1)) == 1
    ahead = noted(path, count, 0.5)
    assert count // 3 < ahead < count // 2
    assert sum(1 for _ in items) == count

    for name, lifts in (("dropped", lambda items: None), ("awaited", lambda items: get(items.completed()))):
        path = tmp_path / name
        items = makes.remote(str(path), 5, half)
        assert noted(path, 1) == 1
        lifts(items)
        del items
        assert noted(path, 5) == 5

    path = tmp_path / "free"
    items = makes.options(_generator_backpressure_num_objects=-1).remote(str(path), 5, half)
    assert noted(path, 5) == 5 and len([get(r) for r in items]) == 5


def test_an_async_actor_goes_on_while_its_streams_are_held(cluster, tmp_path):
    @maniple.remote
    class Many:
        async def slow(self, path):
            for i in range(3):
                with open(path, "a") as f:
                    f.write(".")
                yield bytes(STREAM_BYTES)

        def plain(self, path):
            for i in range(3):
                with open(path, "a") as f:
                    f.write(".")
                yield bytes(STREAM_BYTES)

        async def add(self, n):
            return n + 1

    many = Many.remote()
    paths = [tmp_path / str(i) for i in range(40)]
    streams = [(many.slow if i % 2 else many.plain).remote(str(p)) for i, p in enumerate(paths)]
    assert [noted(p, 1) for p in paths] == [1] * 40
    assert get(many.add.remote(1)) == 2
    assert [len([get(r) for r in s]) for s in reversed(streams)] == [3] * 40


def test_a_held_generator_is_cancelled(cluster, tmp_path):
    @maniple.remote
    def makes(path):
        try:
            for i in range(3):
                yield bytes(STREAM_BYTES)
        finally:
            path.write_text("over")

    items = makes.remote(tmp_path / "end")
    assert len(get(next(items))) == STREAM_BYTES
    get(next(items))
    items.close()
    written(tmp_path / "end")
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in items:
            get(ref)


def test_who_waits_for_a_generator_asks_for_its_next_item(cluster):
    @maniple.remote(_generator_backpressure_num_objects=1)
    def counts(n):
        yield from range(n)

    items, got = counts.remote(4), []
    while maniple.wait([items], timeout=20)[0]:
        ref = next(items, None)
        if ref is None:
            break
        got.append(get(ref))
    assert got == [0, 1, 2, 3]
