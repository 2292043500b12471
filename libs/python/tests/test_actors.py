"""Actors and groups as an agent sees them."""

import gc
import json
import threading
import time

import pytest

import maniple
from maniple import exceptions
from maniple._core import session, values, wire
from maniple.util import get_placement_group, list_named_actors, placement_group, remove_placement_group
from scripted import arguments, keys


@maniple.remote(max_restarts=2, max_task_retries=1, concurrency_groups={"io": 3}, max_pending_calls=2)
class Counter:
    def __init__(self, start):
        self.n = start

    def add(self, n=1):
        self.n += n
        return self.n

    @maniple.method(num_returns=2)
    def two(self):
        return 1, 2

    @maniple.method(concurrency_group="io")
    def read(self):
        return self.n

    def items(self):
        yield 1


@maniple.remote
class Async:
    async def f(self):
        pass


def test_an_actor_is_a_create_and_its_calls_are_numbered(driver):
    a = Counter.options(max_pending_calls=7).remote(5)
    calls = [a.add.remote(), a.add.remote(n=3), a.two.remote()]
    function, methods, create = driver.take("FUNCTION"), driver.take("METHODS"), driver.take("CREATE")
    fields = create.fields
    assert function.fields["class_"] and fields["function"] == methods.fields["function"]
    assert (fields["max_restarts"], fields["max_task_retries"], fields["name"], fields["namespace_"], fields["max_pending"]) == (2, 1, "", "test", 7)
    assert [(g["name"], g["size"], g["methods"]) for g in fields["groups"]] == [("io", 3, ['read\t{"concurrency_group": "io"}'])]
    assert (fields["concurrency"], fields["asynchronous"], bool(fields["detached"])) == (1, False, False)
    assert values.load_pickle(create.payload) == ((5,), {})
    got = [driver.take("CALL") for _ in calls]
    names = [n.partition("\t")[0] for n in methods.fields["names"]]
    assert [names[c.fields.method] for c in got] == ["add", "add", "two"]
    assert [c.fields.sequence for c in got] == [1, 2, 3] and got[2].fields.returns == 2
    assert arguments(got[1]) == ((), {"n": 3}) and got[0].fields.actor == a._id
    driver.result(got[0].fields.task, 6)
    assert maniple.get(calls[0]) == 6


def test_async_classes_take_a_thousand_calls_at_a_time(driver):
    Async.remote()
    assert driver.take("CREATE").fields["concurrency"] == 1000
    Async.options(max_concurrency=5).remote()
    fields = driver.take("CREATE").fields
    assert fields["concurrency"] == 5 and fields["asynchronous"]


def test_numbers_begin_anew_with_an_actor_s_next_life(driver):
    a = Counter.remote(0)
    a.add.remote()
    driver.take("CREATE")
    assert driver.take("CALL").fields.sequence == 1
    for incarnation in (1, 2):
        driver.table("ActorState", {"actor": wire.task_fields(a._id), "phase": 1, "incarnation": incarnation, "reason": "", "node": "n1"})
    answer(driver, {})
    maniple.cluster_resources()  # its answer comes behind the states
    a.add.remote()
    fields = driver.take("CALL").fields
    assert (fields.sequence, fields.incarnation) == (1, 2)


def test_nothing_is_kept_of_an_actor_without_handles(driver):
    a = Counter.remote(0)
    driver.take("CREATE")
    name, sequences = a._id, session.current().sequences

    def lives(incarnation):
        driver.table("ActorState", {"actor": wire.task_fields(name), "phase": 1, "incarnation": incarnation, "reason": "", "node": "n1"})
        answer(driver, {})
        maniple.cluster_resources()  # its answer comes behind the state

    lives(1)
    call = a.add.remote()
    driver.result(driver.take("CALL").fields.task, 1)
    assert maniple.get(call) == 1 and list(sequences) == [name]
    del a, call
    while driver.take("RELEASE").fields.object != wire.key_of(name, 0):
        pass
    assert not sequences
    lives(2)  # the agent said it before it heard of the release
    assert not sequences


def test_a_call_of_another_group_and_of_none(driver):
    a = Counter.options(max_pending_calls=-1).remote(0)
    a.add.options(concurrency_group="io").remote()
    a.read.remote()
    first, second = driver.take("CALL").fields, driver.take("CALL").fields
    assert first.method >> 24 == 1 and second.method >> 24 == 0
    with pytest.raises(ValueError, match="no concurrency group nope"):
        a.add.options(concurrency_group="nope")
    with pytest.raises(AttributeError, match="no method sub"):
        a.sub
    with pytest.raises(TypeError, match=r"add\.remote\(\)"):
        a.add()
    with pytest.raises(ValueError, match="no option"):
        a.add.options(num_cpus=1)
    with pytest.raises(ValueError, match="generator"):
        a.add.options(num_returns="streaming")


