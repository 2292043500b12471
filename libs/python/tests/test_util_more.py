"""What stands around tasks: results as they come, what there is, and what programs of Ray's expect besides."""

import asyncio
import time

import pytest

import maniple
from maniple import exceptions, util
from maniple._core import wire
from maniple.util import state


@maniple.remote
def after(seconds, value):
    time.sleep(seconds)
    return value


@maniple.remote
def twice(x):
    return 2 * x


def test_as_completed(cluster):
    refs = [after.remote(0.5, "late"), after.remote(0, "early")]
    assert list(util.as_completed(refs, chunk_size=1)) == ["early", "late"]
    assert set(util.as_completed(refs, yield_obj_refs=True)) == set(refs)
    assert list(util.as_completed([])) == []
    with pytest.raises(ValueError):
        next(util.as_completed(refs, chunk_size=0))


def test_map_unordered(cluster):
    asked = []

    def items():
        for i in range(50):
            asked.append(i)
            yield i

    results = util.map_unordered(twice, items(), backpressure_size=5, chunk_size=2)
    first = next(results)
    assert len(asked) <= 6, "no more than the bound is under way"
    assert sorted([first, *results]) == [2 * i for i in range(50)]
    assert sorted(util.map_unordered(twice.options(name="t"), [1, 2], backpressure_size=None)) == [2, 4]
    with pytest.raises(ValueError):
        next(util.map_unordered(twice, [1], backpressure_size=1))


TASKS = [
    {"id": "7.1.1", "name": "m.f (7.1.1)", "state": "given", "node": "n2"}, {"id": "7.1.2", "name": "m.f (7.1.2)", "state": "running", "pid": 30},
    {"id": "7.1.3", "name": "m.g (7.1.3)", "state": "queued"}, {"id": "7.1.4", "name": "maniple.util.state (7.1.4)", "state": "running"}, {"id": "7.1.1", "name": "m.f (7.1.1)", "state": "running"},
]  # fmt: skip


@pytest.fixture
def told(driver, monkeypatch):
    """A cluster of one node, whose agent has these."""
    replies = {
        "tasks": TASKS, "actors": [{"id": "7.1.9", "class": "m.C", "state": "alive"}, {"id": "7.1.8", "class": "m.C", "state": "dead"}], "nodes": [{"name": "n1", "state": "up"}, {"name": "n9", "state": "dead"}],
        "objects": [{"id": "a", "size": 3}, {"id": "a", "size": 3}, {"id": "b"}],
    }  # fmt: skip
    from maniple._core.session import Session

    monkeypatch.setattr(Session, "query", lambda self, what, id="", timeout=None: {what: [dict(item) for item in replies[what]]})


def test_lists_and_summaries(told):
    tasks = state.list_tasks()
    assert [(t["id"], t["name"], t["state"], t["node_id"]) for t in tasks] == [("7.1.1", "m.f", "running", "n1"), ("7.1.2", "m.f", "running", "n1"), ("7.1.3", "m.g", "queued", "n1")]
    for given, count in (([("state", "=", "RUNNING")], 2), ([("state", "!=", "running")], 1), ([("pid", "=", "30")], 1), ([("pid", ">", 5)], 1), ([("name", "=", "m.f"), ("pid", "=", 30)], 1), ([("nothing", "=", "x")], 0)):
        assert len(state.list_tasks(filters=given)) == count, given
    assert len(state.list_tasks(limit=1, detail=True)) == 1
    assert state.summarize_tasks() == {"m.f": {"running": 2}, "m.g": {"queued": 1}}
    assert state.summarize_actors() == {"m.C": {"alive": 1, "dead": 1}}
    assert state.summarize_objects() == {"n1": {"objects": 2, "bytes": 3}}
    assert [n["node_id"] for n in state.list_nodes(filters=[("state", "=", "up")])] == ["n1"]
    assert state.get_task("7.1.3")["name"] == "m.g" and state.get_task("7.9.9") is None and state.get_node("n9")["state"] == "dead"
    assert state.get_actor("7.1.9")["state"] == "alive" and len(state.get_objects("a")) == 2
    for wrong in ([("state", "~", "x")], ["state"], [("state", "=")]):
        with pytest.raises(ValueError, match="a filter is"):
            state.list_tasks(filters=wrong)
    with pytest.raises(ValueError):
        state.list_tasks(limit=0)
    with pytest.raises(TypeError, match="no argument nope"):
        state.list_actors(nope=1)


def test_generators_with_a_number_of_results(cluster):
    @maniple.remote(num_returns=2)
    def yields(n):
        yield from range(n)

    assert maniple.get(yields.remote(2)) == [0, 1]
    for n in (1, 3):
        with pytest.raises(ValueError, match="num_returns=2"):
            maniple.get(yields.remote(n))


def test_a_stream_that_is_closed(cluster):
    @maniple.remote
    def yields():
        for i in range(1000):
            yield i
            time.sleep(0.05)

    stream = yields.remote()
    assert maniple.get(next(stream)) == 0
    stream.close()
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in stream:
            maniple.get(ref)
    for wrong in (lambda: stream.send(1), lambda: stream.throw(ValueError()), lambda: asyncio.run(stream.asend(1)), lambda: asyncio.run(stream.athrow(ValueError()))):
        with pytest.raises(NotImplementedError, match="remote generator"):
            wrong()


def test_names_of_accelerators():
    assert util.accelerators.NVIDIA_A100 == "A100" and util.accelerators.NVIDIA_TESLA_V100 == "V100"


def test_what_is_said_once():
    from maniple.util import debug

    try:
        assert [util.log_once("a"), util.log_once("a"), util.log_once("b")] == [True, False, True]
        debug.reset_log_once("a")
        assert [util.log_once("a"), util.log_once("b")] == [True, False]
        util.disable_log_once_globally()
        assert not util.log_once("c")
    finally:
        debug._mode["off"] = False
        debug.reset_log_once()


def test_errors_of_libraries_and_of_users_who_inherit_ours(cluster):
    @maniple.remote(max_retries=2, retry_exceptions=[KeyError])
    def wraps(cause):
        raise exceptions.UserCodeException("a library's word") from cause

    for cause, final in ((KeyError("k"), 0), (ValueError("v"), wire.FINAL)):  # final: it is not tried again
        ref = wraps.remote(cause)
        with pytest.raises(exceptions.UserCodeException, match="a library's word") as e:
            maniple.get(ref)
        assert isinstance(e.value, exceptions.TaskError) and type(cause).__name__ in e.value.traceback_str
        assert cluster.objects[ref.binary()][0] & wire.FINAL == final

    @maniple.remote
    def raises():
        class Mine(exceptions.RayError):
            pass

        raise Mine("of my own")

    with pytest.raises(exceptions.RayTaskError, match="of my own") as e:
        maniple.get(raises.remote())
    assert type(e.value.cause).__name__ == "Mine"
