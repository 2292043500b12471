"""What an agent sends that it should not: an error for whoever waits, never a hang or the end of the process (PY-5)."""

import random
import threading

import pytest

import maniple
from maniple import exceptions
from maniple._core import frames, values, wire
from scripted import NAMES, header
from test_driver import double

DEAD = exceptions.LocalAgentDiedError


@pytest.mark.parametrize("data", [
    header(10, 20, frames.RESULT), header(frames.MAX_MESSAGE + 1, 8, frames.RESULT), header(0xFFFFFFFF, 0, frames.RESULT), header(0, 0, 0),
    header(0, 0, frames.PING, class_=9), header(8, 8, frames.RESULT, flags=1) + b"12345678", header(8, 8, frames.RESULT) + b"12345678",
    header(4, 4, frames.CREDIT) + b"1234", header(4, 4, frames.READY) + b"1234", b"\xff" * 4096,
    header(0, 0, frames.ARENA, flags=2), header(8, 0, frames.ARENA, flags=2) + b"12345678",
    header(7, 7, frames.NOTICE) + b"garbage", header(7, 7, frames.GROUP_UPDATE) + b"garbage", header(7, 7, frames.ACTOR_STATE) + b"garbage",
], ids=lambda d: d[:12].hex())  # fmt: skip
def test_a_broken_frame_ends_the_connection(driver, data):
    ref = double.remote(1)
    driver.take("SUBMIT")
    driver.send(data)
    with pytest.raises(DEAD, match="can't be read"):
        maniple.get(ref)


def test_the_end_inside_of_a_frame(driver):
    ref = double.remote(1)
    driver.send(header(1000, 64, frames.RESULT) + b"x")
    driver.send(header(1 << 20, 64, frames.RESULT))
    driver.close()
    with pytest.raises(DEAD):
        maniple.get(ref)


def test_more_references_than_bytes(driver):
    ref = double.remote(1)
    task = driver.take("SUBMIT").fields.task
    driver.send(wire.RESULT.pack(0, 0, wire.key_of(task, 0), 0, wire.LAST, wire.PICKLE, 1000, 0, 0, 0))
    with pytest.raises(DEAD, match="1000 references"):
        maniple.get(ref)


@pytest.mark.parametrize("format,payload,flags", [
    (wire.PICKLE, b"", 0), (wire.PICKLE, b"\xff" * 20, 0), (wire.PLAIN, b"\4\0\0\0\0\0\0\0\xff\xff\xff\xff", 0), (77, b"", 0), (wire.FAILURE, b"no failure", wire.ERROR),
    (wire.FAILURE, b"", wire.ERROR), (wire.RAW, frames.LOCATION_STRUCT.pack(1, 7, 99, 0, 64), wire.LOCATED),
])  # fmt: skip
def test_a_value_that_can_not_be_read_is_the_error_of_its_reader(driver, format, payload, flags):
    ref, other = double.remote(1), double.remote(2)

    def answer():
        driver.raw_result(ref.binary()[:16], format, payload, flags=wire.LAST | flags)
        if flags & wire.LOCATED:
            driver.take("GET")
            driver.raw_result(ref.binary()[:16], format, payload, flags=wire.LAST | flags)

    threading.Thread(target=answer).start()
    with pytest.raises(exceptions.SystemFault):
        maniple.get(ref)
    driver.result(other.binary()[:16], "fine")
    assert maniple.get(other) == "fine"


def test_results_of_unknown_tasks_and_unknown_frames_are_skipped(driver):
    ref = double.remote(1)
    driver.result(wire.TASK.pack(1, 2, 3), "nobody's")
    driver.send(header(3, 0, 999) + b"new")
    driver.ready(ref.binary(), wire.IS_READY)
    driver.result(ref.binary()[:16], "mine")
    driver.result(ref.binary()[:16], "twice")
    assert maniple.get(ref) == "mine"


def test_an_exception_that_can_not_be_made_again(driver):
    ref = double.remote(1)
    fields = {"code": "USER", "type": "there.Error", "message": "m", "traceback": "tb", "pickle": values.encode(1).payload}
    driver.raw_result(ref.binary()[:16], wire.FAILURE, frames.pack("Failure", fields), flags=wire.LAST | wire.ERROR)
    with pytest.raises(exceptions.TaskError, match="there.Error: m") as e:
        maniple.get(ref)
    assert e.value.cause is None


def test_an_answer_that_is_no_json(driver):
    def answer():
        driver.table("StateReply", {}, b"no json", driver.take("STATE_QUERY").corr)

    threading.Thread(target=answer).start()
    with pytest.raises(exceptions.SystemFault, match="free"):
        maniple.nodes()


def test_random_frames(agent):
    """Frames with sound headers and random insides, of all types: some are skipped, some end the connection; nothing hangs."""
    rng = random.Random(3)
    kinds = sorted(NAMES)
    for _ in range(40):
        maniple.init(agent.path)
        peer = agent.peer()
        ref = double.remote(1)
        for _ in range(20):
            body, payload = rng.randbytes(rng.choice([0, 8, 16, 24, 32, 40, 64])), rng.randbytes(rng.randrange(40))
            peer.send(header(len(body) + len(payload), len(body), rng.choice(kinds)) + body + payload)
        peer.close()
        with pytest.raises(DEAD):
            maniple.get(ref)
        maniple.shutdown()
