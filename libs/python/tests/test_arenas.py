"""Values in shared memory, as an agent names them."""

import gc
import mmap
import os
import pickle
import socket
import time

import pytest

import maniple
from maniple import exceptions
from maniple._core import arenas, frames, session, twin, values, wire
from scripted import PATIENCE
from test_driver import double

SIZE = 1 << 20


def say_arena(driver, fd, size=SIZE, number=5):
    body = frames.pack("Arena", {"arena": number, "size": size})
    head = wire.HEADER.pack(len(body), len(body), frames.ARENA, frames.CLASS_OF.get(frames.ARENA, 1), frames.FLAG_DESCRIPTOR, 0, 0, 0)
    socket.send_fds(driver.sock, [head + body], [fd])


def locate(driver, task, offset, size, number=5):
    location = frames.LOCATION_STRUCT.pack(frames.LOCATION_KIND_MEMORY, 7, number, offset, size)
    driver.raw_result(task, wire.PICKLE, location, flags=wire.LAST | wire.LOCATED)


@pytest.fixture
def arena():
    fd = os.memfd_create("arena")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_value_is_read_where_it_lies_and_held_as_long_as_it_is_viewed(driver, arena):
    payload = values.encode(pickle.PickleBuffer(bytes(range(200)))).payload
    os.pwrite(arena, payload, 64 * 77)
    say_arena(driver, arena)
    ref = double.remote(1)
    locate(driver, driver.take("SUBMIT").fields.task, 64 * 77, len(payload))
    view = maniple.get(ref)
    assert bytes(view) == bytes(range(200)) and view.readonly
    key = ref.binary()
    part = view[5:9]
    del ref, view
    gc.collect()
    other = double.remote(2)
    driver.result(driver.take("SUBMIT").fields.task, "behind")
    assert maniple.get(other) == "behind"
    driver.none_of("RELEASE")
    assert bytes(part) == bytes([5, 6, 7, 8])
    del part
    gc.collect()
    assert driver.take("RELEASE").fields.object == key


def recall(driver, key):
    """Has the agent ask for an object, and gives how many places the process has seen; 0: it looks."""
    name = {"task": wire.task_fields(key[:16]), "index": int.from_bytes(key[16:], "little")}
    driver.table("ViewRecall", name)
    fields = driver.take("VIEW_END").fields
    assert wire.task_bytes(fields["task"]) == key[:16]
    return fields.get("seen") or 0


def test_what_nobody_looks_at_is_left_to_the_agent_and_asked_for_again(driver, arena):
    payload = values.encode(pickle.PickleBuffer(bytes(range(200)))).payload
    os.pwrite(arena, payload, 64 * 77)
    say_arena(driver, arena)
    ref = double.remote(1)
    key = ref.binary()
    locate(driver, driver.take("SUBMIT").fields.task, 64 * 77, len(payload))
    view = maniple.get(ref)
    assert recall(driver, key) == 0  # it is looked at
    del view
    gc.collect()
    assert driver.take("VIEW_END").fields["seen"] == 1  # it is not any more
    os.pwrite(arena, b"another's", 64 * 77)
    os.pwrite(arena, payload, 64 * 99)
    future = ref.future()
    assert driver.take("GET").fields.object == key
    locate(driver, key[:16], 64 * 99, len(payload))
    assert bytes(future.result(5)) == bytes(range(200))
    del future
    gc.collect()
    assert recall(driver, key) == 1
    del ref
    gc.collect()
    assert driver.take("RELEASE").fields[:2] == (key, 2)
    driver.table("ViewRecall", {"task": wire.task_fields(key[:16])})  # the messages crossed
    driver.none_of("VIEW_END")


def test_a_value_is_used_while_others_that_wait_come_and_go(driver):
    now, key = session.current(), double.remote(1).binary()

    class Leaves(list):
        def __contains__(self, other):  # as its thread does, while this one looks
            now.wanted.remove(self)
            return super().__contains__(other)

    now.wanted += [Leaves(), [key]]
    assert now.uses_locked(key)
    now.wanted.clear()


def test_a_large_value_that_one_has_read_is_asked_for_by_the_next(driver):
    ref = double.remote(1)
    task, large = driver.take("SUBMIT").fields.task, b"x" * 300_000
    futures = [ref.future(), ref.future()]
    driver.result(task, large)
    assert futures[0].result(PATIENCE) == large
    assert driver.take("GET").fields.object == ref.binary()
    driver.result(task, large)
    assert futures[1].result(PATIENCE) == large


