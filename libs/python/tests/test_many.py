"""Many results and references at once, which the extension takes in without the interpreter."""

import socket
import threading
import time

import pytest

import maniple
from maniple import ObjectRef, exceptions
from maniple._core import session, twin, values, wire


def test_an_error_is_that_of_all_results_that_have_not_come(driver):
    @maniple.remote(num_returns=4)
    def four():
        pass

    for dropped in range(4):  # whichever reference is gone by then
        refs = four.remote()
        task = driver.take("SUBMIT").fields.task
        driver.result(task, "first", flags=0)
        assert maniple.get(refs[0]) == "first"
        kept = [ref for i, ref in enumerate(refs) if i != dropped]
        refs.clear()
        driver.fail(task, "WORKER_DIED", "gone", index=1)
        for ref in kept:
            if ref.binary()[-4:] == b"\0\0\0\0":
                assert maniple.get(ref) == "first"
            else:
                with pytest.raises(exceptions.WorkerCrashedError):
                    maniple.get(ref, timeout=20)


def test_results_of_many_come_in_any_number_of_frames(driver):
    @maniple.remote(num_returns=500)
    def many():
        pass

    refs = many.remote()
    task = driver.take("SUBMIT").fields.task
    half = maniple.wait(refs[:1], timeout=0)
    assert half == ([], refs[:1])
    for i in range(500):
        driver.result(task, i, index=i, flags=wire.LAST if i == 499 else 0)
    assert maniple.get(refs, timeout=20) == list(range(500))
    assert maniple.wait(refs, num_returns=500) == (refs, [])
    assert maniple.get(list(reversed(refs))) == list(reversed(range(500)))
    keys = {ref.binary() for ref in refs}
    del refs, half
    while keys:
        maniple.put(1)  # something that is sent takes the releases along
        keys.discard(driver.take("RELEASE").fields.object)


def test_releases_say_how_often_a_reference_had_come(driver):
    @maniple.remote
    def box():
        pass

    inner = [wire.key_of(wire.TASK.pack(7, 99, n), 0) for n in range(50)]
    outer = box.remote()
    task = driver.take("SUBMIT").fields.task
    encoded = values.encode([ObjectRef(key) for key in inner + inner[:10]])
    driver.raw_result(task, encoded.format, encoded.payload, refs=inner)
    got = maniple.get(outer, timeout=20)
    assert [ref.binary() for ref in got] == inner + inner[:10]
    again = box.remote()
    task = driver.take("SUBMIT").fields.task
    encoded = values.encode([ObjectRef(key) for key in inner[:20]])
    driver.raw_result(task, encoded.format, encoded.payload, refs=inner[:20])
    assert len(maniple.get(again, timeout=20)) == 20
    del got, outer, again
    said = {}
    while len(said) < 50:
        maniple.put(1)
        release = driver.take("RELEASE").fields
        if release.object in inner:
            said[release.object] = release.deliveries
    assert [said[key] for key in inner] == [2] * 20 + [1] * 30


@pytest.mark.skipif(twin.fast is None, reason="of the extension")
def test_who_takes_frames_is_called_when_many_references_were_dropped():
    here, there = socket.socketpair()
    link = twin.fast.Link(here.detach(), 7, 99, 1 << 20, 1000, 100 << 10, False)
    link.start()
    try:
        assert link.take(0.01) == []
        refs = [twin.fast.Ref(wire.key_of(wire.TASK.pack(7, 99, n), 0), link) for n in range(3000)]
        began = time.monotonic()
        threading.Timer(0.05, refs.clear).start()
        assert link.take(60.0) == [] and time.monotonic() - began < 30
        assert link.dropped()
    finally:
        link.close(1.0)
        there.close()