def test_too_many_calls(driver):
    a = Counter.remote(0)
    first = a.add.remote()
    a.two.remote()  # nobody wants its results
    driver.take("CALL"), driver.take("CALL")
    time.sleep(0.05)  # what was dropped is released by now
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        a.add.remote()
    driver.result(first.binary()[:16], 1)
    maniple.get(first)
    a.add.remote()


def test_calls_that_give_a_stream_or_nothing_count(driver):
    a = Counter.remote(0)
    items, nothing = a.items.remote(), a.add.options(num_returns=0).remote()
    stream, none = driver.take("CALL").fields, driver.take("CALL").fields
    assert nothing is None and stream.returns & wire.STREAM
    for call in (a.add.remote, a.items.remote, a.add.options(num_returns=0).remote):
        with pytest.raises(exceptions.PendingCallsLimitExceeded, match="2 calls"):
            call()
    driver.result(none.task, None)
    driver.result(stream.task, 1, flags=0)
    assert maniple.get(next(items)) == 1
    del items  # the call goes on
    a.add.remote()
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        a.add.remote()
    driver.raw_result(stream.task, wire.RAW, b"", index=1)
    answer(driver, {})
    maniple.cluster_resources()  # its answer comes behind the end
    a.add.remote()


@pytest.mark.parametrize("limit", [0, -1, None])
def test_any_number_of_calls(driver, limit):
    a = Counter.options(max_pending_calls=limit).remote(0)
    assert driver.take("CREATE").fields["max_pending"] == -1
    for _ in range(50):
        a.add.remote()
    a.add.options(num_returns=0).remote()
    assert {driver.take("CALL").fields.returns for _ in range(51)} == {0, 1}


def test_the_last_handle_releases_the_actor(driver):
    a = Counter.remote(0)
    task = a._id
    ref = maniple.put([a])
    assert driver.take("PUT").fields.refs == 1
    b = maniple.get(ref)[0]
    assert b == a and b is not a
    b.add.remote()
    assert driver.take("CALL").fields.actor == task
    gc.disable()  # no cycle keeps a handle that was called
    try:
        del a, b, ref
        while driver.take("RELEASE").fields.object != wire.key_of(task, 0):
            pass
    finally:
        gc.enable()


def test_arguments_that_do_not_fit_are_told_at_once(driver):
    a = Counter.options(max_pending_calls=3).remote(0)
    for wrong in (
        lambda: Counter.remote(), lambda: Counter.remote(1, 2), lambda: a.add.remote(1, 2), lambda: a.add.remote(m=1), lambda: Counter.options(num_cpus=1).remote(start=1, n=2),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="does not take these arguments"):
            wrong()
    a.add.remote(), a.add.remote(1), a.add.remote(n=1)
    driver.take("CREATE")
    assert len([driver.take("CALL") for _ in range(3)]) == 3
    driver.none_of("CREATE")


def test_what_fits_into_no_bundle_is_told_at_once(driver):
    group = placement_group([{"CPU": 1}, {"CPU": 2, "GPU": 1}])
    on = maniple.util.scheduling_strategies.PlacementGroupSchedulingStrategy
    for index, options in ((-1, {"num_cpus": 3}), (0, {"num_gpus": 1}), (-1, {"resources": {"tpu": 1}})):
        with pytest.raises(ValueError, match="does not fit into"):
            Counter.options(scheduling_strategy=on(group, index), **options).remote(0)
    Counter.options(scheduling_strategy=on(group, 1), num_cpus=2, num_gpus=0.5).remote(0)


def test_kill(driver):
    a = Counter.remote(0)
    maniple.kill(a)
    assert driver.take("CANCEL").fields == (a._id, 1, 0)
    maniple.kill(a, no_restart=False)
    assert driver.take("CANCEL").fields == (a._id, 2, 0)
    ref = a.add.remote()
    driver.fail(ref.binary()[:16], "ACTOR_DIED", "it was killed")
    with pytest.raises(exceptions.ActorDiedError) as e:
        maniple.get(ref)
    assert isinstance(e.value, exceptions.RayActorError)


