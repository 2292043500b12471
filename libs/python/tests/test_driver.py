"""What a driver sends, and what it makes of the answers: against an agent that does what the test says."""

import asyncio
import copy
import gc
import json
import os
import signal
import sys
import threading

import pytest

import maniple
from maniple import _local, _worker, exceptions
from maniple._core import table, wire
from scripted import PATIENCE, Agent, arguments, keys


@maniple.remote
def double(x):
    return 2 * x


@maniple.remote
def collect(*values, k):
    return values, k


@maniple.remote(num_returns=3, num_cpus=0.5, num_gpus=1, max_retries=-1, name="three", resources={"disk": 2}, memory=1000)
def three():
    return 1, 2, 3


def test_a_task_is_one_frame_and_its_code_and_shape_go_before_it_once(driver):
    refs = [double.remote(i) for i in (1, 2)]
    function, shape, first, second = [driver.take() for _ in range(4)]
    assert [f.name for f in (function, shape, first, second)] == ["FUNCTION", "SHAPE", "SUBMIT", "SUBMIT"]
    assert function.fields["name"].endswith("test_driver.double") and function.fields["language"] == "python"
    assert first.fields.function == int.from_bytes(bytes(function.fields["hash"])[:8], "little")
    assert [(r["name"], r["amount"]) for r in shape.fields["resources"]] == [("CPU", 10_000)] and shape.fields["retries"] == 3
    assert first.fields.shape == shape.fields["number"] and first.fields.returns == 1 and first.fields.job == 1
    assert (arguments(first), arguments(second)) == (((1,), {}), ((2,), {}))
    for frame in (second, first):
        driver.result(frame.fields.task, 2 * arguments(frame)[0][0])
    assert maniple.get(refs) == [2, 4] and maniple.get(refs[0]) == 2


def test_options_become_a_shape(driver):
    refs = three.remote()
    frames = {f.name: f for f in [driver.take() for _ in range(3)]}
    shape = frames["SHAPE"].fields
    assert {r["name"]: r["amount"] for r in shape["resources"]} == {"CPU": 5000, "GPU": 10_000, "disk": 20_000, "memory": 10_000_000}
    assert shape["retries"] == -1 and shape["name"] == "three" and shape["max_calls"] == 1
    assert frames["SUBMIT"].fields.returns == 3 and len(refs) == 3
    for i in range(3):
        driver.result(frames["SUBMIT"].fields.task, i, index=i, flags=wire.LAST if i == 2 else 0)
    assert maniple.get(refs) == [0, 1, 2]


def test_the_last_result_that_is_an_error_is_that_of_all_which_are_missing(driver):
    refs = three.remote()
    task = driver.take("SUBMIT").fields.task
    driver.fail(task, "WORKER_DIED", "n1 lost it")
    for ref in refs:
        with pytest.raises(exceptions.WorkerCrashedError, match="n1 lost it"):
            maniple.get(ref)


def test_arguments_that_are_references_are_dependencies_and_those_inside_are_not(driver):
    a = maniple.put(b"raw")
    put = driver.take("PUT")
    assert put.fields.object == a.binary() and put.fields.format == wire.RAW and put.payload == b"raw"
    collect.remote([a, {"b": a}], a, k=a)
    frame = driver.take("SUBMIT")
    assert (frame.fields.deps, frame.fields.refs) == (1, 1)
    assert keys(frame, 2) == [a.binary()] * 2


def test_get_of_an_own_put_asks_nobody(driver):
    ref = maniple.put({"a": [1]})
    driver.take("PUT")
    assert maniple.get(ref) == {"a": [1]} and maniple.get(ref) is not maniple.get(ref)
    driver.none_of("GET")


def in_step(driver):
    """Some round trips, after which who waits reads the socket himself."""
    for i in range(5):
        ref = double.remote(i)
        answer = threading.Thread(target=lambda: driver.result(driver.take("SUBMIT").fields.task, i))
        answer.start()
        assert maniple.get(ref) == i
        answer.join()