@pytest.mark.skipif(twin.fast is None, reason="of the extension")
def test_an_agent_that_is_busy_holds_up_nobody_until_a_lot_waits():
    here, there = socket.socketpair()
    link = twin.fast.Link(here.detach(), 7, 99, 1 << 20, 1000, 100 << 10, False)
    link.start()
    frames = [n.to_bytes(4, "little") * 256 for n in range(3 << 10)]  # 3 MiB, which no socket has room for
    rest = threading.Thread(target=lambda: [link.send(bytes(1024)) for _ in range(8 << 10)], daemon=True)  # twice as much as may wait, beside what is on its way
    try:
        for frame in frames:
            link.send(frame)
        rest.start()
        rest.join(0.3)
        assert rest.is_alive()  # now it waits
        sent, got = b"".join(frames) + bytes(8 << 20), bytearray()
        there.settimeout(30)
        while len(got) < len(sent):
            got += there.recv(1 << 20)
        assert got == sent
        rest.join(30)
        assert not rest.is_alive()
    finally:
        link.close(1.0)
        there.close()


def test_arrays_with_a_serializer_of_their_own_go_by_it():
    np = pytest.importorskip("numpy")
    from maniple.util import deregister_serializer, register_serializer

    one, other = np.arange(7.0), np.ones(7)
    values.encode(other)  # its make is known
    register_serializer(np.ndarray, serializer=lambda a: a.tolist(), deserializer=lambda parts: np.array(parts) + 1)
    try:
        assert [values.decode(e.format, e.payload)[0] for e in map(values.encode, (one, other))] == [1, 2]
    finally:
        deregister_serializer(np.ndarray)
    assert [values.decode(e.format, e.payload)[0] for e in map(values.encode, (one, other))] == [0, 1]


LARGE = b"x" * 300_000  # more than a table keeps that others have, too


_reads = []


class Shown:
    """Becomes LARGE where it is read, after what is in _reads."""

    def __reduce__(self):
        return _read, (LARGE,)


def _read(value):
    while _reads:
        _reads.pop()()
    return value


def inside(driver, *made):
    """References to results of tasks that come inside frames, however large."""

    @maniple.remote
    def large():
        pass

    refs = []
    for value in made:
        refs.append(large.remote())
        driver.result(driver.take("SUBMIT").fields.task, value)
    assert maniple.wait(refs, num_returns=len(refs), timeout=20) == (refs, [])
    return refs


def again(driver, value):
    """Answers one who asks once more for what another has read."""
    frame = driver.take("GET")
    driver.result(frame.fields.object[:16], value)


@pytest.mark.parametrize("several", [lambda a, b: ([b, b], [b]), lambda a, b: ([a, b], [])], ids=["twice in one list", "by two at once"])
def test_a_large_value_that_is_read_twice(driver, several):
    first, second = inside(driver, Shown(), LARGE)
    asked, after = several(first, second)
    if first in asked:
        _reads.append(lambda: maniple.get(second))  # as another thread may, while the first one is read
    assert maniple.get(asked, timeout=20) == [LARGE, LARGE]
    driver.none_of("GET")
    for ref in after:  # the agent has it
        thread = threading.Thread(target=again, args=(driver, LARGE))
        thread.start()
        assert maniple.get(ref, timeout=20) == LARGE
        thread.join()


@pytest.mark.parametrize("read", [lambda now, ref: now.get([ref], 20)[0], lambda now, ref: bytes(now.raw(ref.binary())[1])], ids=["get", "raw"])
def test_a_large_value_that_another_thread_has_just_read(driver, monkeypatch, read):
    (ref,) = inside(driver, LARGE)
    now, quicker = session.attached(), [True]
    ask = now._ask

    def asks(keys):
        missing = ask(keys)
        if quicker:
            quicker.pop()
            assert now.get([ref]) == [LARGE]
        return missing

    monkeypatch.setattr(now, "_ask", asks)
    thread = threading.Thread(target=again, args=(driver, LARGE))
    thread.start()
    assert LARGE in read(now, ref)
    thread.join()