def answer(driver, reply, error=""):
    def run():
        frame = driver.take("STATE_QUERY")
        seen.append((frame.fields["what"], frame.fields["id"]))
        driver.table("StateReply", {"error": error}, json.dumps(reply).encode(), frame.corr)

    seen = []
    threading.Thread(target=run).start()
    return seen


def test_cancel_by_force_is_for_tasks(driver):
    ref = Counter.remote(1).add.remote()
    seen = answer(driver, {"kind": "call"})
    with pytest.raises(ValueError, match="end the actor with kill"):
        maniple.cancel(ref, force=True)
    assert seen == [("kind", wire.task_text(ref.binary()[:16]))]
    answer(driver, {"kind": "task"})
    maniple.cancel(ref, force=True)
    assert driver.take("CANCEL").fields == (ref.binary()[:16], 1, 1)


def test_named_actors(driver):
    methods = ["__ray_ready__", "__ray_terminate__", "add", 'two\t{"num_returns": 2}', 'items\t{"generator": true}']
    seen = answer(driver, {"actor": {"id": "7.8.9", "function": 5, "methods": methods}})
    a = maniple.get_actor("counter")
    assert seen == [("actor", "test/counter")]
    a.add.remote(), a.two.remote(), a.items.remote()
    calls = [driver.take("CALL").fields for _ in range(3)]
    assert [c.method for c in calls] == [2, 3, 4] and [c.returns for c in calls] == [1, 2, wire.STREAM] and calls[0].actor == wire.TASK.pack(7, 8, 9)
    del a
    while True:  # the answer delivered a handle
        released = driver.take("RELEASE").fields
        if released.object[:16] == wire.TASK.pack(7, 8, 9):
            assert released.deliveries == 1
            break
    seen = answer(driver, {}, "there is none")
    with pytest.raises(ValueError, match="no actor 'who' in the namespace 'other'"):
        maniple.get_actor("who", namespace="other")
    assert seen == [("actor", "other/who")]


def test_a_name_that_is_taken_is_told_at_once(driver):
    seen = answer(driver, {"actor": {"id": "7.8.9", "function": 5, "methods": ["add"]}})
    with pytest.raises(ValueError, match="'counter' lives in the namespace 'test'") as e:
        Counter.options(name="counter").remote(1)
    assert isinstance(e.value, exceptions.ActorAlreadyExistsError) and seen == [("actor", "test/counter")]
    fields = driver.take("CREATE").fields
    assert (fields["name"], fields["namespace_"]) == ("counter", "test")
    answer(driver, {}, "it is dead")  # ours ended in between, and its calls tell why
    Counter.options(name="counter").remote(1).add.remote()


def test_names_of_all_nodes(driver):
    names = [{"namespace": "other", "name": "a", "node": "n1"}, {"namespace": "test", "name": "b", "node": "n2"}]
    seen = answer(driver, {"names": names})
    assert list_named_actors() == ["b"] and seen == [("names", "")]
    answer(driver, {"names": names})
    assert list_named_actors(all_namespaces=True) == [{"namespace": "other", "name": "a"}, {"namespace": "test", "name": "b"}]


def test_get_if_exists(driver):
    seen = answer(driver, {"actor": {"id": "7.8.9", "function": 5, "methods": ["add"]}})
    a = Counter.options(name="counter", get_if_exists=True).remote(1)
    assert a._id == wire.TASK.pack(7, 8, 9) and seen
    driver.none_of("CREATE")


def test_nodes_and_resources(driver):
    answer(driver, {"nodes": [{"name": "n1", "state": "up", "addresses": ["10.0.0.1:99"], "total": {"CPU": 4}, "labels": {"a": "b"}}, {"name": "n2", "state": "dead"}]})
    first, second = maniple.nodes()
    assert (first["NodeID"], first["Alive"], first["Resources"], first["NodeManagerAddress"], first["Labels"]) == ("n1", True, {"CPU": 4}, "10.0.0.1", {"ray.io/node-id": "n1", "a": "b"})
    assert second["Alive"] is False and second["Resources"] == {}
    answer(driver, {"cluster": {"total": {"CPU": 4, "GPU": 1}, "free": {"CPU": 0, "GPU": 1}}})
    assert maniple.cluster_resources() == {"CPU": 4, "GPU": 1}
    up = {"name": "n1", "state": "up", "total": {"CPU": 4, "GPU": 1}, "free": {"CPU": 0, "GPU": 0.5}}
    seen = answer(driver, {"nodes": [up, {**up, "name": "n2"}, {**up, "name": "n3", "state": "dead"}]})
    assert maniple.available_resources() == {"GPU": 1} and seen == [("free", "")]


