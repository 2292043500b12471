"""Values that this process writes into memory that the agent lent."""

import gc
import os
import queue
import socket
import threading

import pytest

import maniple
from maniple import exceptions
from maniple._core import frames, session, values, wire
from scripted import PATIENCE, Agent, keys
from test_arenas import locate, say_arena
from test_driver import double
from test_interrupt import SOON, interrupted

MIB = 1 << 20
LARGE = b"x" * 300_000


@pytest.fixture
def agent(tmp_path, cloudpickle):
    made = Agent(tmp_path, store=True)
    yield made
    maniple.shutdown()
    made.close()


@pytest.fixture
def arena():
    fd = os.memfd_create("arena")
    os.ftruncate(fd, 4 * MIB)
    yield fd
    os.close(fd)


def lend(driver, fd, size, at=0, slab=3, start=MIB, first=True):
    """Answers what the driver asked for: [at, at + size) of a slab that begins at start of arena 5."""
    if first:
        say_arena(driver, fd, 4 * MIB)
    body = frames.pack("Slab", {"slab": slab, "arena": 5, "start": start, "size": 2 * MIB, "from": at, "to": at + size})
    flags = frames.FLAG_DESCRIPTOR if first else 0
    head = wire.HEADER.pack(len(body), len(body), frames.SLAB, frames.CLASS_OF.get(frames.SLAB, 1), flags, 0, 0, 0)
    socket.send_fds(driver.sock, [head + body], [fd] if first else [])


def lends(driver, fd, size, **where):
    """Lends as soon as it is asked."""
    asked = []

    def answer():
        asked.append(driver.take("SLAB_WANTED").fields.get("size"))
        lend(driver, fd, size, **where)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread, asked


def test_a_put_is_written_where_it_will_be_read(driver, arena):
    value = bytes(range(256)) * 1000
    thread, asked = lends(driver, arena, MIB, at=64 * 1024)
    ref = maniple.put(value)
    thread.join()
    seal = driver.take("SEAL").fields
    assert asked == [len(value)] and (seal.slab, seal.offset, seal.size, seal.format) == (3, 65536, len(value), wire.RAW)
    assert seal.object == ref.binary() and os.pread(arena, len(value), MIB + 65536) == value
    assert maniple.get(ref) == value
    again = maniple.put(value)  # behind it, without a question
    assert driver.take("SEAL").fields.offset == 65536 + len(value)
    driver.none_of("GET", "PUT", "SLAB_WANTED")
    del ref, again
    gc.collect()
    assert driver.take("RELEASE").fields.deliveries == 0


def test_small_values_stay_in_frames(driver):
    maniple.put(b"x" * 100)
    assert driver.take("PUT").payload == b"x" * 100


def test_a_large_argument_becomes_an_object_that_lives_until_it_is_sent(driver, arena):
    thread, _ = lends(driver, arena, MIB)
    ref = double.remote(b"x" * 200_000)
    thread.join()
    key = driver.take("SEAL").fields.object
    task = driver.take("SUBMIT")
    assert task.fields.deps == 1 and keys(task, 1) == [key] and len(task.payload) < 1000
    gc.collect()
    assert driver.take("RELEASE").fields.object == key
    del ref


def test_places_count_as_deliveries(driver, arena):
    payload = values.encode([1, 2, 3]).payload
    os.pwrite(arena, payload, 64)
    say_arena(driver, arena)
    ref = double.remote(1)
    task = ref.binary()[:16]
    locate(driver, task, 64, len(payload))
    locate(driver, task, 64, len(payload))  # it came as an answer, too
    assert maniple.get(ref) == [1, 2, 3]
    other = double.remote(2)
    driver.result(other.binary()[:16], 0)
    maniple.get(other)
    del ref
    gc.collect()
    assert driver.take("RELEASE").fields.deliveries == 2
    locate(driver, task, 64, len(payload))  # it crossed the release
    assert driver.take("RELEASE").fields[:2] == (task + b"\0\0\0\0", 1)


def test_a_slab_that_is_wanted_back_goes_when_nobody_writes(driver, arena):
    thread, _ = lends(driver, arena, MIB)
    maniple.put(b"x" * MIB)
    thread.join()
    slabs = session.current().slabs
    thread, _ = lends(driver, arena, MIB, at=MIB, first=False)
    room = slabs.take(MIB)
    thread.join()
    driver.table("SlabRecall", {"slab": 3})
    driver.table("SlabRecall", {"slab": 77})
    late = double.remote(1)
    driver.result(driver.take("SUBMIT").fields.task, 5)
    assert maniple.get(late) == 5
    driver.none_of("SLAB_RETURN")
    room.fill([b"y" * MIB])
    slabs.done(room)
    session.current().connection.flush()
    assert driver.take("SLAB_RETURN").fields["slab"] == 3


def test_when_there_is_no_room_the_error_says_who_has_it(driver):
    thread = threading.Thread(target=lambda: (driver.take("SLAB_WANTED"), driver.table("Slab", {"error": "process 9 holds all of it"})))
    thread.start()
    with pytest.raises(exceptions.ObjectStoreFullError, match="process 9 holds all of it"):
        maniple.put(b"x" * MIB)
    thread.join()


def test_when_no_disk_has_room_either_the_error_is_another(driver):
    thread = threading.Thread(target=lambda: (driver.take("SLAB_WANTED"), driver.table("Slab", {"error": "no space left on device", "code": "DISK_FULL"})))
    thread.start()
    with pytest.raises(exceptions.OutOfDiskError, match="no space left on device"):
        maniple.put(b"x" * MIB)
    thread.join()


