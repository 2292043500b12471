"""Event loops that wait for what comes when they are over."""

import asyncio

import pytest

import maniple
from maniple import exceptions
from maniple._core import session as _session
from test_driver import double


@maniple.remote
def count(n):
    yield from range(n)


def patiently(awaitable, seconds=0.01):
    """What asyncio.run(wait_for()) does, for all that can be awaited."""

    async def wait():
        return await asyncio.wait_for(awaitable, seconds)

    return asyncio.run(wait())


def abandoned(*awaitables):
    """A loop that was closed while these waited in it."""
    loop = asyncio.new_event_loop()

    async def wait(awaitable):
        await awaitable

    tasks = [loop.create_task(wait(awaitable)) for awaitable in awaitables]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return tasks


@pytest.mark.filterwarnings("ignore")
def test_an_item_comes_after_the_loop_that_waited_for_it(driver):
    items = count.remote(2)
    task = driver.take("SUBMIT").fields.task
    kept = abandoned(items.__anext__())
    driver.result(task, 5, index=0, flags=0)
    after = double.remote(1)
    driver.result(driver.take("SUBMIT").fields.task, 2)
    assert maniple.get(after, timeout=20) == 2, "the session goes on"
    assert maniple.get(next(items), timeout=20) == 5
    del kept


def test_who_was_cancelled_waits_no_more(driver):
    items, ref = count.remote(2), double.remote(1)
    task, waiting = driver.take("SUBMIT").fields.task, _session.attached().table._waiting
    for _ in range(3):
        for awaitable in (items.__anext__(), ref):
            with pytest.raises(asyncio.TimeoutError):
                patiently(awaitable)
    assert not waiting
    driver.result(task, 5, index=0, flags=0)
    driver.result(driver.take("SUBMIT").fields.task, 2)
    assert maniple.get(patiently(items.__anext__(), 20)) == 5 and patiently(ref, 20) == 2


@pytest.mark.filterwarnings("ignore")
def test_the_end_of_a_session_reaches_all_though_loops_are_over(driver):
    items = [count.remote(1) for _ in range(3)]
    kept, ref = abandoned(*[i.__anext__() for i in items]), double.remote(1)
    future = ref.future()
    maniple.shutdown()
    with pytest.raises(exceptions.SystemFault):
        future.result(20)
    assert not maniple.is_initialized()
    del kept


def test_a_call_that_raises_is_told_and_ends_nobody(driver, capsys):
    session, ref, after = _session.attached(), double.remote(1), double.remote(2)

    def wrong():
        raise LookupError("nobody here")

    session.when_ready(ref, wrong)
    for value in (2, 4):
        driver.result(driver.take("SUBMIT").fields.task, value)
    assert maniple.get([ref, after], timeout=20) == [2, 4]
    assert "LookupError: nobody here" in capsys.readouterr().err