def test_equal_bundles(driver):
    one = {"CPU": 1}
    group = placement_group([one] * 3 + [{"CPU": 2}])
    assert [(b.get("times"), [r["amount"] for r in b["resources"]]) for b in driver.take("GROUP_CREATE").fields["bundles"]] == [(3, [10_000]), (0, [20_000])]
    assert repr(group).endswith("4 bundles)") and group.bundle_count == 4
    group.bundle_specs[0]["CPU"] = 5
    assert group.bundle_specs == [{"CPU": 5}, {"CPU": 1}, {"CPU": 1}, {"CPU": 2}] and one == {"CPU": 1}
    assert maniple.get(maniple.put(group)).bundle_specs == group.bundle_specs


def test_groups(driver):
    group = placement_group([{"CPU": 1}, {"GPU": 0.5, "CPU": 2}], strategy="STRICT_SPREAD", name="g", lifetime="detached")
    ready = group.ready()
    create = driver.take("GROUP_CREATE").fields
    assert (int(create["strategy"]), create["name"], create["detached"]) == (3, "g", True)
    assert [{r["name"]: r["amount"] for r in b["resources"]} for b in create["bundles"]] == [{"CPU": 10_000}, {"GPU": 5000, "CPU": 20_000}]
    assert group.wait(0.01) is False and maniple.wait([ready], timeout=0) == ([], [ready])
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 2, "incarnation": 1})
    assert maniple.get(ready) == group and group.wait() is True
    assert maniple.get(maniple.put(group)) == group
    remove_placement_group(group)
    cancel = driver.take("GROUP_CANCEL").fields
    assert wire.task_bytes(cancel["group"]) == wire.task_bytes(create["group"]) and int(cancel["mode"]) == 1
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 6, "end": {"cause": "cancelled", "reason": "removed"}})
    answer(driver, {})
    maniple.cluster_resources()  # its answer comes behind the update
    with pytest.raises(exceptions.TaskPlacementGroupRemoved, match="removed"):
        maniple.get(group.ready())
    assert group.wait(5) is False


@pytest.mark.parametrize("topology,strategy,within", [
    ({"rack": "STRICT_PACK"}, 0, "rack"), ({"rack": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"}, 3, "rack"), ({"ray.io/node-id": "SPREAD"}, 1, None), ({}, 0, None),
])  # fmt: skip
def test_groups_within_a_label(driver, topology, strategy, within):
    placement_group([{"CPU": 1}] * 2, topology_strategy=topology)
    create = driver.take("GROUP_CREATE").fields
    assert (int(create["strategy"]), create["within"] or None) == (strategy, within)


@pytest.mark.parametrize("topology,strategy,words", [
    ({"rack": "STRICT_PACK"}, "PACK", "not both"), ({"rack": "PACK"}, None, "can only be STRICT_PACK"), ({"rack": "close"}, None, "must be one of"),
    ({"rack": "STRICT_PACK", "row": "STRICT_PACK"}, None, "one label beside"), ("rack", None, "is a dict"), ({"": "STRICT_PACK"}, None, "is a dict"),
])  # fmt: skip
def test_what_is_no_topology(driver, topology, strategy, words):
    with pytest.raises(ValueError, match=words):
        placement_group([{"CPU": 1}], strategy, topology_strategy=topology)


def test_equal_groups_have_ids_of_their_own(driver):
    asked = [placement_group([{"CPU": 1}], bundle_label_selector=[{"zone": zone}]) for zone in "aab"]
    seen = [driver.take("GROUP_CREATE").fields for _ in asked]
    assert [wire.task_text(wire.task_bytes(s["group"])) for s in seen] == [g.id for g in asked] and len({g.id for g in asked}) == 3
    assert [[(k["key"], k["value"]) for k in s["bundles"][0]["labels"]] for s in seen] == [[("zone", "a")], [("zone", "a")], [("zone", "b")]]


def test_copies_of_a_group_are_told_and_nothing_stays_of_ended_ones(driver):
    group = placement_group([{"CPU": 1}])
    copy = maniple.get(maniple.put(group))
    ready = [group.ready(), copy.ready()]  # the copy asks
    assert driver.take("GROUP_WATCH")
    session = maniple._core.session.current()
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 2})
    assert maniple.get(ready) == [group, group] and len(session.watching) == 1
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 6, "end": {"cause": "cancelled", "reason": "removed"}})
    answer(driver, {})
    maniple.cluster_resources()  # its answer comes behind the update
    assert copy.wait(5) is False and not session.watching


