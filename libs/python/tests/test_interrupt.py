"""Ctrl-C in everything that waits, and forks in the middle of it all."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import maniple
from maniple import exceptions
from maniple._core import values, wire
from maniple._core.context import Running, running
from scripted import PATIENCE, Agent
from test_driver import double

SOON = 0.3  # seconds: PY-1


def interrupted(call, interrupt=lambda: os.kill(os.getpid(), signal.SIGINT), waiting=("wait", "acquire", "pause"), inside="_core", still=0.0):
    """Runs call, sends this process a SIGINT while it waits, and gives the seconds until it raised. waiting: functions of Python's, of files whose path
    has inside, that call what waits; pause calls the extension's. still: seconds that it has to be at one place there."""
    main, sent = threading.main_thread().ident, []

    def send():
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:  # until the main thread is really inside
            frame = sys._current_frames()[main]
            if frame.f_code.co_name in waiting and inside in frame.f_code.co_filename:
                at = frame, frame.f_lasti
                if still:
                    time.sleep(still)
                    frame = sys._current_frames()[main]
                if (frame, frame.f_lasti) == at:
                    break
        sent.append(time.monotonic())
        interrupt()

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    took = time.monotonic() - sent[0]
    thread.join()
    return took


def test_get_is_interrupted(driver):  # PY-1
    ref = double.remote(1)
    assert interrupted(lambda: maniple.get(ref)) < SOON
    driver.result(ref.binary()[:16], 2)
    assert maniple.get(ref) == 2


def test_an_interrupt_that_wakes_nobody_is_not_overlooked(driver):  # PY-1
    """As one that comes just before the kernel's wait: Python's note of it is there, and nothing ends the wait."""
    ref = double.remote(1)
    assert interrupted(lambda: maniple.get(ref), _thread.interrupt_main) < SOON


def test_wait_is_interrupted(driver):  # PY-1
    refs = [double.remote(1), double.remote(2)]
    assert interrupted(lambda: maniple.wait(refs, num_returns=2)) < SOON


