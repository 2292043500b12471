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
from scripted import PATIENCE, Agent, arguments, header
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

# It waits for a call in vain, and sends a task then whose frame is as long as the call's, among others.
LENGTHS = """
import sys
import maniple
maniple.init(sys.argv[1], namespace="test")

@maniple.remote
class A:
    def f(self, x): pass

@maniple.remote
def task(x): pass

a = A.remote()
for i in range(int(sys.argv[2])):
    assert maniple.get(a.f.remote(i)) == 2 * i
    assert maniple.get(a.f.remote(i)) == 2 * i
    late = a.f.remote(-1)
    try:
        maniple.get(late, timeout=0.002)
    except maniple.exceptions.GetTimeoutError:
        pass
    other = task.remote(b"x" * i)
    assert maniple.get(late) == maniple.get(other) == -2
print("done")
"""

# A call fails before the one that was sent before it has run.
FAILS = """
import sys
import maniple
maniple.init(sys.argv[1], namespace="test")

@maniple.remote
class A:
    def f(self, x): pass

a = A.remote()
for i in range(int(sys.argv[2])):
    assert maniple.get(a.f.remote(i)) == 2 * i
    assert maniple.get(a.f.remote(i)) == 2 * i
    late, fails = a.f.remote(-1), a.f.remote(-3)
    try:
        maniple.get(fails)
    except ValueError:
        pass
    assert maniple.get(a.f.remote(-4)) == -8 and maniple.get(late) == -2
print("done")
"""

# It may open no more files.
FULL = """
import os
import sys
import maniple
maniple.init(sys.argv[1], namespace="test")

@maniple.remote
class A:
    def f(self, x): pass

import resource
a = A.remote()
maniple.get(a.f.remote(0))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.dup(0)
except OSError:
    pass
for i in range(int(sys.argv[2])):
    assert maniple.get(a.f.remote(i)) == 2 * i
print("done")
"""


class Line:
    """The other end of a line. Calls are kept, and answered by twice their argument, as long as answers() says so."""

    def __init__(self, peer, actor, shape, worker_shape=0, answers=lambda n: True):
        self.sock, theirs = socket.socketpair()
        self.calls, self.answers, self.over = [], answers, threading.Event()
        self.arguments, self.places, self.place = [], [], lambda place: 0  # of calls; where they came from; where an answer comes from
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
        length, body, kind, _, _, place = wire.HEADER.unpack(self.read(wire.HEADER_SIZE))[:6]
        self.places.append(place)
        data = self.read(length)
        return kind, data[:body], data[body:]

    def serve(self):
        try:
            self.sock.sendall(TAKEN)
            while True:
                kind, body, payload = self.frame()
                assert kind == frames.CALL
                f = wire.CALL.read(body)
                self.calls.append(f.task)
                self.arguments.append(values.load_pickle(payload)[0][0])
                answer = self.answers(len(self.calls))
                if isinstance(answer, bytes):
                    self.sock.sendall(answer)
                if answer is not True:
                    continue
                value = values.encode(2 * self.arguments[-1])
                head = wire.RESULT.pack(len(value.payload), 0, wire.key_of(f.task, 0), 0, wire.LAST, value.format, 0, len(value.payload), 0, 0)
                self.sock.sendall(placed(head, self.place(self.places[-1])) + value.payload)
        except (ConnectionError, OSError):
            self.over.set()
            self.sock.close()


def placed(frame, place):
    """A frame that says where it comes from, as the number of a processor from 1 on."""
    return frame[:12] + place.to_bytes(4, "little") + frame[16:]


def drive(directory, count, mode="", answers=lambda n: True, script=DRIVER, place=lambda place, pid: 0):
    """Runs a driver; gives the lines that it had, a new one when one was over, and what else its agent was told. Calls with -1 wait for the next
    word, and those with -3 fail.
    """
    seen, lines, late, agent = [], [], [], Agent(directory)

    def attach(driver):
        def serve(frame):
            seen.append(frame)
            if frame.name == "CREATE":
                driver.result(wire.task_bytes(frame.fields["actor"]))
            elif frame.name in CALLS and frame.fields.returns:
                x = arguments(frame)[0][0]
                if frame.name == "CALL" and len(seen) > 20 and x >= 0 and (not lines or lines[-1].over.is_set()):
                    lines.append(Line(driver, frame.fields.actor, frame.fields.shape, answers=answers))
                    lines[-1].place = lambda at: place(at, process.pid)
                    threading.Thread(target=lines[-1].serve, daemon=True).start()
                if x == -1:
                    late.append(frame.fields.task)
                elif x == -3:
                    driver.raises(frame.fields.task, ValueError("no"))
                else:
                    while late and x == -4:
                        driver.result(late.pop(), -2)
                    driver.result(frame.fields.task, 2 * x)
            elif frame.name == "SUBMIT":
                for task in (late.pop(), frame.fields.task):
                    driver.result(task, -2)

        driver.handler = serve

    agent.on_attach = attach
    process = subprocess.Popen([sys.executable, "-c", script, agent.path, str(count), mode], env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE, text=True)
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


