"""Calls that go past the agent, by a direct line between a driver and the worker of an actor (ADR 0035)."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from maniple._core import frames, twin, values, wire
from maniple.actor import _methods
from relay import ROOT
from scripted import PATIENCE, Agent, arguments
from test_worker_frames import Worker, _own

pytestmark = pytest.mark.skipif(twin.fast is None, reason="only the C extension has direct lines")

CALLS = ("CALL", "TOLD")
TAKEN = wire.HEADER.pack(0, 0, frames.LINE, frames.CLASS_CONTROL, 0, 0, 0, 0)

DRIVER = """
import sys
import maniple
maniple.init(sys.argv[1], namespace="test")

@maniple.remote
class A:
    def f(self, x): pass

a, kept = A.remote(), []
for i in range(int(sys.argv[2])):
    ref = a.f.remote(i)
    assert maniple.get(ref) == 2 * i
    if sys.argv[3] == "keep" and i > 100:
        kept.append(ref)
if kept:
    a.f.options(num_returns=0).remote(kept)
    a.f.options(num_returns=0).remote(0)
    assert maniple.get(kept) == [2 * i for i in range(101, int(sys.argv[2]))]
del kept, a, ref
print("done")
"""


class Line:
    """The other end of a line. Calls are kept, and answered by twice their argument, as long as answers() says so."""

    def __init__(self, peer, actor, shape, worker_shape=0, answers=lambda n: True):
        self.sock, theirs = socket.socketpair()
        self.calls, self.answers, self.over = [], answers, threading.Event()
        body = frames.LINE_STRUCT.pack(*wire.TASK.unpack(actor), 1, 4, shape, worker_shape)
        head = wire.HEADER.pack(len(body), len(body), frames.LINE, frames.CLASS_CONTROL, frames.FLAG_DESCRIPTOR, 0, 0, 0)
        socket.send_fds(peer.sock, [head + body], [theirs.fileno()])
        theirs.close()
        self.sock.settimeout(PATIENCE)

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    def frame(self):
        length, body, kind = wire.HEADER.unpack(self.read(wire.HEADER_SIZE))[:3]
        data = self.read(length)
        return kind, data[:body], data[body:]

    def serve(self):
        self.sock.sendall(TAKEN)
        try:
            while True:
                kind, body, payload = self.frame()
                assert kind == frames.CALL
                f = wire.CALL.read(body)
                self.calls.append(f.task)
                if not self.answers(len(self.calls)):
                    continue
                value = values.encode(2 * values.load_pickle(payload)[0][0])
                self.sock.sendall(wire.RESULT.pack(len(value.payload), 0, wire.key_of(f.task, 0), 0, wire.LAST, value.format, 0, len(value.payload), 0, 0) + value.payload)
        except (ConnectionError, OSError):
            self.over.set()
            self.sock.close()


def drive(directory, count, mode, answers=lambda n: True):
    """Runs DRIVER; gives the lines that it had, a new one when one was over, and what else its agent was told."""
    seen, lines, agent = [], [], Agent(directory)

    def attach(driver):
        def serve(frame):
            seen.append(frame)
            if frame.name == "CREATE":
                driver.result(wire.task_bytes(frame.fields["actor"]))
            elif frame.name in CALLS and frame.fields.returns:
                if frame.name == "CALL" and len(seen) > 20 and (not lines or lines[-1].over.is_set()):
                    lines.append(Line(driver, frame.fields.actor, frame.fields.shape, answers=answers))
                    threading.Thread(target=lines[-1].serve, daemon=True).start()
                driver.result(frame.fields.task, 2 * arguments(frame)[0][0])

        driver.handler = serve

    agent.on_attach = attach
    process = subprocess.Popen([sys.executable, "-c", DRIVER, agent.path, str(count), mode], env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE, text=True)
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        agent.close()
    assert process.returncode == 0 and out == "done\n", out
    return lines, {task for line in lines for task in line.calls}, seen


def test_calls_go_past_the_agent(tmp_path):
    _, went, seen = drive(tmp_path, 600, "drop")
    told = {f.fields.task for f in seen if f.name in CALLS}
    assert len(went) > 50 and len(told | went) == 600
    assert not [f for f in seen if f.name in ("RELEASE", "PUT") and f.fields.object[:16] in went - told]


def test_the_agent_is_told_of_results_that_are_kept(tmp_path):
    _, went, seen = drive(tmp_path, 400, "keep")
    unknown = went - {f.fields.task for f in seen if f.name in CALLS}
    use = next(i for i, f in enumerate(seen) if f.name == "CALL" and not f.fields.returns)
    assert unknown and seen[use].fields.refs == 299
    kept = {seen[use].payload[at : at + 16] for at in range(0, 299 * 24, 24)} & unknown
    assert kept <= {f.fields.object[:16] for f in seen[:use] if f.name == "PUT"}, "a call names what its agent does not know"
    assert kept <= {f.fields.object[:16] for f in seen if f.name == "RELEASE"}


def test_a_call_that_takes_long_becomes_the_agents(tmp_path):
    lines, _, seen = drive(tmp_path, 300, "drop", lambda n: n < 4)
    before = next(f for f in seen if f.name == "CALL")
    silent = [line for line in lines if len(line.calls) == 4]
    assert silent and silent[0].over.wait(PATIENCE), "the line was not shut"
    for line in silent:
        (told,) = [f for f in seen if f.name in CALLS and f.fields.task == line.calls[-1]]
        assert (told.name, told.fields.incarnation, told.fields.shape) == ("TOLD", 4, before.fields.shape)


def test_a_line_that_ends_takes_nothing_along(tmp_path):
    def answers(n):
        if n == 4:
            raise ConnectionError  # it closes its end
        return True

    lines, _, seen = drive(tmp_path, 300, "drop", answers)
    over = [line for line in lines if len(line.calls) == 4]
    assert over
    for line in over:
        assert [f.name for f in seen if f.name in CALLS and f.fields.task == line.calls[-1]] == ["TOLD"]


class Subject:
    def twice(self, x):
        return 2 * x

    def put(self, x):
        import maniple

        self.kept = maniple.put(x)
        return 2 * x

    def fail(self, x):
        raise ValueError(x)

    def rest(self, x):
        import time

        time.sleep(0.2)
        return 2 * x


ACTOR = wire.TASK.pack(7, 1, 1)


@pytest.fixture
def subject(tmp_path, cloudpickle):
    """A worker with an actor, and its line to a caller whose shape 2 is its 9."""
    agent = Agent(tmp_path)
    for function in vars(Subject).values():
        if callable(function):
            _own(function)
    made = Worker(agent, {"Subject": _own(Subject)})
    fields = {"actor": wire.task_fields(ACTOR), "function": made.numbers["Subject"], "job": 1, "concurrency": 1, "format": wire.PICKLE, "max_pending": -1}
    made.peer.table("Create", fields, values.EMPTY)
    assert made.peer.take("RAN") and made.peer.take("RESULT").fields.flags == wire.LAST
    made.line = Line(made.peer, ACTOR, 2, 9)
    assert made.line.read(len(TAKEN)) == TAKEN
    yield made
    made.end()
    agent.close()


def call(method, x, n, shape=2):
    number = [m["name"] for m in _methods(Subject)].index(method)
    payload = values.encode(((x,), {})).payload
    task = wire.TASK.pack(7, 1, n)
    return task, wire.CALL.pack(len(payload), 0, task, wire.NO_TASK, ACTOR, n, 1, 0, 0, 0, number, 0, 1, 0, 0, shape, wire.PICKLE) + payload


def value_of(payload):
    return values.decode(wire.PICKLE, payload, ())


def test_a_worker_answers_by_the_line(subject):
    for n in range(10, 20):
        task, frame = call("twice", n, n)
        subject.line.sock.sendall(frame)
        kind, body, payload = subject.line.frame()
        assert (kind, body[:16], value_of(payload)) == (frames.RESULT, task, 2 * n)
    _, frame = call("twice", 1, 99, 9)
    subject.peer.send(frame)
    assert subject.peer.take().name == "RAN" and subject.peer.take().fields.object[:16] == call("twice", 1, 99)[0]


@pytest.mark.parametrize("method", ["put", "fail"])
def test_a_worker_tells_of_its_call_before_it_says_anything_else(subject, method):
    task, frame = call(method, 3, 10)
    subject.line.sock.sendall(frame)
    told = subject.peer.take()
    assert (told.name, told.fields.task, told.fields.shape, told.fields.incarnation) == ("TOLD", task, 2, 4)
    if method == "put":
        assert subject.peer.take().name == "PUT"
    assert subject.peer.take("RESULT").fields.object[:16] == task
    _, frame = call("twice", 4, 11)
    subject.line.sock.sendall(frame)
    assert value_of(subject.line.frame()[2]) == 8  # of the one before nothing came here


def test_a_result_whose_line_is_shut_goes_to_the_agent(subject):
    task, frame = call("rest", 3, 10)
    subject.line.sock.sendall(frame)
    subject.line.sock.shutdown(socket.SHUT_RDWR)
    told, result = subject.peer.take("TOLD"), subject.peer.take("RESULT")
    assert told.fields.task == result.fields.object[:16] == task and value_of(result.payload) == 6


def test_what_is_on_the_line_comes_before_what_its_caller_sends_later(subject):
    _, slow = call("rest", 1, 10, 9)
    subject.peer.send(slow)
    time.sleep(0.05)  # it runs
    first, frame = call("fail", 2, 11)
    subject.line.sock.sendall(frame)
    second, frame = call("twice", 3, 12, 9)
    subject.peer.send(frame)
    assert [subject.peer.take("RESULT").fields.object[:16] for _ in range(3)][1:] == [first, second]
