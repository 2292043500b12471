"""What is said once, and goes wrong when it is said."""

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
