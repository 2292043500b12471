"""References and handles of one session in another, where their IDs may be those of other objects and actors."""

import asyncio
import gc
import os
import pickle
import traceback

import pytest

import maniple
from maniple import exceptions
from maniple._core import session, wire
from maniple.util.placement_group import placement_group, placement_group_table, remove_placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from scripted import keys


@maniple.remote
def f(*args, **kwargs):
    return args


@maniple.remote
class Actor:
    def __init__(self, *args):
        pass

    def who(self, *args):
        return args

    @maniple.method(num_returns="streaming")
    def items(self):
        yield 1


class Mine:
    """Which only cloudpickle sends, being of this program."""


Mine.__module__ = "__main__"


@pytest.fixture(params=["another cluster", "the same cluster"])
def again(request, agent):
    """Ends the session and begins another: where all processes are numbered anew, or not. Gives what the agent sees of it."""
    maniple.init(agent.path, namespace="test")
    agent.peer()
    past = []

    def again():
        maniple.shutdown()
        if request.param == "another cluster":
            past.extend(agent.peers)
            agent.peers.clear()
        maniple.init(agent.path, namespace="test")
        return agent.peer()

    yield again
    for peer in past:
        peer.close()


def lost():
    return pytest.raises(exceptions.ObjectLostError, match="from before a fork or a shutdown")


def no_actor():
    return pytest.raises(exceptions.ActorHandleNotFoundError, match="from before a fork or a shutdown")


def no_group():
    return pytest.raises(exceptions.TaskPlacementGroupRemoved, match=r"placement group \d+\.\d+\.\d+ is of another session, from before a shutdown")


def test_a_stale_reference_names_nothing(again):
    old = [maniple.put(f"old {i}") for i in range(3)]
    task = f.remote(0)
    again()
    new = [maniple.put(f"new {i}") for i in range(3)]
    maniple.put(0)
    assert not {r.binary() for r in [*old, task]} & {r.binary() for r in new} and maniple.get(new) == ["new 0", "new 1", "new 2"]
    for ref in [*old, task]:
        with lost():
            maniple.get(ref)
        with lost():
            maniple.get([new[0], ref])
        for here in (True, False):
            with lost():
                maniple.wait([new[0], ref], fetch_local=here)
        with lost():
            maniple.get_range(ref, 0, 1)
        with lost():
            maniple.cancel(ref)
        with lost():
            ref.future()
        with lost():
            asyncio.run(awaited(ref))
    assert maniple.get(new) == ["new 0", "new 1", "new 2"]


async def awaited(ref):
    return await ref


def test_a_stale_reference_goes_nowhere(again):
    old = maniple.put("old")
    peer = again()
    for give in (lambda: f.remote(old), lambda: f.remote(x=old), lambda: f.remote([old]), lambda: maniple.put([old]), lambda: f.remote([old], "x" * 200_000), lambda: Actor.remote(old)):
        with lost():
            give()
    a = Actor.remote()
    with lost():
        a.who.remote({"of": old})
    assert maniple.get(maniple.put(3)) == 3
    peer.take("PUT")
    peer.none_of("SUBMIT", "CALL")
    a.who.remote(maniple.put(4))
    assert len(keys(peer.take("CALL"), 1)) == 1


def test_a_function_that_captured_one_is_sent_anew(again):
    captured = maniple.put("old")

    @maniple.remote
    def reads():
        return maniple.get(captured)

    reads.remote()
    peer = again()
    with lost():
        reads.remote()
    captured = maniple.put("new")
    reads.remote()
    assert keys(peer.take("SUBMIT")) == [captured.binary()]


def test_a_stale_handle_calls_nobody(again):
    old = Actor.remote()
    method = old.who
    method.remote()
    peer = again()
    new = Actor.remote()
    for use in (method.remote, old.who.remote, old.who.options(name="x").remote, old.__ray_ready__.remote, lambda: maniple.kill(old)):
        with no_actor():
            use()
    with lost():
        f.remote([old])
    assert old != new and old._id != new._id
    new.who.remote()
    assert peer.take("CALL").fields.actor == new._id


def test_a_stale_group_has_nothing(again):
    old = placement_group([{"CPU": 1}])
    on = f.options(scheduling_strategy=PlacementGroupSchedulingStrategy(old, 0))
    on.remote()
    peer = again()
    actor = Actor.remote()
    peer.take("CREATE")
    for use in (on.remote, f.options(placement_group=old).remote, Actor.options(placement_group=old).remote):
        with no_group():
            use()
    for use in (old.ready, old.wait, old.explain, old.table_id, lambda: remove_placement_group(old), lambda: placement_group_table(old)):
        with no_group():
            use()
    for give in (lambda: f.remote(old), lambda: f.remote(x=[old]), lambda: maniple.put({"of": old}), lambda: Actor.remote(old), lambda: actor.who.remote([Mine(), old])):
        with no_group():
            give()
    assert old.bundle_specs == [{"CPU": 1}]  # which needs nobody
    new = placement_group([{"CPU": 1}])
    remove_placement_group(new)
    f.options(placement_group=new).remote(new)
    assert wire.task_bytes(peer.take("GROUP_CANCEL").fields["group"]) == wire.task_bytes(new.table_id())
    peer.take("SUBMIT")
    peer.none_of("SUBMIT", "CREATE", "CALL", "PUT", "STATE_QUERY", "GROUP_WATCH", "GROUP_CANCEL")


