"""A worker as its agent sees it: recalls, cancels, its end."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from maniple._core import code, twin, values, wire
from scripted import PATIENCE, Agent, keys
from relay import ROOT
from test_arenas import locate, say_arena


class Worker:
    """A worker process, started as an agent starts one, and its peer."""

    def __init__(self, agent, functions):
        env = {**os.environ, "MANIPLE_ADDRESS": agent.path, "MANIPLE_WORKER": "5", "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen([sys.executable, "-m", "maniple._worker"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.peer, self.numbers, self.count = agent.peer(), {}, 0
        for name, function in functions.items():
            made = code.Code(function, name)
            self.numbers[name] = made.number
            self.peer.table("Function", made.fields(), made.payload)

    def submit(self, name, *args, deps=(), returns=1):
        self.count += 1
        task = wire.TASK.pack(7, 99, self.count)
        payload = b"".join(key + b"\0\0\0\0" for key in deps)
        if deps:
            payload += values.encode(((None,) * len(deps), {}, list(range(len(deps))), {})).payload
        else:
            payload += values.encode((args, {})).payload
        self.peer.send(wire.SUBMIT.pack(len(payload), 0, task, wire.NO_TASK, self.numbers[name], 1, 0, 0, 0, 1, returns, len(deps), 0, wire.PICKLE) + payload)
        return task

    def end(self):
        self.process.kill()
        self.process.communicate()


def _own(function):
    """The function as if it were the script's: sent by value."""
    function.__module__ = "__main__"
    return function


def hold(path):
    import time

    open(path, "w").close()
    time.sleep(60)


def say(x=None):
    print("said", x)
    return x


def shut():
    import os

    os.closerange(3, 4096)


def spoil(values, at):
    import threading

    return [threading.Lock() if i == at else v for i, v in enumerate(values)]


def hold_the_lock(path, seconds):
    import ctypes

    open(path, "w").close()
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # with the interpreter's lock, as C code may


def keep(x):
    import sys

    sys.kept = x
    return len(x), getattr(x, "readonly", None)


@_own
def promise(several):
    from maniple.util.placement_group import placement_group

    group = placement_group([{"CPU": 1}])
    return (group.ready(), [group.ready()]) if several else group.ready()


def bell(path):
    import signal

    def rings(signum, frame):
        open(path, "w").close()
        raise RuntimeError("the bell")

    signal.signal(signal.SIGUSR1, rings)


def _worker(directory):
    agent = Agent(directory)
    made = Worker(agent, {"hold": _own(hold), "say": _own(say), "keep": _own(keep), "spoil": _own(spoil), "hold_the_lock": _own(hold_the_lock), "promise": _own(promise), "bell": _own(bell), "shut": _own(shut)})
    yield made
    made.end()
    agent.close()


@pytest.fixture
def worker(tmp_path, cloudpickle):
    """One that the test may end."""
    yield from _worker(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, cloudpickle):
    """One for all tests that leave it idle."""
    yield from _worker(tmp_path_factory.mktemp("worker"))


def started(path):
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < deadline


def test_it_attaches_with_its_key(shared):
    assert (int(shared.peer.attach["kind"]), shared.peer.attach["worker"], shared.peer.attach["pid"]) == (2, 5, shared.process.pid)


def test_recall_gives_back_what_has_not_begun(shared, tmp_path):
    path = str(tmp_path / "held")
    first = shared.submit("hold", path)
    others = [shared.submit("say", i) for i in range(4)]
    started(path)
    shared.peer.send(wire.RECALL.pack(0, 0, others[1]))
    assert shared.peer.take("RECALLED").fields == (others[1], 0)
    shared.peer.send(wire.RECALL.pack(0, 0, wire.NO_TASK))
    assert {shared.peer.take("RECALLED").fields.task for _ in range(3)} == {others[0], others[2], others[3]}
    shared.peer.send(wire.RECALL.pack(0, 0, first))
    assert shared.peer.take("RECALLED").fields == (first, 1)
    again = shared.submit("say", "again")  # what was given back may come again
    shared.peer.send(wire.CANCEL.pack(0, 0, first, 0, 0))
    assert shared.peer.take("RESULT").fields.object == wire.key_of(first, 0)
    assert shared.peer.take("STARTED").fields.task == again
    assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload) == "again"


PLAIN = (0, -1, 255, 65536, 1 << 31, -(1 << 63), True, False, 0.5, -0.0, float("inf"), "", "h\u00e4\udc80", "x" * 5000, 7)


@pytest.mark.parametrize("several", [PLAIN, list(PLAIN), PLAIN[::-1], (1, [2], None, b"3", 1 << 64, 5), ("x" * 20000, 1 << 63, 2), (1, {"last": 2}), tuple(range(1000))])
def test_several_results_come_one_by_one_and_in_order(shared, several):
    task = shared.submit("say", several, returns=len(several))
    for i, value in enumerate(several):
        result = shared.peer.take("RESULT")
        assert (result.fields.object, result.fields.flags) == (wire.key_of(task, i), wire.LAST if i == len(several) - 1 else 0)
        assert repr(values.decode(result.fields.format, result.payload)) == repr(value)


