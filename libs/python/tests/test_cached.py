"""Values that a node keeps under keys."""

import gc
import os
import pickle
import signal
import threading

import pytest

import maniple
from maniple import exceptions
from maniple._core import caching, session, values, wire
from scripted import Agent
from test_arenas import locate, say_arena
from test_interrupt import SOON, interrupted
from test_slabs import lend

MIB = 1 << 20
SIZE = 4 * MIB
DATA = bytes(range(256))
X, Y = [wire.TASK.pack(7, 0, n) for n in (1, 2)]  # objects of the agent's own


@pytest.fixture
def agent(tmp_path, cloudpickle):
    made = Agent(tmp_path, store=True)
    yield made
    maniple.shutdown()
    made.close()


@pytest.fixture
def arena():
    fd = os.memfd_create("arena")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def asked(driver, task, make=False, there=False, key=b"k"):
    """Answers the next question for a cached value."""
    frame = driver.take("CACHE_WANTED")
    assert frame.fields["key"] == key
    driver.table("Cached", {"object": wire.task_fields(task), "make": make, "there": there}, corr=frame.corr)


def beside(call):
    """Starts call on a thread; gives what waits for its end, and its value or error."""
    came = []

    def run():
        try:
            came.append(call())
        except BaseException as e:
            came.append(e)

    thread = threading.Thread(target=run)
    thread.start()

    def end():
        thread.join(20)
        return came.pop()

    return end


def never():
    raise AssertionError("it was made")


def test_who_makes_it_has_it_where_it_lies(driver, arena):
    made = beside(lambda: maniple.cached("k", lambda: [pickle.PickleBuffer(DATA), 5]))
    asked(driver, X, True)
    driver.take("SLAB_WANTED")
    lend(driver, arena, MIB)
    seal = driver.take("SEAL").fields
    assert seal.object == wire.key_of(X, 0) and seal.size < 1000 and not seal.refs  # however small
    view, five = made()
    assert bytes(view) == DATA and view.readonly and five == 5
    again, _ = maniple.cached(b"k", never)  # it is looked at: nobody is asked
    assert bytes(again) == DATA
    driver.none_of("CACHE_WANTED", "GET")
    del view, again
    gc.collect()
    assert driver.take("RELEASE").fields == (wire.key_of(X, 0), 1)
    driver.none_of("CACHE_UNMADE")
    last = beside(lambda: maniple.cached("k", lambda: b""))  # now they are
    asked(driver, Y, True)
    seal = driver.take("SEAL").fields
    assert seal.size == 9 and values.decode(seal.format, os.pread(arena, 9, MIB + seal.offset)) == b"" == last()


def test_what_is_there_is_looked_at(driver, arena):
    payload = values.encode(pickle.PickleBuffer(DATA)).payload
    os.pwrite(arena, payload, 64)
    say_arena(driver, arena, SIZE)
    got = beside(lambda: maniple.cached("k", never))
    sent, send = [], driver.send
    driver.send = sent.append
    asked(driver, X, there=True)
    locate(driver, X, 64, len(payload))
    send(b"".join(sent))  # as an agent sends them
    view = got()
    assert bytes(view) == DATA and bytes(maniple.cached("k", never)) == DATA
    driver.none_of("GET", "CACHE_WANTED")
    del view
    gc.collect()
    assert driver.take("RELEASE").fields == (wire.key_of(X, 0), 2)


def test_the_next_one_makes_it(driver, arena):
    got = beside(lambda: maniple.cached("k", lambda: "mine"))
    asked(driver, X)
    assert driver.take("GET").fields.object == wire.key_of(X, 0)
    driver.fail(X, "CACHE_NOT_MADE", "process 3 did not", flags=wire.LAST | wire.ERROR | wire.NOT_TASK)
    asked(driver, Y, True)
    driver.take("SLAB_WANTED")
    lend(driver, arena, MIB)
    assert driver.take("SEAL").fields.object == wire.key_of(Y, 0) and got() == "mine"


def test_what_is_known_and_lost_is_made_again(driver, arena):
    ref = maniple.put(1)
    now = session.attached()
    now.cached[b"k"] = ref.binary()
    with now.table.lock:
        now.table.settle_locked(ref.binary(), exceptions.ObjectLostError("its node died"))
    got = beside(lambda: maniple.cached("k", lambda: "mine"))
    asked(driver, Y, True)
    driver.take("SLAB_WANTED")
    lend(driver, arena, MIB)
    assert driver.take("SEAL").fields.object == wire.key_of(Y, 0) and got() == "mine"
    assert now.cached[b"k"] == wire.key_of(Y, 0) and ref