def test_an_interrupt_withdraws_and_the_answer_is_of_use_to_the_next(driver, arena):
    assert interrupted(lambda: maniple.put(b"x" * MIB)) < SOON
    assert [driver.take("SLAB_WANTED").fields.get("size") or 0 for _ in range(2)] == [MIB, 0]
    lend(driver, arena, 2 * MIB)
    late = double.remote(1)
    driver.result(driver.take("SUBMIT").fields.task, 5)
    assert maniple.get(late) == 5
    maniple.put(b"y" * MIB)
    assert driver.take("SEAL").fields.offset == 0
    driver.none_of("SLAB_WANTED")


def test_what_is_not_used_of_a_slab_goes_back(driver, arena):
    thread, _ = lends(driver, arena, MIB)
    maniple.put(b"x" * 200_000)
    thread.join()
    thread, asked = lends(driver, arena, MIB, at=MIB, first=False)
    maniple.put(b"x" * MIB)
    thread.join()
    forgone = driver.take("SLAB_FORGO").fields
    used = 200_000 + -200_000 % 64
    assert (forgone["slab"], forgone["offset"], forgone["size"]) == (3, used, MIB - used) and asked == [MIB]
    maniple.shutdown()
    assert driver.take("SLAB_RETURN").fields["slab"] == 3
    assert driver.take("GOODBYE")


@pytest.mark.parametrize("size,at", [(0, 0), (3 * MIB, 0), (MIB, 1)])
def test_a_slab_that_is_none_ends_the_connection(driver, arena, size, at):
    thread, _ = lends(driver, arena, size, at=at)
    with pytest.raises(exceptions.LocalAgentDiedError, match="can't be read"):
        maniple.put(b"x" * MIB)
    thread.join()


def waits(driver):
    """A thread that puts a large value, and waits for memory."""
    thread = threading.Thread(target=maniple.put, args=(LARGE,))
    thread.start()
    assert driver.take("SLAB_WANTED")
    return thread


def test_who_holds_what_the_answer_needs_waits_for_its_turn_without_it(driver, arena):
    first, locked = waits(driver), threading.Event()

    def handler():  # of a signal, which came while the table was locked
        with session.current().table.lock:
            locked.set()
            maniple.put(LARGE)

    second = threading.Thread(target=handler)
    second.start()
    assert locked.wait(PATIENCE)
    lend(driver, arena, MIB)
    for thread in (first, second):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len({driver.take("SEAL").fields.offset for _ in range(2)}) == 2


def test_the_thread_that_hears_the_answer_does_not_wait_for_its_turn(driver, arena):
    first, ref, came = waits(driver), maniple.remote(lambda: 1).remote(), queue.Queue()

    def put():  # as a __del__ that the collector runs there
        try:
            maniple.put(LARGE)
        except BaseException as e:
            came.put(e)

    session.current().when_ready(ref, put)
    driver.result(driver.take("SUBMIT").fields.task)
    assert isinstance(came.get(timeout=PATIENCE), RuntimeError)
    lend(driver, arena, MIB)
    first.join(PATIENCE)
    assert not first.is_alive() and driver.take("SEAL")


def test_when_the_agent_goes_nobody_waits_for_memory(driver):
    thread = threading.Thread(target=lambda: (driver.take("SLAB_WANTED"), driver.close()))
    thread.start()
    with pytest.raises(exceptions.LocalAgentDiedError):
        maniple.put(b"x" * MIB)
    thread.join()


def test_a_child_leaves_the_slabs_of_its_parent_alone(driver, arena):
    thread, _ = lends(driver, arena, 2 * MIB)
    ref = maniple.put(b"x" * MIB)
    thread.join()
    pid = os.fork()
    if pid == 0:
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    maniple.put(b"y" * 200_000)
    assert maniple.get(ref) == b"x" * MIB


def test_a_value_is_written_as_its_parts_come(driver, arena):
    seen = []

    def parts():
        for n in range(3):
            seen.append(os.pread(arena, 3, MIB + 4096))
            yield bytes([n + 1]) * 70_000

    thread, _ = lends(driver, arena, MIB, at=4096)
    current = session.current()
    room = current.write(210_000, parts())
    thread.join()
    assert seen == [b"\0" * 3, b"\1" * 3, b"\1" * 3] and os.pread(arena, 2, MIB + 4096 + 209_999) == b"\3\0"
    encoded = values.Encoded(wire.RAW, (), None, (), 210_000)
    encoded.room = room
    key = wire.key_of(current.mint(), 0)
    current.put_encoded(key, encoded)
    seal = driver.take("SEAL").fields
    assert (seal.object, seal.slab, seal.offset, seal.size) == (key, 3, 4096, 210_000)


@pytest.mark.parametrize("sizes, said", [((70_000, 70_001), "140001 bytes into room for 140000"), ((70_000, 69_999), "139999 bytes"), ((70_000, None), "lost")], ids=str)
def test_parts_that_are_not_the_value_are_given_back(driver, arena, sizes, said):
    def parts():
        for size in sizes:
            if size is None:
                raise ValueError("it is lost")
            yield b"x" * size

    thread, _ = lends(driver, arena, MIB)
    with pytest.raises(ValueError, match=said):
        session.current().write(140_000, parts())
    thread.join()
    forgone = driver.take("SLAB_FORGO").fields
    assert (forgone.get("slab"), forgone.get("offset") or 0, forgone.get("size")) == (3, 0, 140_000) and os.pread(arena, 1, MIB + 140_000) == b"\0"
