"""Calls that come in the middle of others on the same thread: of signals' handlers and of __del__ (PY-6)."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import maniple
from maniple._core import session as _session
from maniple._core import frames, wire
from scripted import PATIENCE, Agent
from test_arenas import say_arena
from test_driver import double
from test_interrupt import SOON

CORE = os.path.dirname(os.path.abspath(wire.__file__))
TRIALS = 120  # bytecodes at which a call is interrupted
LARGE = 300_000  # bytes, which go through shared memory
MIB = 1 << 20


@maniple.remote
class Counter:
    def add(self):
        return 1

    @maniple.method(num_returns=2)
    def both(self):
        return 1, 2


class Answers:
    """An agent that does what it is asked at once: tasks and calls give 7, or a pair of it; and memory is lent."""

    def __init__(self, directory):
        self.agent, self.arena, self.lent, self.numbers = Agent(directory, store=True), os.memfd_create("arena"), 0, []
        self.values, self.made = {}, 0
        os.ftruncate(self.arena, 64 * MIB)
        self.agent.on_attach = self.attached

    def attached(self, peer):
        self.peer, peer.handler = peer, self.hear

    def hear(self, frame):
        peer, size = self.peer, len(frame.payload)
        if frame.name in ("SUBMIT", "CALL"):
            if frame.name == "CALL":
                self.numbers.append(frame.fields.sequence)
            for i in range(frame.fields.returns):
                peer.result(frame.fields.task, 7, i, wire.LAST if i == frame.fields.returns - 1 else 0)
            peer.credit(size, 1)
        elif frame.name == "CREATE":
            peer.credit(size, 1)
        elif frame.name == "PUT":
            self.values[frame.fields.object] = frame.fields.format, frame.payload
            peer.credit(size, 1)
        elif frame.name == "SEAL":
            self.values[frame.fields.object] = frame.fields.format, os.pread(self.arena, frame.fields.size, frame.fields.offset)
            peer.credit(size, 1)
        elif frame.name == "GET":
            peer.raw_result(frame.fields.object[:16], *self.values[frame.fields.object], flags=wire.LAST | wire.NOT_TASK)
        elif frame.name == "RELEASE":
            self.values.pop(frame.fields.object, None)
        elif frame.name == "CACHE_WANTED":
            self.made += 1  # nothing is cached: whoever asks is to make it
            peer.table("Cached", {"object": wire.task_fields(wire.TASK.pack(7, 0, self.made)), "make": True}, corr=frame.corr)
        elif frame.name == "SLAB_WANTED" and frame.fields.get("size"):
            self.lend(frame.fields["size"])

    def lend(self, size):
        first, size = not self.lent, size + -size % 64
        if first:
            say_arena(self.peer, self.arena, 64 * MIB)
        if self.lent + size > 64 * MIB:  # nobody looks at the first ones any more
            self.lent = 64
        body = frames.pack("Slab", {"slab": 3, "arena": 5, "start": 0, "size": 64 * MIB, "from": self.lent, "to": self.lent + size})
        head = wire.HEADER.pack(len(body), len(body), frames.SLAB, frames.CLASS_OF.get(frames.SLAB, 1), frames.FLAG_DESCRIPTOR if first else 0, 0, 0, 0)
        socket.send_fds(self.peer.sock, [head + body], [self.arena] if first else [])
        self.lent += size

    def close(self):
        self.agent.close()
        os.close(self.arena)


@pytest.fixture
def answers(tmp_path, cloudpickle):
    made = Answers(tmp_path)
    maniple.init(made.agent.path, namespace="test")
    yield made
    maniple.shutdown()
    made.close()


class Traced:
    """Does something at one bytecode of what runs in the package's core: the at-th of those that it meets."""

    def __init__(self, at, act):
        self.at, self.act, self.met, self.before = at, act, 0, None

    def frame(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.opcode

    def opcode(self, frame, event, arg):
        if event == "opcode":
            self.met += 1
            if self.met == self.at:
                sys.settrace(None)
                self.act()
                sys.settrace(self.frame)
        return self.opcode

    def __enter__(self):
        sys.settrace(self.frame)
        return self

    def __exit__(self, *exc):
        sys.settrace(None)


def outer_calls(actor):
    """What is interrupted, by name."""
    kept = [double.remote(0) for _ in range(3)]

    def get_all():
        refs = [double.remote(1), double.remote(2)]
        return maniple.get(refs)

    def look():
        ref = maniple.put(b"x" * LARGE)
        assert maniple.get(ref) == b"x" * LARGE

    def wait():
        refs = [double.remote(1), double.remote(2)]
        assert len(maniple.wait(refs, num_returns=2)[0]) == 2

    def drop():
        refs = [maniple.put(i) for i in range(3)]
        refs.append(maniple.get(maniple.put([refs[0]]))[0])
        del refs
        _session.current().connection.flush()

    def two():
        assert maniple.get(actor.both.remote()) == [7, 7]

    def large():
        assert maniple.get(double.remote(b"x" * LARGE)) == 7

    def cached():
        assert maniple.cached(f"outer {next(cpus)}", lambda: b"z" * LARGE) == b"z" * LARGE

    return {
        "cached": cached, "submit": lambda: double.remote(1), "call": lambda: actor.add.remote(), "call of two": two, "put": lambda: maniple.put(1), "large": look, "argument": large,
        "get": get_all, "wait": wait, "drop": drop, "shape": lambda: double.options(num_cpus=next(cpus)).remote(1), "actor": lambda: Counter.remote(),
    }  # fmt: skip


cpus = iter(range(2, 1 << 30))
NAMES = ["cached", "submit", "call", "call of two", "put", "large", "argument", "get", "wait", "drop", "shape", "actor"]


def nested(actor):
    """What comes in between: something of all."""
    assert maniple.get(double.remote(2), timeout=PATIENCE) == 7
    assert maniple.get(actor.add.remote(), timeout=PATIENCE) == 7
    small, large = maniple.put(5), maniple.put(b"y" * LARGE)
    assert maniple.get([small, large], timeout=PATIENCE) == [5, b"y" * LARGE]
    assert maniple.wait([double.remote(1), double.remote(2)], num_returns=2, timeout=PATIENCE)[1] == []
    assert maniple.cached(f"inner {next(cpus)}", lambda: b"c" * LARGE, timeout=PATIENCE) == b"c" * LARGE


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_between_two_bytecodes_of_a_call_is_done_at_once(answers, name):
    actor = Counter.remote()
    maniple.get([double.remote(1), actor.add.remote()])
    call = outer_calls(actor)[name]
    with Traced(0, None) as trace:
        call()
    count, chance = trace.met, random.Random(name)
    assert count > 10
    for at in range(1, count + 1) if count <= TRIALS else sorted(chance.sample(range(1, count + 1), TRIALS)):
        with Traced(at, lambda: nested(actor)):
            call()
    maniple.get(double.remote(1), timeout=PATIENCE)
    assert len(set(answers.numbers)) == len(answers.numbers), "each call has its number"
    assert not _session.current().wanted


class Stop(BaseException):
    """As KeyboardInterrupt, which pytest takes for its own."""


@pytest.mark.parametrize("name", NAMES)
def test_what_is_interrupted_anywhere_leaves_the_session_whole(answers, name):  # PY-1
    actor, chance, stopped = Counter.remote(), random.Random(name), 0
    maniple.get([double.remote(1), actor.add.remote()])
    call, armed = outer_calls(actor)[name], []

    def stop(signum, frame):
        if armed:
            armed.clear()
            raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 1e-3))
                armed.append(1)
                for _ in range(20):
                    call()
                armed.clear()
            except Stop:
                stopped += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert maniple.get(double.remote(2), timeout=PATIENCE) == 7
        nested(actor)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped > 10


