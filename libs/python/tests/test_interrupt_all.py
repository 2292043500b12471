"""Ctrl-C in each call in which a user may wait, one by one. What it leaves behind is test_interrupt's."""

import _thread
import asyncio
import queue
import threading

import pytest

import maniple
from maniple import util
from maniple.util import ActorPool, Queue, state
from maniple.util.placement_group import placement_group, placement_group_table
from scripted import PATIENCE, Agent
from test_driver import double
from test_interrupt import SOON, interrupted


@maniple.remote
def count():
    yield 1


@maniple.remote
class Counter:
    def add(self, n):
        return n

    def items(self):
        yield 1


def pool(values=(1, 2)):
    made = ActorPool([Counter.remote()])
    for value in values:
        made.submit(lambda actor, value: actor.add.remote(value), value)
    return made


def refs(n):
    return [double.remote(i) for i in range(n)]


async def of(awaitable):
    return await awaitable


async def first(stream):
    async for ref in stream:
        return await ref


CALLS = {
    "get of many": lambda: maniple.get(refs(100)),
    "get with a timeout": lambda: maniple.get(refs(1), timeout=60),
    "get of an actor's call": lambda: maniple.get(Counter.remote().add.remote(1)),
    "get_range": lambda: maniple.get_range(double.remote(1), 0, 1),
    "concat": lambda: maniple.get(maniple.concat(refs(2))),
    "wait for one of many": lambda: maniple.wait(refs(100)),
    "wait with a timeout": lambda: maniple.wait(refs(2), timeout=60),
    "wait for what may be anywhere": lambda: maniple.wait(refs(2), fetch_local=False),
    "wait for a stream": lambda: maniple.wait([count.remote()]),
    "a stream": lambda: next(count.remote()),
    "a stream that is iterated": lambda: list(count.remote()),
    "an actor's stream": lambda: list(Counter.remote().items.remote()),
    "the end of a stream": lambda: maniple.get(count.remote().completed()),
    "as_completed": lambda: list(util.as_completed(refs(3))),
    "map_unordered": lambda: list(util.map_unordered(double, range(3))),
    "map_unordered of many": lambda: list(util.map_unordered(double, range(300))),
    "Queue.get": lambda: Queue().get(),
    "Queue.get with a timeout": lambda: Queue().get(timeout=60),
    "Queue.put": lambda: Queue(1).put(1),
    "Queue.put_nowait_batch": lambda: Queue(1).put_nowait_batch([1]),
    "len of a Queue": lambda: len(Queue()),
    "Queue.shutdown": lambda: Queue().shutdown(grace_period_s=60),
    "ActorPool.get_next": lambda: pool().get_next(),
    "ActorPool.get_next_unordered": lambda: pool().get_next_unordered(),
    "ActorPool.map": lambda: list(pool(()).map(lambda actor, value: actor.add.remote(value), range(3))),
    "ActorPool.map_unordered": lambda: list(pool(()).map_unordered(lambda actor, value: actor.add.remote(value), range(3))),
    "nodes": maniple.nodes,
    "cluster_resources": maniple.cluster_resources,
    "available_resources": maniple.available_resources,
    "get_actor": lambda: maniple.get_actor("it"),
    "an actor with a name": lambda: Counter.options(name="it").remote(),
    "cancel by force": lambda: maniple.cancel(double.remote(1), force=True),
    "list_tasks": state.list_tasks,
    "timeline": maniple.timeline,
    "a placement group": lambda: placement_group([{"CPU": 1}]).wait(60),
    "the reference to a placement group": lambda: maniple.get(placement_group([{"CPU": 1}]).ready()),
    "the table of placement groups": placement_group_table,
}  # fmt: skip


@pytest.mark.parametrize("what", CALLS)
def test_whatever_waits_is_interrupted(driver, what):  # PY-1
    assert interrupted(CALLS[what]) < SOON
    ref = double.remote(3)
    driver.result(ref.binary()[:16], 6)
    assert maniple.get(ref) == 6


@pytest.mark.parametrize("what", ["get of many", "wait for a stream", "a stream", "nodes", "a placement group"])
def test_an_interrupt_that_wakes_nobody_is_noted_there(driver, what):  # PY-1
    assert interrupted(CALLS[what], _thread.interrupt_main) < SOON


@pytest.mark.parametrize("what", ["a reference", "a stream"])
def test_a_loop_is_interrupted(driver, what):  # PY-1
    task = of(double.remote(1)) if what == "a reference" else first(count.remote())
    # still: an interrupt that comes just before the kernel's wait does not end the loop's own, which is Python's
    assert interrupted(lambda: asyncio.run(task), waiting=("select",), inside="selectors", still=0.2) < SOON


def test_who_waits_for_a_future_is_interrupted(driver):  # PY-1
    assert interrupted(double.remote(1).future().result, waiting=("wait",), inside="threading", still=0.2) < SOON


@pytest.mark.parametrize("what", ["put", "a call", "an actor"])
def test_whatever_waits_for_credit_is_interrupted(tmp_path, what, cloudpickle):  # PY-1
    agent = Agent(tmp_path, credit=(1 << 20, 2))
    try:
        maniple.init(agent.path)
        peer, actor = agent.peer(), Counter.remote()
        ref = maniple.put(1)
        call = {"put": lambda: maniple.put(2), "a call": lambda: actor.add.remote(1), "an actor": Counter.remote}[what]
        assert interrupted(call) < SOON
        peer.credit(1 << 10, 1)
        call()
        assert peer.take({"put": "PUT", "a call": "CALL", "an actor": "CREATE"}[what]) and maniple.get(ref) == 1
    finally:
        maniple.shutdown()
        agent.close()


@pytest.fixture
def deaf(tmp_path, cloudpickle):
    """This process, attached to an agent that does not read on until it is told to."""
    agent, hears = Agent(tmp_path, credit=(1 << 40, 1 << 30)), threading.Event()
    agent.on_attach = lambda peer: setattr(peer, "handler", lambda frame: hears.wait(PATIENCE))
    maniple.init(agent.path)
    yield hears
    hears.set()
    maniple.shutdown()
    agent.close()


def test_who_waits_for_a_full_socket_is_interrupted(deaf):  # PY-1
    """It has to say that before it waits."""
    kept = [maniple.put(b"x" * (1 << 20)) for _ in range(8)]
    ref = double.remote(1)
    assert interrupted(lambda: maniple.get(ref), waiting=("flush",)) < SOON
    assert len(maniple.get(maniple.put(b"y" * 100))) == 100 and len(kept) == 8


def test_who_puts_more_than_a_full_socket_takes_is_interrupted(deaf):  # PY-1
    def puts():
        while True:
            maniple.put(b"x" * 50_000)

    assert interrupted(puts, waiting=("flush", "put_encoded"), still=0.1) < SOON


def test_a_handshake_is_interrupted(agent):  # PY-1
    came = queue.Queue()
    agent.welcome = came.put
    for interrupt in ((), (_thread.interrupt_main,)):
        assert interrupted(lambda: maniple.init(agent.path), *interrupt, waiting=("exactly", "_await")) < SOON
        assert not maniple.is_initialized() and came.get(timeout=PATIENCE).gone.wait(PATIENCE)