@pytest.mark.parametrize("by", ["a timeout", "Ctrl-C"])
def test_a_wait_ends_though_frames_keep_coming(driver, by):
    in_step(driver)
    ref, stop, through = double.remote(1), threading.Event(), threading.Event()

    def talk():
        for i in range(5000):
            driver.credit(0, 0)
            if i == 200 and by == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            if stop.wait(0.001):
                return
        through.set()

    talks = threading.Thread(target=talk)
    talks.start()
    try:
        with pytest.raises(exceptions.GetTimeoutError if by == "a timeout" else KeyboardInterrupt):
            maniple.get(ref, timeout=0.2 if by == "a timeout" else None)
        assert not through.is_set()
    finally:
        stop.set()
        talks.join()


def test_a_shutdown_while_another_thread_waits(driver):
    in_step(driver)
    ref, said = double.remote(1), []

    def wait():
        try:
            maniple.get(ref)
        except exceptions.ManipleError as e:
            said.append(e)

    waits = threading.Thread(target=wait)
    waits.start()
    driver.take("SUBMIT")
    maniple.shutdown()
    waits.join(PATIENCE)
    assert len(said) == 1


def test_another_process_s_reference_is_asked_for_once(driver):
    ref = double.remote(0)
    task = driver.take("SUBMIT").fields.task
    other = wire.key_of(wire.TASK.pack(9, 9, 9), 4)
    encoded = maniple._core.values.encode([maniple.ObjectRef(other)])
    driver.raw_result(task, encoded.format, encoded.payload, refs=[other])
    (inner,) = maniple.get(ref)
    answer = threading.Thread(target=lambda: (driver.take("GET"), driver.result(other[:16], "there", index=4)))
    answer.start()
    assert maniple.get(inner) == "there" and maniple.get([inner, inner]) == ["there", "there"]
    answer.join()
    driver.none_of("GET")


def test_references_are_released_with_the_deliveries_that_were_seen(driver):
    ref = double.remote(0)
    task = driver.take("SUBMIT").fields.task
    other = wire.key_of(wire.TASK.pack(9, 9, 9), 0)
    encoded = maniple._core.values.encode([maniple.ObjectRef(other)])
    driver.raw_result(task, encoded.format, encoded.payload, refs=[other])
    (inner,) = maniple.get(ref)
    key = ref.binary()
    del ref
    gc.collect()
    assert driver.take("RELEASE").fields == (key, 0)
    del inner
    assert driver.take("RELEASE").fields == (other, 1)


def test_an_object_is_released_once_with_its_last_reference(driver):
    ref, behind = double.remote(0), []
    task = driver.take("SUBMIT").fields.task
    other = wire.key_of(wire.TASK.pack(9, 9, 9), 0)
    payload = maniple._core.values.encode([maniple.ObjectRef(other)]).payload
    driver.raw_result(task, wire.PICKLE, payload, refs=[other])
    (first,) = maniple.get(ref)
    again = double.remote(0)
    driver.raw_result(driver.take("SUBMIT").fields.task, wire.PICKLE, payload, refs=[other])
    (second,) = maniple.get(again)
    assert first == second and first is not second
    del ref, first
    gc.collect()
    while driver.take("RELEASE").fields.object != task + b"\0\0\0\0":
        behind.append("released early")
    driver.none_of("RELEASE")
    del again, second
    gc.collect()
    released = [driver.take("RELEASE").fields for _ in range(2)]
    assert (other, 2) in released and not behind


def test_large_results_are_fetched_when_they_are_wanted(driver):
    ref = double.remote(1)
    task = driver.take("SUBMIT").fields.task
    driver.raw_result(task, wire.PICKLE, b"", flags=wire.LAST | wire.LOCATED)
    assert maniple.wait([ref], fetch_local=False) == ([ref], [])
    driver.none_of("GET")
    thread = threading.Thread(target=lambda: (driver.take("GET"), driver.result(task, "large")))
    thread.start()
    assert maniple.get(ref) == "large"
    thread.join()
    early = double.remote(2)
    task = driver.take("SUBMIT").fields.task
    thread = threading.Thread(target=lambda: (driver.raw_result(task, wire.PICKLE, b"", flags=wire.LAST | wire.LOCATED), driver.take("GET"), driver.result(task, "wanted before")))
    thread.start()
    assert maniple.get(early) == "wanted before"
    thread.join()


