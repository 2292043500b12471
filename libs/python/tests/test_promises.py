"""Objects that only this process knows of, until a reference to one leaves it."""

import gc
import threading

import pytest

import maniple
from maniple import _execute
from maniple._core import failures, session, streams, wire
from maniple.util import placement_group
from scripted import arguments, keys


@maniple.remote
def use(x):
    return x


@maniple.remote
def count():
    yield 1


def ready():
    """A reference of a group that is not there yet, which leaves as a task on it."""
    return placement_group([{"CPU": 1}]).ready()


def test_what_goes_wrong_while_a_reference_leaves_has_it_leave_with_the_next_call(driver, monkeypatch):
    ref, now = ready(), session.current()
    spend = now.spend

    def interrupted(size):
        monkeypatch.setattr(now, "spend", spend)
        raise KeyboardInterrupt

    monkeypatch.setattr(now, "spend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use.remote(ref)
    use.remote(ref)
    assert [driver.take("SUBMIT").fields.task == ref.binary()[:16] for _ in range(2)] == [True, False]


def test_of_two_threads_that_send_a_reference_away_one_tells_of_it(driver, monkeypatch):
    ref, now, granted = ready(), session.current(), []
    spend, grant = now.spend, now.credits.grant

    def overtaken(size):
        monkeypatch.setattr(now, "spend", spend)
        thread = threading.Thread(target=use.remote, args=(ref,))
        thread.start()
        thread.join()
        spend(size)

    monkeypatch.setattr(now, "spend", overtaken)
    monkeypatch.setattr(now.credits, "grant", lambda *size: granted.append(size) or grant(*size))
    use.remote(ref)
    frames = [driver.take("SUBMIT") for _ in range(3)]
    assert [f.fields.task == ref.binary()[:16] for f in frames] == [True, False, False]
    assert granted == [(len(frames[0].payload), 1)]
    driver.none_of("SUBMIT")


def test_the_end_of_a_stream_that_failed_leaves_as_a_task_that_fails(driver):
    items = count.remote()
    task = driver.take("SUBMIT").fields.task
    failure = failures.plain("WORKER_DIED", "gone", task)
    driver.raw_result(task, wire.FAILURE, failure, flags=wire.LAST | wire.ERROR)
    ref = items.completed()
    for _ in range(2):  # neither call raises what the stream did, and the agent knows what both name
        use.remote(ref)
    fails, *uses = [driver.take("SUBMIT") for _ in range(3)]
    assert fails.fields.task == ref.binary()[:16] and arguments(fails) == ((failure,), {})
    assert [keys(f, 1) for f in uses] == [[ref.binary()]] * 2
    with pytest.raises(_execute.ArgumentError) as caught:
        streams._fail(failure)
    assert caught.value.payload == failure


def test_the_end_of_a_stream_leaves_again_after_it_was_let_go_of(driver):
    items, left, sent = count.remote(), [], []
    driver.raw_result(driver.take("SUBMIT").fields.task, wire.RAW, b"")
    assert list(items) == []
    for _ in range(2):
        ref = items.completed()
        left.append(ref.binary())
        sent.append(use.remote(ref))
        assert driver.take("PUT").fields.object == left[-1] and keys(driver.take("SUBMIT"), 1) == left[-1:]
        del ref
        gc.collect()
        assert driver.take("RELEASE").fields.object == left[-1]
    assert left[0] != left[1], "the first one may live elsewhere"