def test_a_function_that_captured_a_group_is_sent_anew(again):
    captured = placement_group([{"CPU": 1}])

    @maniple.remote
    def asks():
        return captured.explain()

    asks.remote()
    peer = again()
    with no_group():
        asks.remote()
    captured = placement_group([{"CPU": 1}])
    asks.remote()
    assert captured.id.encode() in peer.take("FUNCTION").payload
    peer.take("SUBMIT")


def test_a_stale_group_that_was_found_or_sent(again):
    """Whoever made it: it is of the session in which it came here."""
    sent = pickle.loads(pickle.dumps(placement_group([{"CPU": 1}])))
    by_name = type(sent)("1.2.3", None)
    again()
    for use in (lambda: by_name.bundle_specs, lambda: repr(by_name.bundle_count), by_name.wait, sent.wait, lambda: f.options(placement_group=sent).remote()):
        with no_group():
            use()


def test_what_others_made_is_told_apart_where_ids_are_equal(again):
    """Other processes number their objects by themselves: the same ID may come again."""
    key = wire.key_of(bytes(range(16)), 0)

    old = session.current().hold(key)
    peer = again()
    new = session.current().hold(key)
    assert old.binary() == new.binary() and old != new and not old == new and hash(old) == hash(new)
    with lost():
        f.remote([new, old])
    with lost():
        maniple.get([new, old], timeout=1)
    for refs in ([old], [new, old]):
        with lost():
            maniple.wait(refs, timeout=1)
    del old  # of which this session's agent hears nothing
    f.remote([new])
    assert keys(peer.take("SUBMIT")) == [key]


def test_a_stale_generator_is_not_waited_for(again):
    a = Actor.remote()
    old = a.items.remote()
    again()
    for use in (lambda: maniple.wait([old], timeout=1), lambda: maniple.cancel(old)):
        with pytest.raises(exceptions.ObjectLostError, match="the generator of task"):
            use()


def test_why_an_agent_ends_the_connection_is_told(driver):
    waiting = f.remote(1)
    driver.table("Goodbye", {"reason": "released an object that it does not hold"})
    driver.close()
    with pytest.raises(exceptions.LocalAgentDiedError, match="node n1 does not answer any more: released an object that it does not hold"):
        maniple.get(waiting)


def test_a_forked_child_has_neither(agent, driver):
    """It joins with a session of its own, in which what the parent holds is of no use."""
    a, ref, group = Actor.remote(), maniple.put(1), placement_group([{"CPU": 1}])
    a.who.remote()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for use in (a.who.remote, lambda: maniple.kill(a)):
                with no_actor():
                    use()
            for use in (lambda: f.remote(ref), lambda: f.remote([a]), lambda: maniple.put([ref]), lambda: maniple.get(ref), lambda: maniple.wait([ref]), lambda: maniple.cancel(ref)):
                with lost():
                    use()
            assert maniple.get(maniple.put(2)) == 2
            f.options(placement_group=group).remote(group)  # a group is there as long as the parent's job
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert maniple.get(ref) == 1


def test_a_reference_by_its_id(driver):
    ref = maniple.put("value")
    same = maniple.ObjectRef.from_hex(ref.hex())
    assert same == ref == maniple.ObjectRef.from_binary(ref.binary()) and hash(same) == hash(ref) and len(ref.binary()) == maniple.ObjectRef.size()
    del ref
    gc.collect()
    assert maniple.get(same, timeout=20) == "value"  # it keeps the object
    called = f.remote(same)
    submit = driver.take("SUBMIT")
    assert submit.fields.deps == 1 and bytes(submit.payload[: wire.KEY_SIZE]) == same.binary()
    driver.none_of("RELEASE")
    other = maniple.ObjectRef.from_hex("ab" * maniple.ObjectRef.size())
    assert called != same and other != same and not other.is_nil() and maniple.ObjectRef.nil().is_nil()
    with pytest.raises(exceptions.ObjectLostError):
        maniple.get(other, timeout=20)
    for wrong in ("ab", "x" * 40):
        with pytest.raises(ValueError):
            maniple.ObjectRef.from_hex(wrong)
    with pytest.raises(TypeError):
        maniple.ObjectRef.from_binary("ab" * 20)