def test_a_handler_calls_while_the_main_thread_submits(answers):
    """Every few milliseconds, until 20,000 tasks were submitted and got."""
    actor, handled, inside = Counter.remote(), [], []

    def handle(signum, frame):
        if not inside:
            inside.append(1)
            nested(actor)
            handled.append(time.monotonic())
            inside.clear()

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    try:
        refs = [double.remote(i) for i in range(20_000)]
        assert maniple.get(refs, timeout=10 * PATIENCE) == [7] * len(refs)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) > 10


CLEANS = """
import gc, sys
import maniple

class Cleans:
    # As users write it: what goes tells its actor. In a circle, so that the garbage collector finds it, in the middle of anything.
    done = []
    def __init__(self, actor):
        self.actor, self.circle = actor, self
    def __del__(self):
        try:
            self.done.append(maniple.get(self.actor.add.remote(), timeout=60))
        except RuntimeError as e:
            self.done.append(str(e))

@maniple.remote
class Counter:
    def add(self): pass

@maniple.remote
def double(x): pass

maniple.init(sys.argv[1])
actor = Counter.remote()
for i in range(1000):
    gc.set_threshold(10 + i % 23, 2, 2)  # so that it does not always come on the same thread
    Cleans(actor)
    assert maniple.get([double.remote(i), actor.add.remote()], timeout=60) == [7, 7]
    maniple.put([i])
gc.collect()
odd = [e for e in Cleans.done if e != 7 and "can't wait" not in e]
assert not odd and Cleans.done.count(7) > 300, (odd, Cleans.done.count(7), len(Cleans.done))
maniple.shutdown()
print("the end")
"""


def test_the_garbage_collector_runs_what_calls(tmp_path, cloudpickle):
    made = Answers(tmp_path)
    try:
        script = subprocess.run([sys.executable, "-c", CLEANS, made.agent.path], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=5 * PATIENCE)
        assert script.stdout == "the end\n"
    finally:
        made.close()


def test_an_interrupt_comes_soon_while_tasks_are_submitted(answers):  # PY-1
    for delay in (0.01, 0.03, 0.05):
        sent, came = [], threading.Event()

        def send():
            time.sleep(delay)
            for _ in range(20):  # Python loses what comes as it begins a __del__, which references have on the pure twin
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
                if came.wait(SOON):
                    return

        sender = threading.Thread(target=send)
        try:
            sender.start()
            while True:
                double.remote(1)
        except KeyboardInterrupt:
            came.set()
            assert time.monotonic() - sent[-1] < SOON
        sender.join()
        assert len(sent) <= (3 if os.environ.get("MANIPLE_PURE") else 1)
    assert maniple.get(double.remote(1)) == 7
