"""What is said once, and goes wrong when it is said."""

import collections

import pytest

import maniple
from maniple._core import frames, wire
from maniple._core import session as _session
from test_driver import double


def interrupted(monkeypatch, call, name, before):
    """Makes a call that a Ctrl-C ends as a frame of that name is sent: before, or right after it has left."""
    session, number = _session.attached(), getattr(frames, name)
    sent = session.connection.send

    def send(frame):
        mine = wire.HEADER.unpack_from(frame)[2] == number
        if mine and before:
            raise KeyboardInterrupt
        sent(frame)
        if mine:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.connection, "send", send)
        with pytest.raises(KeyboardInterrupt):
            call()


class Counter:
    def add(self):
        pass


CALLS = [
    ("SHAPE", lambda: maniple.remote(double._function).options(num_cpus=2).remote(1), "SUBMIT"),
    ("FUNCTION", lambda: maniple.remote(double._function).options(num_cpus=2).remote(1), "SUBMIT"),
    ("METHODS", lambda: maniple.remote(Counter).remote(), "CREATE"),
]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name,call,at", CALLS)
def test_what_an_interrupt_kept_from_being_said_is_said_the_next_time(driver, monkeypatch, name, call, at, before):
    interrupted(monkeypatch, call, name, before)
    made = call()  # equal options
    said, frame = {}, driver.take()
    while frame.name != at:
        said.setdefault(frame.name, []).append(frame.fields)
        frame = driver.take()
    assert name in said
    numbers = [shape["number"] for shape in said["SHAPE"]]
    assert len(set(numbers)) == len(numbers), "no number is said twice"
    assert (frame.fields.shape if at == "SUBMIT" else frame.fields["shape"]) == numbers[-1]
    del made


@pytest.mark.parametrize("wrong", [dict(max_calls=1 << 40), dict(runtime_env={"env_vars": {"A": "\udcff" * 3}}), dict(name="\udcff")])
def test_what_can_not_be_said_costs_its_call_alone(driver, monkeypatch, wrong):
    """Whatever no check has seen."""
    monkeypatch.setattr(maniple._options, "check", lambda *given, **more: None)
    for _ in range(2):
        try:
            maniple.remote(double._function).options(**wrong).remote(1)
        except (ValueError, TypeError, wire.frames.WireError):
            pass
    ref = double.remote(1)
    frame, shapes = driver.take(), set()
    while frame.name != "SUBMIT" or frame.fields.task != ref.binary()[:16]:
        if frame.name == "SHAPE":
            shapes.add(frame.fields["number"])
        elif frame.name == "SUBMIT":
            assert frame.fields.shape in shapes, "its shape was said before"
        frame = driver.take()
    assert frame.fields.shape in shapes
    driver.result(frame.fields.task, 2)
    assert maniple.get(ref, timeout=20) == 2


def test_an_actor_that_can_not_be_said_costs_no_credit(driver, monkeypatch):
    monkeypatch.setattr(maniple._options, "check", lambda *given, **more: None)
    session, spent = _session.attached(), []
    monkeypatch.setattr(session, "spend", spent.append)
    for _ in range(2):
        with pytest.raises(wire.frames.WireError):
            maniple.remote(Counter).options(max_restarts=1 << 40).remote()
    assert not spent
    maniple.remote(Counter).remote()
    assert driver.take("CREATE") and len(spent) == 1


def names(driver, last):
    """Names of shapes that were said, by number, and the numbers that were over, up to the task's Submit."""
    said, over = {}, []
    while True:
        frame = driver.take()
        if frame.name == "SHAPE" and frame.fields["over"]:
            over.append(frame.fields["number"])
        elif frame.name == "SHAPE":
            said[frame.fields["number"]] = frame.fields["name"]
        elif frame.name == "SUBMIT":
            assert frame.fields.shape not in over
            if frame.fields.task == last.binary()[:16]:
                return said, over


def test_shapes_that_nobody_has_are_over(driver, monkeypatch):
    session = _session.attached()
    monkeypatch.setattr(session, "_recent", collections.deque(maxlen=3))
    kept = double.options(name="kept")
    kept.remote(0)
    for i in range(40):
        ref = double.options(name=f"n{i}").remote(i)
        kept.remote(i)
    said, over = names(driver, ref)
    assert sorted(said.values()) == sorted(["kept", *(f"n{i}" for i in range(40))]) and len(said) == 41, "each number once"
    assert {said[n] for n in over} >= {f"n{i}" for i in range(30)} and "kept" not in {said[n] for n in over}
    assert len(session._shapes) < 10
    ref = double.options(name="n0").remote(0)  # which the agent knows no more
    last = double.options(name="n0").remote(0)
    said, _ = names(driver, last)
    assert list(said.values()) == ["n0"] and min(said) > 41
    del ref


def test_too_many_shapes_at_a_time(driver, monkeypatch):
    monkeypatch.setattr(_session, "_MOST_SHAPES", 20)
    calls = [double.options(name=f"n{i}") for i in range(21)]
    for call in calls[:20]:
        call.remote(1)
    with pytest.raises(ValueError, match="20 combinations of options"):
        calls[20].remote(1)
    calls[0].remote(1)
    del call, calls[:15]
    _session.attached()._recent.clear()
    assert calls[-1].remote(1)


def test_the_name_of_an_actor_is_no_part_of_its_shape(driver, monkeypatch):
    monkeypatch.setattr(maniple.actor, "_settle_name", lambda session, handle, *more: handle)
    for i in range(3):
        maniple.remote(Counter).options(name=f"c{i}").remote()
    made = [driver.take("CREATE").fields for _ in range(3)]
    assert [m["name"] for m in made] == ["c0", "c1", "c2"] and len({m["shape"] for m in made}) == 1
