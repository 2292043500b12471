"""What a process knows of objects, while references come and go at the same moment."""

import gc
import random
import sys
import time

import pytest

import maniple
from maniple._core import session as _session
from maniple._core import table, wire
from maniple._core.table import PENDING
from scripted import PATIENCE
from test_arenas import SIZE, arena, locate, say_arena  # noqa: F401
from test_driver import double
from test_twins import fast


def losing(monkeypatch, key, drop):
    """Has a reference go at the last moment before Python takes its object over."""
    session = _session.attached()
    claim = session.table.claim_locked

    def late(claimed):
        if claimed == key and drop:
            drop.pop()
            session.link.flush()  # which tells the agent
        claim(claimed)

    monkeypatch.setattr(session.table, "claim_locked", late)
    monkeypatch.setattr(session.held, "_claim", late)
    return session


@fast
def test_a_reference_comes_while_the_last_one_goes(driver, monkeypatch):
    mine = [double.remote(1)]
    key = mine[0].binary()
    session = losing(monkeypatch, key, mine)
    other = double.remote(2)
    driver.take("SUBMIT")
    encoded = wire.PICKLE, b"\0" * 8
    driver.raw_result(driver.take("SUBMIT").fields.task, *encoded, refs=[key])
    maniple.wait([other], timeout=20)
    assert not mine and driver.take("RELEASE").fields[:2] == (key, 0)  # it has not seen the one that came
    assert key in session.table.entries, "whoever reads the value that names it asks the agent for it"
    del other
    gc.collect()
    released = {driver.take("RELEASE").fields[:2] for _ in range(2)}
    assert (key, 1) in released, released
    assert key not in session.table.entries


@fast
def test_a_place_comes_while_the_last_reference_goes(driver, arena, monkeypatch):  # noqa: F811
    say_arena(driver, arena)
    mine = [double.remote(1)]
    key = mine[0].binary()
    session = losing(monkeypatch, key, mine)
    locate(driver, driver.take("SUBMIT").fields.task, 0, SIZE // 2)
    assert [driver.take("RELEASE").fields[:2] for _ in range(2)] == [(key, 0), (key, 1)]
    assert key not in session.table.entries and key not in session.seen


def test_what_was_told_the_place_of_is_forgotten_with_its_last_reference(driver, arena):  # noqa: F811
    say_arena(driver, arena)
    ref = double.remote(1)
    key, session = ref.binary(), _session.attached()
    locate(driver, driver.take("SUBMIT").fields.task, 0, SIZE // 2)
    maniple.wait([ref], timeout=20)
    assert key in session.seen
    del ref
    gc.collect()
    assert driver.take("RELEASE").fields[:2] == (key, 1)
    assert key not in session.seen
    driver.table("ViewRecall", {"task": wire.task_fields(key[:16])})  # the messages crossed
    after = double.remote(2)
    driver.result(driver.take("SUBMIT").fields.task, 4)
    assert maniple.get(after) == 4
    driver.none_of("VIEW_END")


def test_who_looks_without_a_lock_finds_what_python_takes_over(driver):
    """What runs while it does is code of Python's (that makes the value), and so may any other thread's be."""
    session, ref = _session.attached(), double.remote(1)
    key, entries, found = ref.binary(), session.table.entries, []
    driver.result(driver.take("SUBMIT").fields.task, 1)
    assert maniple.get(ref) == 1
    with session.table.lock:
        sys.setprofile(lambda *event: found.append(entries.get(key)))
        session.table.claim_locked(key)
        sys.setprofile(None)
    assert found and None not in found
    assert maniple.get(ref) == 1


def keep(refs, ref):
    refs[ref.binary()] = ref
    return ref.binary()


@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_of_the_table_is_that_of_a_dict(driver, seed):
    chance, session = random.Random(seed), _session.attached()
    entries, known, refs = session.table.entries, {}, {}  # key: its state
    for step in range(4000):
        what = chance.choice("ssssacdd") if step < 2500 else chance.choice("sacddddd")
        key = chance.choice(list(refs)) if refs else None
        if what == "s" or key is None:
            key = keep(refs, double.remote(step))
            known[key] = PENDING
        elif what == "a":
            with session.table.lock:
                session.table.claim_locked(key)
        elif what == "c" and known[key] is PENDING:
            driver.result(key[:16], step)
            known[key] = step
            assert maniple.get(refs[key]) == step
        elif what == "d":
            del refs[key], known[key]
            session.connection.flush()
        if step % 50 == 0:
            for key, state in known.items():
                found = entries.get(key)
                assert found is PENDING if state is PENDING else type(found) is table.Value, (step, key, found)
            deadline = time.monotonic() + PATIENCE  # what was taken over is let go of by the thread that hears
            while len(entries) != len(known) and time.monotonic() < deadline:
                session.connection.flush()
            assert len(entries) == len(known)


@pytest.mark.parametrize("key", [5, "x" * 20, None, bytearray(20)])
def test_what_is_no_key(key):
    with pytest.raises(TypeError, match="must be bytes"):
        maniple.ObjectRef(key)


def test_what_is_no_time_and_no_number(driver):
    ref = maniple.put(1)
    for wrong in (lambda: maniple.get(ref, timeout="5"), lambda: maniple.wait([ref], timeout="5")):
        with pytest.raises(TypeError, match="number of seconds or None, not '5'"):
            wrong()
    for number in (1.0, "1", None):
        with pytest.raises(TypeError, match="num_returns is a whole number"):
            maniple.wait([ref], num_returns=number)
