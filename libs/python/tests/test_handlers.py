"""What signals' handlers of the user's raise in a worker, while no code of theirs runs."""

import os
import signal

import pytest

import maniple
import programs
from maniple._core import values, wire
from test_worker_frames import started, worker  # noqa: F401: a fixture
from test_workers import written

get = maniple.get


@pytest.mark.parametrize("threads", [1, 2])
def test_an_actor_outlives_what_a_handler_raises_between_its_calls(cluster, tmp_path, threads):  # PY-7
    rang = tmp_path / "rang"
    a = programs.Counter.options(max_concurrency=threads).remote(5, str(rang))
    pid = get(a.pid.remote())
    os.kill(pid, signal.SIGUSR1)
    written(rang)
    assert get([a.pid.remote(), a.add.remote()]) == [pid, 6]


def test_an_async_actor_outlives_what_a_handler_raises_in_its_loop(cluster, tmp_path):  # PY-7
    rang = tmp_path / "rang"
    a = programs.Async.remote(str(rang))
    waits, pid = a.wait.remote(), get(a.pid.remote())
    for _ in range(5):
        os.kill(pid, signal.SIGUSR1)
        written(rang)
        rang.unlink()
    assert get([a.pid.remote(), a.go.remote()]) == [pid, 1]
    assert get(waits)


def test_a_worker_outlives_what_a_handler_raises_between_its_tasks(worker, tmp_path):  # noqa: F811  # PY-7
    rang = str(tmp_path / "rang")
    worker.submit("bell", rang)
    worker.peer.take("RESULT")
    worker.process.send_signal(signal.SIGUSR1)
    started(rang)
    task = worker.submit("say", 3)
    result = worker.peer.take("RESULT")
    assert result.fields.object[:16] == task and values.decode(wire.PICKLE, result.payload) == 3
    worker.peer.table("Shutdown", {"reason": "idle"})
    _, said = worker.process.communicate()
    assert b"while nothing of yours ran: RuntimeError: the bell" in said


def test_a_result_is_sent_once_though_a_handler_raises_behind_it(cluster):  # PY-7
    a = programs.Counter.remote(5)
    assert get([a.sends_and_raises.remote(), a.add.remote()]) == ["sent", 6]


def test_a_child_that_comes_back_from_its_task_ends(cluster):  # PY-3
    assert get(programs.returns_twice.remote()) == "the child ended"
