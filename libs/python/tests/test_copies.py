"""How large values are copied into shared memory, by the extension."""

import os
import signal
import sys
import threading
import time

import pytest

from maniple._core import twin

fast = pytest.mark.skipif(twin.fast is None, reason="the extension is not used: MANIPLE_PURE is set, or it is not built here")
MIB = 1 << 20


@pytest.fixture
def memory():
    """A file of 64 MiB, as an arena is one."""
    fd = os.memfd_create("arena")
    os.ftruncate(fd, 64 * MIB)
    yield fd
    os.close(fd)


@fast
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_every_way_copies_all_and_nothing_more(two, past):
    source = os.urandom(70_000)
    for at in (0, 1, 63, 64, 65):
        for size in (0, 1, 63, 64, 127, 4096, 8191, 8192, 8193, 65_537):
            room = bytearray(b"#" * 70_000)
            twin.fast.copy(memoryview(room)[at:], memoryview(source)[7 : 7 + size], two, past)
            assert room[at : at + size] == source[7 : 7 + size], (at, size)
            assert room[:at] == b"#" * at and room[at + size :] == b"#" * (70_000 - at - size), (at, size)
    with pytest.raises(ValueError):
        twin.fast.copy(bytearray(3), b"four", two, past)
    with pytest.raises(TypeError):
        twin.fast.copy(b"nobody writes here", b"four", two, past)


@fast
def test_a_slab_is_filled_with_parts_one_behind_another(memory):
    slab = twin.fast.Slab(memory, MIB, 40 * MIB)
    large = os.urandom(MIB) * 33
    slab.fill(4096 + 64, [b"head", b"", memoryview(large)[3:], b"tail"])
    assert os.pread(memory, 4, MIB + 4160) == b"head"
    assert os.pread(memory, len(large) - 3, MIB + 4164) == large[3:]
    assert os.pread(memory, 5, MIB + 4164 + len(large) - 3) == b"tail\0"
    for at, parts in ((40 * MIB - 3, [b"four"]), (-1, [b"x"]), (41 * MIB, [b"x"]), (1 << 62, [b"x"])):
        with pytest.raises(ValueError):
            slab.fill(at, parts)
    for parts in (["text"], 7, [memoryview(b"123456")[::2]]):
        with pytest.raises((TypeError, BufferError)):
            slab.fill(0, parts)
    slab.close()
    slab.close()
    with pytest.raises(ValueError):
        slab.fill(0, [b"x"])
    for bad in ((-1, 0, MIB), (memory, 1, MIB), (memory, 0, 0), (memory, -4096, MIB)):
        with pytest.raises((OSError, ValueError)):
            twin.fast.Slab(*bad)


def known(size_class):
    """How many ways were measured for values of a class of sizes."""
    return sum(rate > 0 for rate in twin.fast.ways()[2 * size_class : 2 * size_class + 2])


WAYS = 2 if os.uname().machine == "x86_64" else 1


@fast
@pytest.mark.parametrize("size,of", [(MIB, 0), (8 * MIB, 1), (16 * MIB, 2)])
def test_how_fast_each_way_is_is_learnt_from_what_is_copied(memory, size, of):
    slab = twin.fast.Slab(memory, 0, 64 * MIB)
    for _ in range(4):
        slab.fill(0, [b"what stands before an array", bytes(size)])
    assert known(of) == WAYS


@fast
def test_the_first_large_value_teaches_all_ways():
    """The best one is taken from its first chunks on, be it the only value that there is."""
    memory = os.memfd_create("slab")
    os.ftruncate(memory, 72 * MIB)
    slab = twin.fast.Slab(memory, 0, 72 * MIB)
    slab.fill(0, [b"what stands before an array", bytes(71 * MIB)])
    assert known(3) == WAYS
    slab.close()
    os.close(memory)


class Interrupted(Exception):
    pass


@fast
def test_when_a_copy_is_interrupted_nobody_writes_any_more():
    """What was to become the value is given to the next one then."""
    size = 256 * MIB
    memory = os.memfd_create("slab")
    slab, value = None, b"x" * size

    def written():
        return sum(os.pread(memory, 1, at) == b"x" for at in range(0, size, MIB))

    def interrupt(number, frame):
        raise Interrupted

    before, counts = signal.signal(signal.SIGALRM, interrupt), []
    try:
        for _ in range(20):
            os.ftruncate(memory, 0)
            os.ftruncate(memory, size)
            slab = twin.fast.Slab(memory, 0, size)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                slab.fill(0, [value])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                counts.append(written())
                time.sleep(0.05)
                assert written() == counts[-1]
            slab.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(memory)
    assert min(counts) < size // MIB, counts


@fast
def test_many_threads_copy_at_once_and_all_of_it(memory):
    """Each with a helper, of which most come when all is done."""
    wrong = []

    def fill(number):
        slab = twin.fast.Slab(memory, number * 16 * MIB, 16 * MIB)
        for turn in range(8):
            value = bytes([number * 8 + turn]) * (9 * MIB + turn)
            slab.fill(turn, [value])
            if os.pread(memory, len(value), number * 16 * MIB + turn) != value:
                wrong.append((number, turn))
        slab.close()

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@fast
def test_others_run_while_a_large_value_is_copied(memory):
    slab = twin.fast.Slab(memory, 0, 64 * MIB)
    value, ran, fills, was = bytes(64 * MIB), [], [], sys.getswitchinterval()

    def fill():
        while not ran and len(fills) < 300:
            slab.fill(0, [value])
            fills.append(1)

    sys.setswitchinterval(100)  # nobody gives the interpreter's lock away
    try:
        thread = threading.Thread(target=fill)
        thread.start()
        ran.append(True)
        assert len(fills) < 300, "all was copied before anybody else ran"
    finally:
        sys.setswitchinterval(was)
        thread.join()