def test_no_frame_but_a_call_that_is_waited_for_goes_by_the_line(tmp_path):
    _, went, seen = drive(tmp_path, 100, script=LENGTHS)
    late = [f for f in seen if f.name == "CALL" and arguments(f)[0][0] == -1]
    lengths = [len(wire.SUBMIT.pack(0, 0, *f.fields)) + len(f.payload) for f in seen if f.name == "SUBMIT"]
    assert len(went) > 50 and len(lengths) == 100
    assert len(wire.CALL.pack(0, 0, *late[0].fields)) + len(late[0].payload) in lengths, "none is as long as the call"


def test_a_call_behind_one_that_failed_overtakes_none(tmp_path):
    lines, went, seen = drive(tmp_path, 60, script=FAILS)
    assert len(went) > 20 and len([f for f in seen if f.name == "CALL" and arguments(f)[0][0] == -4]) == 60
    assert -4 not in [x for line in lines for x in line.arguments]


def test_who_may_open_no_more_files_does_without_a_line(tmp_path):
    lines, went, seen = drive(tmp_path, 100, script=FULL)
    assert lines and lines[0].over.wait(PATIENCE) and not went
    assert len([f for f in seen if f.name == "CALL"]) == 101


def test_a_driver_stays_where_it_is_and_says_where(tmp_path):
    mine = [n + 1 for n in sorted(os.sched_getaffinity(0))]
    if len(mine) < 2:
        pytest.skip("there is one processor")
    seen = []

    def answer(place, pid):
        """From another processor than the caller's, each time."""
        with open(f"/proc/{pid}/status") as f:
            seen.append((place, next(line.split()[1] for line in f if line.startswith("Cpus_allowed_list"))))
        return mine[place == mine[0]]

    drive(tmp_path, 600, "drop", place=answer)
    near = [(place, allowed) for place, allowed in seen if allowed.isdigit()]  # it may have waited for too long to be so
    assert len(seen) > 50 and {place for place, _ in seen} <= set(mine)
    assert near and all(int(allowed) == place - 1 for place, allowed in near)


@pytest.mark.parametrize(
    "what",
    [TAKEN, wire.HEADER.pack(1 << 20, 64, frames.RESULT, frames.CLASS_CALLS, 0, 0, 0, 0), wire.RESULT.pack(0, 0, bytes(20), 0, wire.LAST, wire.PICKLE, 0, 0, 0, 0), b"x" * 5000],
)
def test_a_worker_that_breaks_the_rules_loses_the_line(tmp_path, what):
    lines, _, seen = drive(tmp_path, 300, "drop", lambda n: n < 4 or what)
    broken = [line for line in lines if len(line.calls) == 4]
    assert broken
    for line in broken:
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

    def until(self, path):
        import os
        import time

        open(path + ".runs", "w").close()
        while not os.path.exists(path):
            time.sleep(0.01)
        return 2 * path

    def spawn(self, x):
        import maniple

        self.kept = maniple.remote(num_cpus=0)(len).remote([])
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


def call(method, x, n, shape=2, job=1):
    number = [m["name"] for m in _methods(Subject)].index(method)
    payload = values.encode(((x,), {})).payload
    task = wire.TASK.pack(7, 1, n)
    return task, wire.CALL.pack(len(payload), 0, task, wire.NO_TASK, ACTOR, n, job, 0, 0, 0, number, 0, 1, 0, 0, shape, wire.PICKLE) + payload


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


@pytest.mark.parametrize("by", ["line", "agent"])
def test_what_an_actor_submits_is_of_its_own_job(subject, by):
    _, frame = call("spawn", 3, 10, 2 if by == "line" else 9, job=2)
    (subject.line.sock.sendall if by == "line" else subject.peer.send)(frame)
    assert subject.peer.take("SUBMIT").fields.job == 1


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