def test_one_thread_waits_for_another(driver, arena):
    gate = threading.Event()
    first = beside(lambda: maniple.cached("k", lambda: gate.wait(20) and "made"))
    asked(driver, X, True)
    second = beside(lambda: maniple.cached("k", never))
    asked(driver, X)
    assert driver.take("GET").fields.object == wire.key_of(X, 0)
    gate.set()
    driver.take("SLAB_WANTED")
    lend(driver, arena, MIB)
    seal = driver.take("SEAL").fields
    assert first() == "made" == second()
    locate(driver, X, MIB + seal.offset, seal.size)  # what it asked for comes all the same
    gc.collect()
    released = 0
    while released < 3:  # at once, or when that has come
        release = driver.take("RELEASE").fields
        assert release.object == wire.key_of(X, 0)
        released += release.deliveries


@pytest.mark.parametrize("wrong", [KeyError("x"), KeyboardInterrupt()], ids=repr)
def test_what_goes_wrong_is_the_makers_own(driver, wrong):
    def make():
        raise wrong

    made = beside(lambda: maniple.cached("k", make))
    asked(driver, X, True)
    assert made() is wrong
    wrong.__traceback__ = None  # which has the reference
    assert wire.task_bytes(driver.take("CACHE_UNMADE").fields["object"]) == X
    gc.collect()
    assert driver.take("RELEASE").fields == (wire.key_of(X, 0), 1)
    driver.none_of("SEAL")


@pytest.mark.parametrize("value", [lambda: (i for i in ()), lambda: [maniple.put(1)]], ids=["a generator", "a reference"])
def test_what_can_not_be_kept(driver, value):
    made = beside(lambda: maniple.cached("k", value))
    asked(driver, X, True)
    assert isinstance(made(), TypeError)
    driver.take("CACHE_UNMADE")


def test_what_finds_no_room_is_its_makers(driver, capsys, monkeypatch):
    monkeypatch.setattr(caching, "_said", False)
    for task in (X, Y):
        mine = bytearray(MIB)
        made = beside(lambda: maniple.cached("k", lambda: mine))
        asked(driver, task, True)
        driver.take("SLAB_WANTED")
        driver.table("Slab", {"error": "process 9 holds all of it", "code": "STORE_FULL"})
        assert made() is mine
        driver.take("CACHE_UNMADE")
    said = capsys.readouterr().err
    assert said.count("is not kept on node n1") == 1 and "process 9 holds all of it" in said


def test_another_is_waited_for_until_the_time_is_over(driver):
    got = beside(lambda: maniple.cached("k", never, timeout=0.1))
    asked(driver, X)
    error = got()
    assert isinstance(error, exceptions.GetTimeoutError) and "cached value 'k' is not there" in str(error)
    late = beside(lambda: maniple.cached("j", never, timeout=0))
    asked(driver, Y, there=True, key=b"j")
    assert driver.take("GET")
    driver.result(Y, "there", flags=wire.LAST | wire.NOT_TASK)  # it lay in a file
    assert late() == "there"


def test_who_is_interrupted_makes_nothing(driver):
    assert interrupted(lambda: maniple.cached("k", never)) < SOON
    asked(driver, X, True)  # too late
    assert wire.task_bytes(driver.take("CACHE_UNMADE").fields["object"]) == X
    assert driver.take("RELEASE").fields == (wire.key_of(X, 0), 1)

    def answer():
        asked(driver, Y)

    thread = threading.Thread(target=answer)
    thread.start()
    assert interrupted(lambda: maniple.cached("k", never), lambda: (thread.join(), os.kill(os.getpid(), 2))) < SOON
    driver.none_of("CACHE_UNMADE")


@pytest.fixture
def few(monkeypatch):
    """This process makes two values at a time."""
    monkeypatch.setattr(session, "MAKING", 2)
    monkeypatch.setattr(caching, "_said", False)


def made_twice(driver, gate):
    """Two threads that make a value until the gate opens."""
    making = []
    for n, task in enumerate((X, Y)):
        making.append(beside(lambda n=n: maniple.cached(f"k{n}", lambda: gate.wait(20) and [n])))
        asked(driver, task, True, key=f"k{n}".encode())
    return making


def test_one_more_waits_for_its_turn(few, driver, arena):
    gate = threading.Event()
    making = made_twice(driver, gate)
    more = beside(lambda: maniple.cached("more", lambda: "more"))
    with pytest.raises(exceptions.GetTimeoutError, match="after 0.05 s cached value 'late' is not asked for"):
        maniple.cached("late", never, timeout=0.05)
    driver.none_of("CACHE_WANTED")
    gate.set()
    driver.take("SLAB_WANTED")
    lend(driver, arena, MIB)
    asked(driver, wire.TASK.pack(7, 0, 3), True, key=b"more")
    assert more() == "more" and [end() for end in making] == [[0], [1]]
    assert session.attached().places.qsize() == 2