@pytest.mark.parametrize("credit", [(1 << 20, 3), (100, 1000)], ids=["records", "bytes"])
def test_a_wait_for_credit_is_interrupted(tmp_path, credit, cloudpickle):  # PY-1
    agent = Agent(tmp_path, credit=credit)
    try:
        maniple.init(agent.path)
        peer = agent.peer()
        size = len(values.encode(((0,), {})).payload)
        fits = min(credit[1], credit[0] // size)
        refs = [double.remote(0) for _ in range(fits)]
        assert interrupted(lambda: double.remote(0)) < SOON
        for _ in range(fits):  # what had been sent before is on its way all the same
            peer.take("SUBMIT")
        peer.credit(size, 1)
        refs.append(double.remote(0))
        peer.take("SUBMIT")
    finally:
        maniple.shutdown()
        agent.close()


INTERRUPTED = """
import maniple, signal, sys
from maniple._core import connection

def interrupt(number, frame):
    if armed:
        raise KeyboardInterrupt

armed = False
signal.signal(signal.SIGINT, interrupt)
connection.FLUSH_AT = 1  # write all the time
maniple.init(sys.argv[1])
maniple.put(b"ready")
interrupts = 0
while interrupts < 200:
    try:
        try:
            armed = True
            while True:
                maniple.put(b"y" * 3000)
        finally:  # a second one may come before this is done
            armed = False
    except KeyboardInterrupt:
        armed = False
        interrupts += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
maniple.put(b"the end")
maniple.shutdown()
"""


def test_the_stream_of_frames_is_whole_after_many_interrupts(tmp_path):  # PY-1
    """A script that is interrupted at random while it sends: every frame comes whole, and once."""
    agent = Agent(tmp_path)
    seen, twice, ready, ended = set(), [], threading.Event(), threading.Event()

    def handle(frame):
        if frame.name != "PUT":
            return
        assert frame.payload in (b"y" * 3000, b"ready", b"the end")
        if frame.fields.object in seen:
            twice.append(frame.fields.object)
        seen.add(frame.fields.object)
        agent.peers[0].credit(len(frame.payload), 1)
        {b"ready": ready, b"the end": ended}.get(frame.payload, threading.Event()).set()

    def see(peer):
        peer.handler = handle

    agent.on_attach = see
    script = subprocess.Popen([sys.executable, "-c", INTERRUPTED, agent.path], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        assert ready.wait(PATIENCE)
        deadline = time.monotonic() + 3 * PATIENCE
        while not ended.wait(0.001) and time.monotonic() < deadline and script.poll() is None:
            script.send_signal(signal.SIGINT)
        assert ended.is_set() and script.wait(PATIENCE) == 0
        assert not twice and len(seen) > 200
    finally:
        script.kill()
        script.wait()
        agent.close()


def in_child(code):
    """Forks, runs code there, gives what it returned; the child ends without pytest's exit."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr(code()).encode())
        except BaseException as e:
            os.write(write, f"child: {e!r}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as f:
        said = f.read()
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_drops_references_without_the_agent(driver):  # PY-2, PY-3
    refs = [double.remote(i) for i in range(10)]
    view = maniple.put([1, 2])
    kept = maniple.get(view)
    for _ in refs:
        driver.take("SUBMIT")

    def child():
        del refs[:]
        return kept, maniple.is_initialized()

    assert in_child(child) == "([1, 2], False)"
    driver.none_of("RELEASE", "GOODBYE")
    driver.result(refs[0].binary()[:16], 1)
    assert maniple.get(refs[0]) == 1


def test_a_forked_child_is_a_process_of_its_own_at_its_first_call(driver, agent):  # PY-3
    ref = maniple.put("from the parent")
    told = []

    def serve():
        peer = agent.peer()
        told.append((int(peer.attach["kind"]), peer.attach["job_config"]))
        told.append(peer.take("PUT").fields.object[:8])
        told.append(peer.take("SUBMIT").fields.parent)

    def child():
        before = []
        try:
            maniple.get(ref)
        except exceptions.ObjectLostError as e:
            before.append("fork" in str(e))
        return before, maniple.get(maniple.put(2)), double.remote(1) is None, maniple.shutdown()

    thread = threading.Thread(target=serve)
    thread.start()
    token = running.set(Running(b"t" * wire.TASK_SIZE))  # as inside of a task
    try:
        assert in_child(child) == "([True], 2, False, None)"
    finally:
        running.reset(token)
    thread.join(PATIENCE)
    assert told[0][0] == 0 and '"job": 1' in told[0][1]
    assert told[1] != ref.binary()[:8]  # IDs of its own
    assert told[2] == wire.NO_TASK  # its calls are not the task's: that one runs in the parent
    assert maniple.get(ref) == "from the parent"


def test_forks_while_other_threads_wait(driver):  # PY-3
    refs = [double.remote(i) for i in range(50)]
    got = []
    thread = threading.Thread(target=lambda: got.extend(maniple.get(refs)))
    thread.start()
    for i, ref in enumerate(refs):
        if i % 5 == 0:
            assert in_child(lambda: len(refs)) == "50"
        driver.result(ref.binary()[:16], i)
    thread.join(PATIENCE)
    assert got == list(range(50))


def test_everything_that_waits_ends_with_the_connection(driver):  # PY-4
    ref = double.remote(1)
    future = ref.future()
    errors = []

    def waits(call):
        try:
            call()
        except exceptions.LocalAgentDiedError as e:
            errors.append(str(e))

    calls = [lambda: maniple.get(ref), lambda: maniple.wait([ref]), lambda: maniple.nodes(), lambda: maniple.util.placement_group([{"CPU": 1}]).wait(None)]
    threads = [threading.Thread(target=waits, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    driver.take("SUBMIT"), driver.take("STATE_QUERY"), driver.take("GROUP_CREATE")
    driver.table("Shutdown", {"reason": "the head said so"})
    driver.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(errors) == 4 and all("the head said so" in e for e in errors)
    assert isinstance(future.exception(PATIENCE), exceptions.LocalAgentDiedError)
    with pytest.raises(exceptions.LocalAgentDiedError):
        double.remote(1)
    assert not maniple.is_initialized()