def test_the_agent_is_told_of_what_waits_when_the_line_ends(subject):
    running, slow = call("rest", 1, 10, 9)
    subject.peer.send(slow)
    time.sleep(0.05)  # it runs
    task, frame = call("twice", 2, 11)
    subject.line.sock.sendall(frame)
    subject.line.sock.shutdown(socket.SHUT_RDWR)
    told = subject.peer.take("TOLD")
    assert (told.fields.task, told.fields.attempt, told.fields.shape) == (task, 1, 2)
    subject.peer.send(wire.CANCEL.pack(0, 0, task, 0, 0))  # of a driver that is gone
    results = [subject.peer.take("RESULT") for _ in range(2)]
    assert [r.fields.object[:16] for r in results] == [task, running] and results[0].fields.flags & wire.ERROR


def test_a_worker_comes_to_where_its_caller_is(subject):
    mine = [n + 1 for n in sorted(os.sched_getaffinity(0))][:2]
    if len(mine) < 2:
        pytest.skip("there is one processor")

    def came(place, first):
        """The worker answers from there, again and again."""
        for n in range(first, first + 12):
            subject.line.sock.sendall(placed(call("twice", n, n)[1], place))
            subject.line.frame()
        return subject.line.places[-8:] == [place] * 8

    assert any(all(came(place, 100 * n + 20 * i) for i, place in enumerate(mine * 2)) for n in range(1, 100))


def end_line(subject):
    subject.peer.send(header(frames.LINE_STRUCT.size, frames.LINE_STRUCT.size, frames.LINE, frames.CLASS_CONTROL) + bytes(frames.LINE_STRUCT.size))


def test_a_worker_that_does_nothing_ends_its_line(subject):
    for over in (False, True):  # there is none any more the second time
        end_line(subject)
        assert subject.peer.take().name == "LINE"
    assert subject.line.sock.recv(1) == b""
    task, frame = call("twice", 4, 11, 9)
    subject.peer.send(frame)
    assert subject.peer.take("RESULT").fields.object[:16] == task


@pytest.mark.parametrize("by", ["line", "agent"])
def test_a_worker_that_ends_its_line_tells_of_what_it_has_from_there(subject, tmp_path, by):
    path = tmp_path / "go"
    runs, frame = call("until", str(path), 10, 2 if by == "line" else 9)
    (subject.line.sock.sendall if by == "line" else subject.peer.send)(frame)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "go.runs").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    waits, frame = call("twice", 2, 11)
    subject.line.sock.sendall(frame)
    end_line(subject)
    for task, attempt in [(runs, 0)] * (by == "line") + [(waits, 1)]:
        told = subject.peer.take()
        assert (told.name, told.fields.task, told.fields.attempt) == ("TOLD", task, attempt)
    assert subject.peer.take().name == "LINE"
    path.touch()
    assert [subject.peer.take("RESULT").fields.object[:16] for _ in range(2)] == [runs, waits]
    with pytest.raises(BrokenPipeError):
        subject.line.sock.sendall(call("twice", 3, 12)[1])


def _other(at, value):
    _, frame = call("twice", 2, 11)
    return frame[: wire.HEADER_SIZE + at] + value + frame[wire.HEADER_SIZE + at + len(value) :]


BROKEN = {
    "nothing that is known": wire.HEADER.pack(0, 0, frames.PUT, frames.CLASS_CALLS, 0, 0, 0, 0),
    "longer than any": wire.HEADER.pack(1 << 20, 112, frames.CALL, frames.CLASS_CALLS, 0, 0, 0, 0),
    "of another actor": _other(32, b"\xff"),
    "of another caller": _other(4, b"\x09"),
    "of another agent": _other(0, b"\x09"),
    "tried before": _other(60, b"\x01"),
    "with a deadline": _other(64, b"\x09"),
    "of another shape": call("twice", 2, 11, 7)[1],
    "a worker's": TAKEN,
    "two at once": call("rest", 2, 11)[1] + call("rest", 2, 12)[1] + call("rest", 2, 13)[1],
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_line_whose_driver_breaks_the_rules_ends(subject, what):
    subject.line.sock.sendall(BROKEN[what])
    assert subject.line.sock.recv(1 << 16) == b""
    task, frame = call("twice", 4, 20, 9)
    subject.peer.send(frame)
    while subject.peer.take("RESULT").fields.object[:16] != task:
        pass