def test_arrays_in_shared_memory_can_not_be_written(driver, arena):
    np = pytest.importorskip("numpy")
    payload = values.encode(np.arange(1000.0)).payload
    os.pwrite(arena, payload, 64)
    say_arena(driver, arena)
    ref = double.remote(1)
    locate(driver, ref.binary()[:16], 64, len(payload))
    array = maniple.get(ref)
    assert (array == np.arange(1000.0)).all() and array.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_an_arena_that_is_gone_stays_for_those_who_look(driver, arena):
    before = descriptors()
    os.pwrite(arena, values.encode([1, 2]).payload, 4096)
    say_arena(driver, arena)
    ref, late = double.remote(1), double.remote(2)
    locate(driver, ref.binary()[:16], 4096, 100)
    maniple.wait([ref])
    driver.table("ArenaGone", {"arena": 5})
    driver.result(late.binary()[:16], 0)
    assert maniple.get(late) == 0 and maniple.get(ref) == [1, 2]
    del ref
    gc.collect()
    driver.take("RELEASE")
    assert descriptors() <= before


@pytest.mark.parametrize("offset,size", [(SIZE, 64), (0, SIZE + 1), (0, 0), (1 << 63, 1 << 63)])
def test_a_place_that_is_none_ends_the_connection(driver, arena, offset, size):
    say_arena(driver, arena)
    ref = double.remote(1)
    locate(driver, ref.binary()[:16], offset, size)
    with pytest.raises(exceptions.LocalAgentDiedError, match="can't be read"):
        maniple.get(ref)


def test_an_arena_that_is_smaller_than_it_is_said_to_be(driver, arena):
    say_arena(driver, arena, size=SIZE * 2)
    with pytest.raises(exceptions.LocalAgentDiedError, match="can't be read"):
        maniple.get(double.remote(1))


def shared_in_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssShmem:"))


@pytest.fixture
def viewed(driver):
    """A view of 8 MiB that is in this process's page table, and how much else is."""
    size = 8 << 20
    payload = values.encode(pickle.PickleBuffer(bytes(range(256)) * (size >> 8))).payload
    arena = os.memfd_create("arena")
    os.ftruncate(arena, 2 * size)
    os.pwrite(arena, payload, 0)
    say_arena(driver, arena, 2 * size)
    ref = double.remote(1)
    locate(driver, driver.take("SUBMIT").fields.task, 0, len(payload))
    os.close(arena)
    view = maniple.get(ref)
    beside = shared_in_memory()
    assert sum(view[::4096]) == 0 and shared_in_memory() >= beside + size // 2
    return view, beside


def faded(view, beside, within=5.0):
    over = time.monotonic() + within
    while shared_in_memory() >= beside + len(view) // 2:
        if time.monotonic() > over:
            return False
        time.sleep(0.01)
    return bytes(view[-300:]) == (bytes(range(256)) * 2)[-300:]


def test_views_fade_from_the_page_table_and_come_back(driver, viewed):
    driver.table("ViewFade", {"least": 16 << 20})
    assert not faded(*viewed, within=0.3)
    driver.table("ViewFade", {"least": 1 << 20})
    assert faded(*viewed)


@pytest.fixture
def unbound():
    yield
    arenas.bound(0)


def test_views_keep_to_what_a_process_may_have_in_its_page_table(driver, viewed, unbound):
    view, beside = viewed
    driver.table("ViewFade", {"most": 4 << 20})
    assert faded(*viewed)
    for _ in range(3):
        assert sum(view[::4096]) == 0
        assert faded(*viewed)
    driver.table("ViewFade", {"most": 1 << 40})
    over = time.monotonic() + PATIENCE
    while faded(view, beside, within=0.2):  # what it was told has not arrived
        assert sum(view[::4096]) == 0 and time.monotonic() < over


@pytest.mark.skipif(twin.fast is None, reason="without the extension nothing fades that is not held")
def test_what_is_unmapped_fades_no_more(unbound):
    size = 8 << 20
    fd = os.memfd_create("arena")
    os.ftruncate(fd, 2 * size)

    stays, goes, slab = arenas._map(fd, size, 0), arenas._map(fd, size, size), twin.fast.Slab(fd, 0, size)
    arenas.bound(1 << 20)
    del goes, slab
    part = 1 << 18
    own = [mmap.mmap(-1, part, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(200)]  # some of it where those were
    for m in own:
        m[:] = b"x" * part
    looks, over = 0, time.monotonic() + 0.5
    while time.monotonic() < over:
        assert bytes(stays[::4096]) == bytes(size >> 12)
        looks += 1
    os.close(fd)
    assert looks > 3 and all(m[::4096] == b"x" * (part >> 12) for m in own)