@pytest.mark.parametrize("at", [0, 1, 99])
def test_no_result_is_sent_if_one_of_several_can_not_be(shared, at):
    task = shared.submit("spoil", list(range(100)), at, returns=100)
    result = shared.peer.take("RESULT").fields
    assert (result.object, result.flags & (wire.LAST | wire.ERROR)) == (wire.key_of(task, 0), wire.LAST | wire.ERROR)
    again = shared.submit("say", 1)
    assert shared.peer.take("RESULT").fields.object == wire.key_of(again, 0)


def test_cancel_reaches_tasks_that_wait_and_that_run(shared, tmp_path):
    path = str(tmp_path / "held")
    first, second, third = shared.submit("hold", path), shared.submit("say", 2), shared.submit("say", 3)
    started(path)
    shared.peer.send(wire.CANCEL.pack(0, 0, second, 0, 0))
    result = shared.peer.take("RESULT").fields
    assert (result.object, result.flags) == (wire.key_of(second, 0), wire.LAST | wire.ERROR | wire.FINAL)
    began = time.monotonic()
    shared.peer.send(wire.CANCEL.pack(0, 0, first, 0, 0))
    result = shared.peer.take("RESULT").fields
    assert result.object == wire.key_of(first, 0) and result.flags & wire.FINAL and time.monotonic() - began < 1
    assert shared.peer.take("RESULT").fields.object == wire.key_of(third, 0)
    shared.peer.send(wire.CANCEL.pack(0, 0, third, 0, 0))  # too late: nothing happens
    shared.submit("say", 4)
    assert shared.peer.take("RESULT").fields.flags == wire.LAST


def test_an_argument_s_value_is_kept_as_long_as_its_task(shared, tmp_path):
    path = str(tmp_path / "held")
    first, dep = shared.submit("hold", path), wire.key_of(wire.TASK.pack(7, 1, 1), 0)
    tasks = []
    for _ in range(2):
        shared.peer.result(dep[:16], "value")
        tasks.append(shared.submit("say", deps=[dep]))
    started(path)
    shared.peer.send(wire.CANCEL.pack(0, 0, first, 0, 0))
    shared.peer.take("RESULT")
    for task in tasks:
        frame = shared.peer.take("RESULT")
        assert frame.fields.object == wire.key_of(task, 0) and values.decode(wire.PICKLE, frame.payload) == "value"
    shared.submit("say", deps=[dep])
    frame = shared.peer.take("RESULT")
    assert frame.fields.flags & wire.ERROR and frame.fields.format == wire.FAILURE


def test_an_argument_that_came_outlives_the_task_before(shared, tmp_path):
    path = str(tmp_path / "held")
    key = wire.key_of(wire.TASK.pack(7, 98, 6), 0)
    value = values.encode("shared by two")
    first = shared.submit("hold", path)
    started(path)
    shared.peer.raw_result(key[:16], value.format, value.payload)
    second = shared.submit("say", deps=[key])
    shared.peer.raw_result(key[:16], value.format, value.payload)  # of the third, which comes when the second has ended
    for task in (first, second):
        shared.peer.send(wire.CANCEL.pack(0, 0, task, 0, 0))
    ends = {shared.peer.take("RESULT").fields.object for _ in range(2)}
    assert ends == {wire.key_of(first, 0), wire.key_of(second, 0)}
    shared.submit("say", deps=[key])
    assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload) == "shared by two"


def test_an_argument_in_shared_memory_is_held_until_it_is_viewed_no_more(shared):
    key = wire.key_of(wire.TASK.pack(7, 98, 7), 0)
    value = values.encode(pickle.PickleBuffer(b"where it lies" * 100))
    fd = os.memfd_create("arena")
    try:
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, value.payload, 128)
        say_arena(shared.peer, fd)
        for _ in range(2):
            locate(shared.peer, key[:16], 128, len(value.payload))
            shared.submit("keep", deps=[key])
            assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload) == (1300, True)
        shared.submit("say", 1)
        shared.peer.take("RESULT")
        shared.peer.none_of("RELEASE")
        shared.submit("keep", b"12345")
        assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload)[0] == 5
        assert shared.peer.take("RELEASE").fields[:2] == (key, 2)
    finally:
        os.close(fd)


def test_an_argument_that_was_not_sent_along_is_asked_for_when_its_task_begins(shared):
    key = wire.key_of(wire.TASK.pack(7, 98, 9), 0)
    value = values.encode(pickle.PickleBuffer(b"it lay in a file" * 100))
    fd = os.memfd_create("arena")
    try:
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, value.payload, 256)
        say_arena(shared.peer, fd)
        shared.peer.raw_result(key[:16], wire.PICKLE, b"", flags=wire.LAST | wire.LOCATED)
        shared.submit("keep", deps=[key])
        assert shared.peer.take("GET").fields.object == key
        shared.peer.none_of("RESULT")
        locate(shared.peer, key[:16], 256, len(value.payload))
        assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload) == (1600, True)
        shared.submit("keep", b"12345")
        assert values.decode(wire.PICKLE, shared.peer.take("RESULT").payload)[0] == 5
        assert shared.peer.take("RELEASE").fields[:2] == (key, 1)
        shared.peer.none_of("AWAITS")
    finally:
        os.close(fd)


