"""maniple.timeline(), and what workers tell of how their tasks went."""

import json
import threading
import time

import pytest

import maniple
from maniple._core import wire
from maniple._timeline import trace
from scripted import Agent
from test_worker_frames import Worker, _own


def naps(seconds, *more):
    import time

    time.sleep(seconds)
    if more:
        raise ValueError(more)
    return seconds


def pair(x):
    yield x
    yield x


@pytest.fixture
def worker(tmp_path, cloudpickle):
    agent = Agent(tmp_path)
    made = Worker(agent, {"naps": _own(naps), "pair": _own(pair)})
    yield made
    made.end()
    agent.close()


def test_a_worker_tells_how_each_task_went_before_its_last_result(worker):
    before = time.time_ns()
    tasks = [worker.submit("naps", 0.05), worker.submit("naps", 0.0, "no"), worker.submit("pair", 1, returns=2), worker.submit("pair", 1, returns=wire.STREAM)]
    told = {}
    while len(told) < len(tasks):
        frame = worker.peer.take()
        if frame.name != "RAN":
            assert frame.name in ("STARTED", "RESULT")
            continue
        ran = frame.fields
        last = worker.peer.take("RESULT").fields if not worker.peer.kept else None
        assert last is not None and last.object[:16] == ran.task and last.flags & wire.LAST
        told[ran.task] = ran
    after = time.time_ns()
    assert list(told) == tasks
    for task, ran in told.items():
        assert before - 10**7 < ran.began and ran.began + ran.took < after + 10**7, (before, ran, after)
        assert 0 < ran.read <= ran.ran <= ran.took
        assert ran.failed == (task == tasks[1])
    assert 50e6 < told[tasks[0]].ran - told[tasks[0]].read < 5e9


RUN = {"node_id": "n1", "id": "7.1.1", "name": "m.f", "state": "finished", "job": 1, "process": 3, "pid": 30, "began": 10**18, "read": 2000, "ran": 5000, "took": 9000}


def test_events_are_chrome_s():
    events = trace([
        {**RUN, "began": 10**18 + 8500, "read": 0, "state": "failed"},  # by clocks that were read one after the other
        RUN,
        {**RUN, "began": 10**18 + 4000, "id": "7.1.2", "attempt": 1},  # at the same time in the same process
        {**RUN, "node_id": "n2", "class": "m.C", "name": "get", "actor": "7.1.9", "state": "died", "read": 0},
    ])  # fmt: skip
    names = {(e["pid"], e.get("tid")): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert names == {(1, None): "Node n1", (1, 1): "worker:3 (pid 30)", (1, 3): "worker:3 (pid 30) #2", (2, None): "Node n2", (2, 2): "worker:3 (pid 30)"}
    whole = [e for e in events if e.get("cat", "").startswith("task::")]
    assert [(e["cat"], e["pid"], e["tid"], e["ts"], e["dur"]) for e in whole] == [
        ("task::f", 1, 1, 1e15, 9.0), ("task::C.get", 2, 2, 1e15, 9.0), ("task::f", 1, 3, 1e15 + 4, 9.0), ("task::f", 1, 1, 1e15 + 9, 8.5),
    ]  # fmt: skip
    assert whole[1]["args"] == {
        "task_id": wire.task_of_text("7.1.1").hex(), "actor_id": wire.task_of_text("7.1.9").hex(), "job_id": "1", "attempt_number": 0, "state": "died",
        "name": "C.get", "func_or_class_name": "m.C",
    }  # fmt: skip
    phases = {e["name"]: (e["ts"] - 1e15, e["dur"]) for e in events if e.get("tid") == 1 and e["ph"] == "X" and e["ts"] < 1e15 + 9}
    assert phases == {"f": (0, 9), "task:deserialize_arguments": (0, 2), "task:execute": (2, 3), "task:store_outputs": (5, 4)}
    ends = {}
    for e in events:  # none begins in its place before the one before has ended
        if e["ph"] == "X" and e["cat"].startswith("task::"):
            assert e["ts"] >= ends.get(e["tid"], 0)
            ends[e["tid"]] = e["ts"] + e["dur"]


def test_a_timeline_is_asked_for_by_pages_and_goes_to_a_file(driver, tmp_path):
    pages = {"": {"timeline": [RUN, {**RUN, "name": "maniple.util.state"}], "next": 2, "more": True}, "2": {"timeline": [{**RUN, "id": "7.1.5"}], "next": 3}}

    def serve(frame):
        if frame.name == "STATE_QUERY":
            what, begin = frame.fields["what"], frame.fields.get("id") or ""
            reply = {"nodes": [{"name": "n1", "state": "up"}]} if what == "nodes" else pages[begin]
            driver.table("StateReply", {}, json.dumps(reply).encode(), corr=frame.corr)

    driver.handler = serve
    events = maniple.timeline()
    assert [e["args"]["task_id"] for e in events if e.get("cat") == "task::f"] == [wire.task_of_text(t).hex() for t in ("7.1.1", "7.1.5")]
    path = tmp_path / "timeline.json"
    assert maniple.timeline(str(path)) is None
    assert json.loads(path.read_text()) == events


def test_calls_tell_how_they_went_on_threads_and_in_an_event_loop(cluster):
    told, lock, take = [], threading.Lock(), cluster.from_worker

    def note(worker, frame):
        if frame.name == "RAN":
            with lock:
                told.append(frame.fields)
        else:
            take(worker, frame)

    cluster.from_worker = note
    try:

        @maniple.remote
        class Sync:
            def nap(self, x=None):
                time.sleep(0.02)
                return b"x" * 300_000 if x else None

        @maniple.remote
        class Async:
            async def nap(self, x=None):
                import asyncio

                await asyncio.sleep(0.02)

        for actor in (Sync.remote(), Sync.options(max_concurrency=3).remote(), Async.remote()):
            told.clear()
            maniple.get([actor.nap.remote(), actor.nap.remote(1)])
            calls = [ran for ran in told if ran.ran > 15e6]
            assert len(calls) == 2 and [bool(ran.read) for ran in sorted(calls, key=lambda ran: ran.task)] == [False, True], told
    finally:
        cluster.from_worker = take
