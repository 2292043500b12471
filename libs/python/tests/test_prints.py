"""What workers print: whole lines with a mark, and at the driver once."""

import os
import resource
import select
import signal
import subprocess
import sys

import pytest

from maniple import _prints
from maniple._core import code, fold, values, wire
from maniple._prints import SPEAKER, Prints
from relay import ROOT
from scripted import PATIENCE, Agent


@pytest.fixture
def world():
    """Prints that go on to two pipes, which nobody reads unasked."""
    before = len(os.listdir("/proc/self/fd"))
    made = World()
    yield made
    _prints.close([*made.reads.values(), *made.writes])
    assert len(os.listdir("/proc/self/fd")) == before


class World:
    def __init__(self):
        self.poll, self.got, pipes = select.poll(), {1: b"", 2: b""}, (os.pipe(), os.pipe())
        self.reads, self.writes = {1: pipes[0][0], 2: pipes[1][0]}, (pipes[0][1], pipes[1][1])
        for fd in self.reads.values():
            os.set_blocking(fd, False)
        self.prints = Prints(self.poll, self.writes)

    def worker(self, pid):
        reads, writes = self.prints.pipes()
        self.prints.add(reads, pid)
        return writes

    def turn(self, read=True):
        """Does what there is to do."""
        while True:
            events = [fd for fd, _ in self.poll.poll(0)]
            done = [fd for fd in events if self.prints.event(fd)]
            if read:
                for stream, end in self.reads.items():
                    try:
                        self.got[stream] += os.read(end, 1 << 20)
                        done.append(end)
                    except BlockingIOError:
                        pass
            if not done:
                return

    def close(self, *writes):
        _prints.close(writes)
        self.turn()


def test_lines_are_whole_and_marked(world):
    w = world
    a, b = w.worker(11), w.worker(22)
    os.write(a[0], SPEAKER + b"train\nepoch")
    os.write(b[0], b"before it knows\n")
    os.write(b[1], SPEAKER + b"eval\nwarning\n")
    w.turn()
    assert w.got == {1: b"(worker pid=22) before it knows\n", 2: b"(eval pid=22) warning\n"}
    os.write(a[0], b" 1\nbar 10%\rbar 99%\r\nunfinished" + SPEAKER + b"other\nx\ny")
    w.turn()
    assert w.got[1] == b"(worker pid=22) before it knows\n(train pid=11) epoch 1\n(train pid=11) bar 99%\n(train pid=11) unfinished\n(other pid=11) x\n"
    w.close(*a, *b)  # a last line without an end gets one
    assert w.got[1].endswith(b"(other pid=11) y\n")


def test_a_line_has_a_bound(world):
    w = world
    a = w.worker(1)
    for _ in range(4):
        os.write(a[0], b"x" * 40_000)
        w.turn()
    w.close(*a)
    lines = w.got[1].split(b"\n")
    assert [len(line) for line in lines] == [65536 + 15, 65536 + 15, 160_000 - 131_072 + 15, 0]
    b = w.worker(2)
    for i in range(50):
        os.write(b[0], b"%d " % i + b"-" * 4000 + b"\r")
        w.turn()
    w.close(*b)
    assert w.got[1].split(b"\n")[-2].startswith(b"(worker pid=2) 49 ---")


def test_who_does_not_read_stops_those_who_print_and_nobody_else(world):
    w = world
    a = w.worker(1)
    os.set_blocking(a[0], False)
    sent = 0
    for _ in range(1000):
        try:
            sent += os.write(a[0], b"line of sixteen.\n"[:16] * 256)
        except BlockingIOError:
            w.turn(read=False)
            if not select.select([], [a[0]], [], 0)[1]:
                break
    else:
        pytest.fail("it was read without end")
    assert sent < 2 << 20
    os.write(a[1], b"errors go on\n")
    w.turn(read=False)
    assert os.read(w.reads[2], 100) == b"(worker pid=1) errors go on\n"
    w.close(*a)
    assert w.got[1].count(b"line of sixteen") == sent // 16


def test_lines_of_another_node_say_which():
    reads, writes = os.pipe(), os.pipe()
    prints = Prints(select.poll(), (writes[1], writes[1]), node="n2")
    prints.add([reads[0], reads[0]], 7)
    os.write(reads[1], SPEAKER + b"f\nhello\n")
    prints.event(reads[0])
    prints.last(0)
    assert os.read(writes[0], 100) == b"(f pid=7, node=n2) hello\n"
    assert fold._MARK.match("(f pid=7, node=n2) hello").group(1) == "7, node=n2"
    _prints.close([*reads, *writes])