def test_references_that_code_captured_go_along_with_its_tasks(driver):
    ref = maniple.put("captured")

    @maniple.remote
    def captures():
        return ref

    captures.remote()
    frame = driver.take("SUBMIT")
    assert frame.fields.refs == 1 and keys(frame) == [ref.binary()]


def test_code_that_no_message_holds(driver):
    large = bytes(65 << 20)
    size = maniple.remote(lambda: len(large))
    with pytest.raises(ValueError, match="more than the 63 MiB"):  # it ended the connection, and with that the program
        size.remote()
    double.remote(1)
    assert driver.take("SUBMIT").fields.function


def test_copies_of_references_are_these(driver):
    settings = {"data": [maniple.put(1)], "actor": maniple.remote(type("Made", (), {})).remote()}
    same = copy.deepcopy(settings)
    assert same["data"][0] is settings["data"][0] and copy.copy(same["data"][0]) is same["data"][0] and same["actor"] == settings["actor"]


def test_arguments_may_have_any_name(driver):
    @maniple.remote
    def names(self, args, kwargs):
        return self, args, kwargs

    assert names.remote(self=1, args=2, kwargs=3) is not None
    with pytest.raises(TypeError, match="kwargs"):
        names.remote(self=1, args=2, itself=3)


def test_references_of_another_life_say_so(driver, agent):
    ref = maniple.put(1)
    maniple.shutdown()
    maniple.init(agent.path)
    for use in (lambda: maniple.get(ref), lambda: maniple.wait([ref])):
        with pytest.raises(exceptions.ObjectLostError, match="before a fork or a shutdown"):
            use()


def test_get_with_a_timeout(driver):
    ref = double.remote(1)
    with pytest.raises(exceptions.GetTimeoutError) as e:
        maniple.get(ref, timeout=0.01)
    assert isinstance(e.value, TimeoutError)
    with pytest.raises(exceptions.GetTimeoutError):
        maniple.get([ref], timeout=0)
    driver.result(driver.take("SUBMIT").fields.task, 5)
    assert maniple.get(ref, timeout=20) == 5