def test_a_group_s_reference_leaves_as_an_object(driver):
    group = placement_group([{"CPU": 1}])
    ref = group.ready()
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 2})
    assert group.wait(20)
    maniple.remote(lambda g: None).remote(ref)
    assert driver.take("PUT").fields.object == ref.binary()
    assert driver.take("SUBMIT").fields.deps == 1


def test_a_reference_to_a_group_that_is_not_there_leaves_as_a_task_on_it(driver):
    group, child = placement_group([{"CPU": 1}]), maniple.remote(lambda g: None)
    ref = group.ready()
    assert child.remote(ref) and maniple.put([ref])  # at once, with the group's fate unknown
    waits, uses = driver.take("SUBMIT"), driver.take("SUBMIT")
    assert waits.fields.task == ref.binary()[:16] and waits.fields.returns == 1 and uses.fields.deps == 1
    shape = next(f.fields for f in driver.kept if f.name == "SHAPE" and f.fields["number"] == waits.fields.shape)
    assert wire.task_text(wire.task_bytes(shape["group"])) == group.id and shape["bundle"] == -1 and sum(r["amount"] for r in shape["resources"]) == 0
    assert arguments(waits) == ((group,), {})
    assert keys(uses, 1) == keys(driver.take("PUT")) == [ref.binary()]
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 4})
    assert maniple.get(ref, timeout=20) == group
    driver.result(waits.fields.task, group)  # it has come twice
    session = maniple._core.session.current()
    del ref
    gc.collect()
    session.connection.flush()
    while driver.take("RELEASE").fields.object[:16] != waits.fields.task:
        pass


def test_a_task_that_waits_for_a_group_which_was_removed_fails_and_its_call_does_not(driver):
    group = placement_group([{"CPU": 1}])
    ref = group.ready()
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 6, "end": {"cause": "cancelled", "reason": "removed"}})
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        maniple.get(ref, timeout=20)
    maniple.remote(lambda g: None).remote(ref)
    assert driver.take("SUBMIT").fields.task == ref.binary()[:16], "what runs nowhere: the agent has it fail"


def test_who_asks_again_and_again_whether_a_group_is_there_leaves_nothing(driver):
    group = placement_group([{"CPU": 1}])
    for _ in range(20):
        assert group.wait(0.001) is False
    assert not group._watched._gates
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 4})
    assert group.wait(20) is True


def test_a_group_of_another_process(driver):
    answer(driver, {"groups": [{"id": "1.2.3", "name": "g", "bundles": 2, "phase": "created"}, {"id": "1.2.2", "name": "old", "phase": "ended"}]})
    group = get_placement_group("g")
    answer(driver, {"group": {"id": "1.2.3", "bundle_specs": [{"resources": {"CPU": 8.0}, "node": "n1"}, {"resources": {"CPU": 8.0}}]}})
    assert (group.id, group.bundle_specs) == ("1.2.3", [{"CPU": 8.0}, {"CPU": 8.0}])
    on = maniple.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, 1)
    maniple.remote(num_cpus=5)(int).options(scheduling_strategy=on).remote()
    ready = group.ready()
    assert wire.task_bytes(driver.take("GROUP_WATCH").fields["group"]) == wire.TASK.pack(1, 2, 3)
    driver.table("GroupUpdate", {"group": group.table_id(), "phase": 4})
    assert maniple.get(ready) == group
    answer(driver, {"groups": []})
    with pytest.raises(ValueError, match="'none'"):
        get_placement_group("none")


def test_notices_and_prints_reach_the_terminal(driver, capsys):
    driver.table("Notice", {"level": 1, "code": "NODE_DIED", "text": "n2 died"})
    driver.table("RankOutput", {"stream": 1}, b"(f pid=3) hello\n")
    driver.table("RankOutput", {"stream": 2}, b"(f pid=3) oh\n")
    ref = maniple.remote(lambda: None).remote()
    driver.result(driver.take("SUBMIT").fields.task)
    maniple.get(ref)
    answer(driver, {"cluster": {}})
    maniple.cluster_resources()
    out = capsys.readouterr()
    assert out.out == "(f pid=3) hello\n" and out.err == "maniple: n2 died\n(f pid=3) oh\n"