@pytest.mark.parametrize("several", [False, True])
def test_what_a_result_names_the_agent_knows(shared, several):
    task = shared.submit("promise", several, returns=1 + several)
    for index in range(1 + several):
        made, result = shared.peer.take("SUBMIT", "RESULT"), shared.peer.take("RESULT")
        assert made.name == "SUBMIT" and (result.fields.object, result.fields.flags & wire.ERROR) == (wire.key_of(task, index), 0)
        assert keys(result) == [wire.key_of(made.fields.task, 0)]


def test_a_task_of_unknown_code(shared):
    shared.numbers["none"] = 12345
    shared.submit("none")
    assert shared.peer.take("RESULT").fields.flags & wire.ERROR
    shared.submit("say")
    assert shared.peer.take("RESULT").fields.flags == wire.LAST


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_it_ends_within_a_second_when_its_agent_is_gone(worker, tmp_path, busy):
    if busy:
        worker.submit("hold", str(tmp_path / "held"))
        started(str(tmp_path / "held"))
    began = time.monotonic()
    worker.peer.close()
    assert worker.process.wait(PATIENCE) == 1 and time.monotonic() - began < 1


def test_it_leaves_when_it_is_told(worker):
    worker.submit("say")
    worker.peer.take("RESULT")
    worker.peer.table("Shutdown", {"reason": "idle"})
    assert worker.peer.take("GOODBYE") and worker.process.wait(PATIENCE) == 0
    assert worker.process.stdout.read() == b"said None\n"


def test_a_terminal_s_interrupt_is_not_for_workers(worker):
    worker.process.send_signal(signal.SIGINT)
    worker.submit("say", 1)
    assert worker.peer.take("RESULT").fields.flags == wire.LAST


def test_a_worker_that_closes_its_connection_says_so(worker):
    worker.submit("shut")
    _, said = worker.process.communicate(timeout=PATIENCE)
    assert b"closed its connection to the agent, as by os.closerange()" in said and worker.process.returncode == 1


def test_hostile_work_ends_the_worker(worker):
    worker.peer.send(wire.SUBMIT.pack(0, 0, bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 1, 1000, 1000, wire.PICKLE))
    assert worker.process.wait(PATIENCE) == 1


def put_many():
    import maniple

    return len([maniple.put(i) for i in range(3)])


def test_a_task_that_waits_for_credit_frees_its_cpu(tmp_path, cloudpickle):
    agent = Agent(tmp_path, credit=(1 << 20, 2))
    made = Worker(agent, {"put_many": _own(put_many)})
    try:
        made.submit("put_many")
        order = [made.peer.take("PUT", "BLOCKED", "UNBLOCKED", "RESULT").name for _ in range(3)]
        assert order == ["PUT", "PUT", "BLOCKED"]
        made.peer.credit(1000, 1)
        assert [made.peer.take("PUT", "UNBLOCKED", "RESULT").name for _ in range(3)] == ["UNBLOCKED", "PUT", "RESULT"]
    finally:
        made.end()
        agent.close()


@pytest.mark.skipif(twin.fast is None, reason="Python alone can't: its threads wait for the lock, too")
def test_a_recall_is_answered_while_code_holds_the_interpreter_s_lock(worker, tmp_path):
    began = tmp_path / "began"
    first = worker.submit("hold_the_lock", str(began), 3)
    second, third = worker.submit("say"), worker.submit("say")
    started(began)
    start = time.monotonic()
    for task in (second, first, wire.NO_TASK):
        worker.peer.send(wire.RECALL.pack(0, 0, task))
    answers = [worker.peer.take("RECALLED").fields for _ in range(3)]
    assert time.monotonic() - start < 2
    assert [(a.task, a.started) for a in answers] == [(second, 0), (first, 1), (third, 0)]
    assert worker.peer.take("RESULT").fields.object[:16] == first
    time.sleep(0.2)  # between a result and the next task there is a moment in which both count
    worker.submit("say")
    worker.peer.take("RESULT")
    worker.peer.none_of("STARTED")  # nothing was behind anything that is still here


@pytest.mark.skipif(twin.fast is None, reason="Python alone can't: its threads wait for the lock, too")
def test_a_worker_whose_code_holds_the_lock_ends_with_its_agent(worker, tmp_path):
    began = tmp_path / "began"
    worker.submit("hold_the_lock", str(began), 50)
    started(began)
    worker.peer.close()
    assert worker.process.wait(PATIENCE) == 1