def test_one_more_is_made_for_its_caller_alone(few, driver, capsys, monkeypatch):
    monkeypatch.setattr(caching, "_PATIENCE", 0.05)
    gate = threading.Event()
    making = made_twice(driver, gate)
    assert [maniple.cached(key, lambda: key) for key in ("more", "another")] == ["more", "another"]
    driver.none_of("CACHE_WANTED")
    assert capsys.readouterr().err.count("cached value 'more' is not kept on node n1") == 1
    monkeypatch.setattr(caching, "_PATIENCE", 20)
    more = beside(lambda: maniple.cached("more", never))
    driver.close()
    gate.set()
    assert all(isinstance(end(), exceptions.LocalAgentDiedError) for end in (more, *making))


def test_whatever_ends_it_lets_others_make_theirs(few, driver):
    for make in (True, False, True):  # it comes too late
        assert interrupted(lambda: maniple.cached("k", never)) < SOON
        asked(driver, X, make)
        driver.take("RELEASE")
    for n in range(1, 4):
        made = beside(lambda: maniple.cached("k", lambda: 1 / 0))
        asked(driver, wire.TASK.pack(7, 0, 10 + n), True)
        assert isinstance(made(), ZeroDivisionError)
    assert session.attached().places.qsize() == 2


def test_the_end_of_the_connection(driver):
    got = beside(lambda: maniple.cached("k", never))
    driver.take("CACHE_WANTED")
    driver.close()
    assert isinstance(got(), exceptions.LocalAgentDiedError)


class Itself:
    """A value that is asked for as it is pickled."""

    def __reduce__(self):
        return list, (maniple.cached("k", never),)


@pytest.mark.parametrize("make", [lambda: maniple.cached("k", never), Itself], ids=["making it", "pickling it"])
def test_what_makes_a_value_can_not_ask_for_it(driver, make):
    made = beside(lambda: maniple.cached("k", make))
    asked(driver, X, True)
    error = made()
    assert isinstance(error, (exceptions.DeadlockError, TypeError)) and "cached value 'k' is asked for by the thread that makes it" in str(error)
    driver.take("CACHE_UNMADE")
    driver.none_of("CACHE_WANTED")
    again = beside(lambda: maniple.cached("k", never))  # by then it may
    asked(driver, Y)
    driver.fail(Y, "X", "it is broken", flags=wire.LAST | wire.ERROR | wire.NOT_TASK)
    assert "it is broken" in str(again())


def test_a_handler_can_not_ask_for_what_its_thread_may_have_to_make(driver):
    def handler(*_):
        with pytest.raises(exceptions.DeadlockError):
            maniple.cached("k", never)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        assert interrupted(lambda: maniple.cached("k", never)) < SOON
    finally:
        signal.signal(signal.SIGINT, before)
    asked(driver, X, True)  # too late
    driver.take("CACHE_UNMADE")
    driver.none_of("CACHE_WANTED")


def test_keys_that_are_not_held_are_forgotten(driver, arena, monkeypatch):
    monkeypatch.setattr(caching, "_MAX_KNOWN", 2)
    lent = []
    for n in range(1, 5):
        made = beside(lambda: maniple.cached(f"k{n}", lambda: n))
        asked(driver, wire.TASK.pack(7, 0, n), True, key=f"k{n}".encode())
        if not lent:
            driver.take("SLAB_WANTED")
            lent.append(lend(driver, arena, MIB))
        assert made() == n
        gc.collect()
        driver.take("RELEASE")
    assert len(session.attached().cached) <= 2


@pytest.mark.parametrize("args, error", [((5, never), TypeError), (("", never), ValueError), (("é" * 129, never), ValueError), (("k", 5), TypeError)])
def test_wrong_arguments(args, error):
    with pytest.raises(error) as e:
        maniple.cached(*args)
    assert ("longer one" in str(e.value)) == (len(str(args[0])) > 100) and ("an empty one" in str(e.value)) == (args[0] == "")


def test_without_shared_memory_all_make_it(tmp_path, cloudpickle):
    alone = Agent(tmp_path)
    try:
        maniple.init(alone.path)
        made = []
        assert [maniple.cached("k", lambda: made.append(1) or len(made)) for _ in range(2)] == [1, 2]
    finally:
        maniple.shutdown()
        alone.close()