def test_get_of_several_raises_as_soon_as_one_failed(driver):
    refs = [double.remote(i) for i in range(3)]
    tasks = [driver.take("SUBMIT").fields.task for _ in refs]
    driver.raises(tasks[1], ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        maniple.get(refs)


def test_wait_keeps_the_order_and_gives_no_more_than_asked_for(driver):
    refs = [double.remote(i) for i in range(4)]
    tasks = [driver.take("SUBMIT").fields.task for _ in refs]
    for i in (3, 1):
        driver.result(tasks[i], i)
    ready, rest = maniple.wait(refs, num_returns=2)
    assert ready == [refs[1], refs[3]] and rest == [refs[0], refs[2]]
    assert maniple.wait(refs, num_returns=1) == ([refs[1]], [refs[0], refs[2], refs[3]])
    assert maniple.wait(refs, num_returns=4, timeout=0.01) == ([refs[1], refs[3]], [refs[0], refs[2]])
    driver.fail(tasks[0], "WORKER_DIED", "gone")
    assert maniple.wait(refs, num_returns=3)[0] == [refs[0], refs[1], refs[3]]


def others(number=9):
    """A reference to an object of another process, as one that came in a value."""
    session = maniple._core.session.current()
    key = wire.key_of(wire.TASK.pack(9, 9, number), 0)
    with session.table.lock:
        session.table.entries[key] = table.REMOTE
        return session.held.delivered_locked(key, False)


def test_wait_asks_only_whether_others_objects_are_there(driver):
    ref = others()
    seen = []

    def answer():
        seen.append(driver.take("GET").fields.want)
        driver.ready(ref.binary(), wire.IS_READY)
        seen.append(driver.take("GET").fields.want)
        driver.result(ref.binary()[:16], "value")

    thread = threading.Thread(target=answer)
    thread.start()
    assert maniple.wait([ref], fetch_local=False) == ([ref], [])
    assert maniple.get(ref) == "value"
    thread.join()
    assert seen == [wire.WANT_READY, wire.WANT_VALUE]


def said(driver):
    """What this process has asked of objects, up to a sign of its own."""
    session = maniple._core.session.current()
    session.connection.flush()
    seen = []
    session.send(wire.GET.pack(0, 0, bytes(wire.KEY_SIZE), 0, 0))
    session.connection.flush()
    while True:
        fields = driver.take("GET").fields
        if fields.object == bytes(wire.KEY_SIZE):
            return seen
        seen.append(fields.want)


def late(driver, ref, *states):
    """Waits for ref to be at this node, while the agent says these of it, and until it has said the last one."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: (maniple.wait([ref]), over.set()))
    thread.start()
    for state in states:
        assert not over.wait(0.05)
        driver.ready(ref.binary(), state)
    assert over.wait(PATIENCE)
    thread.join()


def test_wait_has_what_others_made_brought_to_this_node(driver):
    ref = others()
    assert maniple.wait([ref], timeout=0) == ([], [ref]) == maniple.wait([ref], timeout=0)
    assert said(driver) == [wire.WANT_HERE]  # once
    late(driver, ref, wire.IS_READY, wire.IS_HERE)
    assert maniple.wait([ref], timeout=0) == ([ref], []) == maniple.wait([ref], timeout=0, fetch_local=False)
    assert said(driver) == []


def test_what_is_elsewhere_is_there_for_who_does_not_want_it_here(driver):
    ref = others()
    assert maniple.wait([ref], timeout=0, fetch_local=False) == ([], [ref])
    assert maniple.wait([ref], timeout=0) == ([], [ref])
    assert said(driver) == [wire.WANT_READY, wire.WANT_HERE]
    driver.ready(ref.binary(), wire.IS_READY)
    assert maniple.wait([ref], timeout=PATIENCE, fetch_local=False) == ([ref], [])
    assert maniple.wait([ref], timeout=0) == ([], [ref])
    assert said(driver) == []
    late(driver, ref, wire.IS_HERE)
    failed = others(8)
    assert maniple.wait([failed], timeout=0) == ([], [failed])
    late(driver, failed, wire.IS_ERROR)
    lost = others(7)
    thread = threading.Thread(target=lambda: (driver.take("GET"), driver.ready(lost.binary(), wire.IS_LOST)))
    thread.start()
    assert maniple.wait([lost], timeout=PATIENCE) == ([lost], [])
    thread.join()


def test_a_large_result_that_stayed_elsewhere_is_brought_by_wait(driver):
    ref, mine = double.remote(1), maniple.put(1)
    task = driver.take("SUBMIT").fields.task
    assert maniple.wait([ref, mine], timeout=0) == ([mine], [ref])
    driver.raw_result(task, wire.RAW, b"", flags=wire.LAST | wire.LOCATED)
    assert maniple.wait([ref], timeout=PATIENCE, fetch_local=False) == ([ref], [])
    assert maniple.wait([ref], timeout=0) == ([], [ref])
    assert said(driver) == [wire.WANT_HERE]
    late(driver, ref, wire.IS_READY, wire.IS_HERE)
    other = double.remote(2)  # that is waited for before it comes
    thread = threading.Thread(target=late, args=(driver, other, wire.IS_HERE))
    thread.start()
    driver.raw_result(driver.take("SUBMIT").fields.task, wire.RAW, b"", flags=wire.LAST | wire.LOCATED)
    thread.join()
    assert maniple.wait([other], timeout=0) == ([other], []) and said(driver) == [wire.WANT_HERE]


def test_a_lost_object_is_an_error(driver):
    ref = others()
    thread = threading.Thread(target=lambda: (driver.take("GET"), driver.ready(ref.binary(), wire.IS_LOST)))
    thread.start()
    with pytest.raises(exceptions.ObjectLostError, match=ref.hex()):
        maniple.get(ref)
    thread.join()


@pytest.mark.parametrize("bad,error", [
    (lambda r: maniple.get(3), ValueError), (lambda r: maniple.get([r, 3]), TypeError), (lambda r: maniple.put(r), TypeError),
    (lambda r: maniple.wait(r), TypeError), (lambda r: maniple.wait([r, r]), ValueError), (lambda r: maniple.wait([r], num_returns=2), ValueError),
    (lambda r: maniple.wait([r], num_returns=0), ValueError), (lambda r: maniple.wait([r], timeout=-1), ValueError), (lambda r: maniple.wait([3]), TypeError),
    (lambda r: maniple.wait({r}), TypeError), (lambda r: maniple.kill(r), ValueError), (lambda r: maniple.cancel(3), TypeError), (lambda r: maniple.get_actor(""), ValueError),
    (lambda r: double(1), TypeError), (lambda r: double.remote(lambda: threading.Lock(), threading.Lock()), TypeError),
])  # fmt: skip
def test_wrong_uses_are_errors(driver, bad, error):
    with pytest.raises(error):
        bad(maniple.put(1))


def test_cancel_and_kill_are_frames(driver):
    ref = double.remote(1)
    maniple.cancel(ref, recursive=False)
    assert driver.take("CANCEL").fields == (ref.binary()[:16], 0, 0)
    driver.fail(ref.binary()[:16], "CANCELLED", "by you")
    with pytest.raises(exceptions.TaskCancelledError):
        maniple.get(ref)


def test_futures_and_coroutines(driver):
    good, bad = double.remote(1), double.remote(2)
    futures = [good.future(), bad.future()]

    async def both():
        return await asyncio.gather(good, bad, return_exceptions=True)

    driver.result(good.binary()[:16], "fine")
    driver.raises(bad.binary()[:16], KeyError("k"))
    value, error = asyncio.run(both())
    assert value == "fine" and isinstance(error, KeyError)
    assert futures[0].result(20) == "fine" and isinstance(futures[1].exception(20), KeyError)


def test_an_error_is_the_user_s_type_with_the_remote_traceback(driver):
    class Own(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b

        def __reduce__(self):
            return Own, (self.args[0], self.b)

    ref = double.remote(1)
    try:
        raise Own("oh", 7)
    except Own as e:
        driver.raises(ref.binary()[:16], e)
    with pytest.raises(Own) as caught:
        maniple.get(ref)
    e = caught.value
    assert isinstance(e, exceptions.TaskError) and isinstance(e, exceptions.RayTaskError)
    assert e.b == 7 and e.args == ("oh",) and type(e.cause) is Own
    assert 'raise Own("oh", 7)' in str(e) and "test_driver.py" in str(e)


def test_streams_come_item_by_item(driver):
    @maniple.remote
    def count(n):
        yield from range(n)

    items, task = count.remote(3), None
    whole = items.completed()

    def send():
        nonlocal task
        task = driver.take("SUBMIT").fields.task
        for i in range(3):
            driver.result(task, i * 10, index=i, flags=0)
        driver.raw_result(task, wire.RAW, b"", index=3)

    thread = threading.Thread(target=send)
    thread.start()
    refs = list(items)
    thread.join()
    assert maniple.get(refs) == [0, 10, 20]
    assert items.is_finished() and next(items, None) is None
    assert maniple.get([whole, items.completed()]) == [None, None]


def test_a_stream_s_error_is_its_last_item(driver):
    @maniple.remote
    def count():
        yield 1

    items = count.remote()
    task = driver.take("SUBMIT").fields.task
    driver.result(task, 1, index=0, flags=0)
    driver.raw_result(task, wire.FAILURE, maniple._core.failures.plain("WORKER_DIED", "gone", task), index=1, flags=wire.LAST | wire.ERROR)
    first, second = list(items)
    assert maniple.get(first) == 1
    with pytest.raises(exceptions.WorkerCrashedError):
        maniple.get(second)
    with pytest.raises(exceptions.WorkerCrashedError):
        maniple.get(items.completed())


def test_what_a_dropped_stream_had_is_released(driver):
    @maniple.remote
    def count():
        yield 1

    items = count.remote()
    task = driver.take("SUBMIT").fields.task
    for i in range(3):
        driver.result(task, i, index=i, flags=0)
    first, behind = next(items), double.remote(0)
    driver.result(behind.binary()[:16], 0)
    maniple.get(behind)  # now the items before it have come, too
    del items
    gc.collect()
    dropped = {driver.take("RELEASE").fields.object for _ in range(2)}
    assert dropped == {wire.key_of(task, 1), wire.key_of(task, 2)}
    driver.result(task, 3, index=3, flags=0)
    assert driver.take("RELEASE").fields.object == wire.key_of(task, 3)
    assert maniple.get(first) == 0


def test_streams_can_be_awaited_and_waited_for(driver):
    @maniple.remote(_generator_backpressure_num_objects=2)
    def count():
        yield 1

    items = count.remote()
    assert maniple.wait([items], timeout=0) == ([], [items])
    frame = driver.take("SUBMIT")
    assert frame.fields.returns == wire.STREAM | 2
    driver.result(frame.fields.task, "a", index=0, flags=0)
    assert maniple.wait([items]) == ([items], [])

    async def all_items():
        got = []
        async for ref in items:
            got.append(await ref)
        return got

    def go_on():
        taken = driver.take("GET").fields
        assert taken[0] == wire.key_of(frame.fields.task, 1) and taken.want == wire.WANT_TAKEN
        driver.result(frame.fields.task, "b", index=1, flags=0)
        driver.raw_result(frame.fields.task, wire.RAW, b"", index=2)

    thread = threading.Thread(target=go_on)
    thread.start()
    assert asyncio.run(all_items()) == ["a", "b"]
    thread.join()


def test_a_second_init_is_an_error_and_can_be_asked_not_to_be(driver, agent):
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        maniple.init(agent.path)
    assert maniple.init(agent.path, ignore_reinit_error=True)["node_id"] == "n1"
    assert maniple.is_initialized()
    maniple.shutdown()
    assert not maniple.is_initialized() and driver.take("GOODBYE")


def test_init_says_what_is_wrong(agent, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(_local, "_EVERYWHERE", ())
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for bad, error, words in [
        (dict(address=str(tmp_path / "none.sock")), ConnectionError, "no agent at"),
        (dict(address=agent.path, num_cpus=2), ValueError, "num_cpus"),
        (dict(address="ray://there:10001"), ValueError, "maniple exec"),
        (dict(address="no-such-cluster"), ConnectionError, "no-such-cluster"),
        (dict(adress=agent.path), RuntimeError, "adress"),
        (dict(address=agent.path, namespace=""), ValueError, "namespace"),
    ]:
        with pytest.raises(error, match=words):
            maniple.init(**bad)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(ConnectionError, match="maniple exec"):
        maniple.init()
    agent.refuse = "no room"
    with pytest.raises(ConnectionError, match="no room"):
        maniple.init(agent.path)


def test_the_address_comes_from_the_environment(agent, monkeypatch):
    monkeypatch.setenv("MANIPLE_ADDRESS", "unix:" + agent.path)
    ref = maniple.put(1)  # the first call connects
    assert maniple.get(ref) == 1
    attach = agent.peer().attach
    assert int(attach["kind"]) == 1 and attach["language"] == "python"
    config = json.loads(attach["job_config"])  # what the agent makes workers with
    assert config["executable"] == sys.executable and config["cwd"] == os.getcwd() and config["sys_path"]
    assert config["env"]["MANIPLE_ADDRESS"] == "unix:" + agent.path


def test_workers_look_for_modules_where_the_driver_does(agent, monkeypatch, tmp_path):
    first, script, last, gone = tmp_path / "src", tmp_path / "script", tmp_path / "more", tmp_path / "gone"
    for path in (first, script, last):
        path.mkdir()
    own = [os.path.dirname(os.__file__), *(p for p in sys.path if os.path.basename(p) == "site-packages")]
    monkeypatch.setattr(sys, "path", [str(first), str(script), str(gone), *own, str(last)])
    maniple.init(agent.path)
    config = json.loads(agent.peer().attach["job_config"])
    assert config["sys_path"] == [str(first), str(script)] and config["sys_path_end"] == [str(last)]
    session = maniple._core.session.Session.__new__(maniple._core.session.Session)
    monkeypatch.setattr(sys, "path", [*own, str(script)])
    _worker._configure(session, _worker.Settings(config, None))
    assert sys.path == [str(first), *own, str(script), str(last)]


def test_a_socket_with_a_long_path(tmp_path):
    deep = tmp_path / ("d" * 90) / ("e" * 60)
    deep.mkdir(parents=True)
    agent = Agent(deep)
    try:
        maniple.init(agent.path)
        assert agent.peer().attach["pid"]
    finally:
        maniple.shutdown()
        agent.close()