def test_without_descriptors_there_is_no_pipe(world):
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, soft[1]))  # room for few
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        os.close(taken.pop())
        os.close(taken.pop())
    try:
        assert world.prints.pipes() is None  # two of four, which are closed again
        taken += [os.dup(0), os.dup(0)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
        _prints.close(taken)


def test_a_worker_s_last_words(tmp_path):
    """Through a real template: of a worker that is killed in the middle of a line, and of what it started."""

    def speak(how):
        print("by print")
        os.system("echo by a shell")
        os.write(2, b"c says")
        if how:
            os.kill(os.getpid(), how)

    speak.__module__ = "__main__"
    agent = Agent(tmp_path)
    env = {**os.environ, "MANIPLE_ADDRESS": agent.path, "MANIPLE_WORKER": "3", "PYTHONPATH": ROOT}
    process = subprocess.Popen([sys.executable, "-m", "maniple._template"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        template, pids = agent.peer(), []
        for key, how in ((1, 0), (2, signal.SIGKILL)):
            template.table("Fork", {"key": key, "env": []})
            worker = agent.peer()
            pids.append(template.take("WORKER_STATE").fields["pid"])
            function = code.Code(speak, "m.Outer.speak")
            worker.table("Function", function.fields(), function.payload)
            arguments = values.encode(((how,), {})).payload
            task = wire.TASK.pack(7, 99, key)
            worker.send(wire.SUBMIT.pack(len(arguments), 0, task, wire.NO_TASK, function.number, 1, 0, 0, 0, 1, 1, 0, 0, wire.PICKLE) + arguments)
            if not how:
                worker.take("RESULT")
                worker.close()
            assert template.take("WORKER_STATE").fields["signal"] == how
        template.table("Shutdown", {"reason": "enough"})
        out, err = process.communicate(timeout=PATIENCE)
        marks = [f"(speak pid={pid}) " for pid in pids]
        assert out.splitlines() == [m + text for m in marks for text in ("by print", "by a shell")]
        assert [line for line in err.splitlines() if line.startswith("(")] == [m + "c says" for m in marks] and process.returncode == 0
    finally:
        process.kill()
        process.wait()
        agent.close()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_equal_lines_of_several_are_shown_once(capsys, monkeypatch):
    monkeypatch.setattr(fold.threading.Timer, "start", lambda timer: None)
    clock = Clock()
    f = fold.Fold(clock)
    f.feed(1, b"(f pid=1) loaded\n(f pid=2) loaded\n(f pid=1) loaded\n(f pid=3) loa")
    assert capsys.readouterr().out == "(f pid=1) loaded\n(f pid=1) loaded\n"  # one that repeats itself means it
    f.feed(1, b"ded\n(g pid=9) other\nno mark\nno mark\n")
    f.feed(2, b"(f pid=2) once more\n(f pid=3) once more\n")
    assert capsys.readouterr() == ("(g pid=9) other\nno mark\nno mark\n", "(f pid=2) once more\n")
    clock.now += fold.WINDOW
    f._due()
    out, err = capsys.readouterr()
    assert out == "(f pid=3) loaded [repeated 2x across cluster]" + fold._HINT + "\n" and err == "(f pid=3) once more\n"
    f.feed(1, b"(f pid=2) loaded\n(f pid=1) loaded\n(f pid=1) loaded\n(f pid=1) no end")
    assert capsys.readouterr().out == "(f pid=2) loaded\n"
    f.close()
    assert capsys.readouterr().out == "(f pid=1) loaded [repeated 2x across cluster]\n(f pid=1) no end\n"


def test_nothing_is_folded_or_shown_where_that_is_asked(capsys, monkeypatch):
    for name in ("MANIPLE_DEDUP_LOGS", "RAY_DEDUP_LOGS"):
        monkeypatch.setenv(name, "0")
        fold.Fold().feed(1, b"(f pid=1) same\n(f pid=2) same\n")
        assert capsys.readouterr().out.count("same") == 2
        monkeypatch.delenv(name)
    f = fold.Fold()
    f.shown = False
    f.feed(1, b"(f pid=1) same\n")
    f.close()
    assert capsys.readouterr().out == ""


def test_what_is_remembered_is_bounded(capsys, monkeypatch):
    monkeypatch.setattr(fold, "_MOST", 10)
    monkeypatch.setattr(fold.threading.Timer, "start", lambda timer: None)
    f = fold.Fold(Clock())
    for i in range(100):
        f.feed(1, b"(f pid=1) %d\n(f pid=2) %d\n" % (i, i))
    f.close()
    assert len(f._seen) == 0 and capsys.readouterr().out.count("\n") == 200
