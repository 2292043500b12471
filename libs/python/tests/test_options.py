"""Options: names, defaults and errors. Nothing here needs an agent."""

import inspect
import sys

import pytest

import maniple
from maniple import _options
from maniple.util.placement_group import PlacementGroup
from maniple.util.scheduling_strategies import DoesNotExist, In, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy, PlacementGroupSchedulingStrategy


def f():
    pass


class C:
    pass


@pytest.mark.parametrize("options,error,words", [
    (dict(num_cpus=-1), ValueError, "negative"), (dict(num_cpus=0.00001), ValueError, "0.0001"), (dict(num_gpus=1.5), ValueError, "whole"),
    (dict(resources={"CPU": 1}), ValueError, "num_cpus"), (dict(resources={"GPU": 1}), ValueError, "num_gpus"), (dict(resources={"x": -1}), ValueError, "negative"),
    (dict(num_cpus="2"), TypeError, "num_cpus"), (dict(object_store_memory=5), ValueError, "not an option of tasks"), (dict(num_returns=-1), ValueError, "num_returns"),
    (dict(num_returns="all"), ValueError, "num_returns"), (dict(num_returns="streaming"), ValueError, "generator"), (dict(max_retries=-2), ValueError, "max_retries"),
    (dict(retry_exceptions=[int]), ValueError, "exception types"), (dict(max_calls=-1), ValueError, "max_calls"), (dict(nmu_cpus=2), ValueError, "num_cpus"),
    (dict(_generator_backpressure_num_objects=0), ValueError, "can't be 0"), (dict(scheduling_strategy="NEAR"), ValueError, "SPREAD"),
    (dict(max_retries=sys.maxsize), ValueError, "max_retries must be .* up to 2147483647"), (dict(memory=1e15), ValueError, "is the most"), (dict(num_cpus=float("nan")), ValueError, "nan"),
    (dict(num_gpus=float("inf")), ValueError, "inf"), (dict(resources={"": 1}), ValueError, "from a name"), (dict(resources={3: 1}), ValueError, "from a name"),
    (dict(resources={"x": "1"}), ValueError, "to an amount"), (dict(num_returns=(1 << 20) + 1), ValueError, "1048576"), (dict(max_calls=1 << 31), ValueError, "max_calls"),
    (dict(label_selector={"a": "in(b"}), ValueError, "label_selector"), (dict(max_restarts=1), ValueError, "no option of remote functions"), (dict(enable_task_events=3), TypeError, "enable_task_events"),
])  # fmt: skip
def test_wrong_options_of_tasks(options, error, words):
    with pytest.raises(error, match=words):
        maniple.remote(**options)(f)
    if "max_calls" not in options:
        with pytest.raises(error, match=words):
            maniple.remote(f).options(**options)


@pytest.mark.parametrize("options,error,words", [
    (dict(max_retries=1), ValueError, "no option of actors"), (dict(lifetime="long"), ValueError, "lifetime"), (dict(max_concurrency=-1), ValueError, "max_concurrency"),
    (dict(max_restarts=-2), ValueError, "max_restarts"), (dict(get_if_exists=True), ValueError, "name"), (dict(concurrency_groups={"io": 0}), ValueError, "io"),
    (dict(max_restarts=1 << 31), ValueError, "max_restarts"), (dict(max_concurrency=1 << 31), ValueError, "max_concurrency"), (dict(max_pending_calls=1 << 31), ValueError, "max_pending_calls"),
    (dict(concurrency_groups={f"g{i}": 1 for i in range(201)}), ValueError, "200 concurrency groups at most, not 201"), (dict(concurrency_groups={3: 1}), ValueError, "text as its name"),
    (dict(concurrency_groups={"io": 1 << 31}), ValueError, "io"),
])  # fmt: skip
def test_wrong_options_of_actors(options, error, words):
    with pytest.raises(error, match=words):
        maniple.remote(**options)(C)


def test_what_may_not_be_given_later():
    with pytest.raises(ValueError, match="decorator"):
        maniple.remote(f).options(max_calls=1)
    with pytest.raises(ValueError, match="decorator"):
        maniple.remote(C).options(concurrency_groups={"io": 1})


def test_defaults_are_ray_s():
    assert (_options.TASK["num_cpus"].default, _options.TASK["max_retries"].default, _options.TASK["retry_exceptions"].default, _options.TASK["max_calls"].default) == (1, 3, False, 0)
    assert (_options.ACTOR["max_restarts"].default, _options.ACTOR["max_task_retries"].default, _options.ACTOR["max_pending_calls"].default) == (0, 0, -1)
    ray = set("""max_calls max_retries num_cpus num_returns object_store_memory retry_exceptions _generator_backpressure_num_objects label_selector fallback_strategy
        accelerator_type memory name num_gpus placement_group placement_group_bundle_index placement_group_capture_child_tasks resources runtime_env scheduling_strategy
        enable_task_events _labels""".split())
    assert set(_options.TASK) == ray
    assert set(_options.ACTOR) == ray - set("max_calls max_retries num_returns retry_exceptions _generator_backpressure_num_objects".split()) | set(
        "concurrency_groups lifetime max_concurrency max_restarts max_task_retries max_pending_calls namespace get_if_exists allow_out_of_order_execution".split()
    )


def test_what_remote_is_not_for():
    async def a():
        pass

    with pytest.raises(ValueError, match="async"):
        maniple.remote(a)
    for wrong in (lambda: maniple.remote(3), lambda: maniple.remote(), lambda: maniple.remote(f, num_cpus=1), lambda: maniple.remote(num_cpus=1)(3)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match=r"f\.remote\(\)"):
        maniple.remote(f)()
    actor = maniple.remote(C)
    with pytest.raises(TypeError, match=r"C\.remote\(\)"):
        actor()
    with pytest.raises(TypeError, match="inherit"):
        class D(actor):
            pass


def test_a_remote_function_looks_like_the_function():
    @maniple.remote
    def documented(a, b=2):
        """Says so."""

    assert documented.__doc__ == "Says so." and documented.__name__ == "documented" and str(inspect.signature(documented)) == "(a, b=2)"


def shape(**options):
    return _options.shape_of(options, 1)


def test_amounts_are_fixed_point():
    assert shape(num_cpus=0, num_gpus=0.25, accelerator_type="A100")["resources"] == [
        {"name": "CPU", "amount": 0}, {"name": "GPU", "amount": 2500}, {"name": "accelerator_type:A100", "amount": 10},
    ]  # fmt: skip
    assert _options.shape_of({}, None)["resources"] == []  # an actor: 1 to be placed, 0 to run


def test_strategies():
    assert shape(scheduling_strategy="SPREAD")["strategy"] == "spread" and shape(scheduling_strategy="DEFAULT")["strategy"] == ""
    affinity = shape(scheduling_strategy=NodeAffinitySchedulingStrategy("n3", soft=True))
    assert (affinity["node"], affinity["soft"]) == ("n3", True)
    labels = NodeLabelSchedulingStrategy({"zone": In("a", "b"), "old": DoesNotExist()}, soft={"disk": In("ssd")})
    assert shape(scheduling_strategy=labels)["labels"] == [
        {"key": "old", "value": "!exists()"}, {"key": "zone", "value": "in(a,b)"}, {"key": "?disk", "value": "in(ssd)"},
    ]  # fmt: skip
    chosen = shape(label_selector={"zone": "a"}, fallback_strategy=[{"label_selector": {"zone": "b", "disk": "!tape"}}, {"label_selector": {}}])
    assert chosen["labels"] == [{"key": "zone", "value": "a"}]
    assert chosen["fallbacks"] == [{"labels": [{"key": "disk", "value": "!tape"}, {"key": "zone", "value": "b"}]}, {"labels": []}]
    both = shape(label_selector={"zone": "a"}, fallback_strategy=[{"label_selector": {"zone": "b"}}], scheduling_strategy=NodeLabelSchedulingStrategy(None, soft={"disk": In("ssd")}))
    assert [label["key"] for labels in (both, *both["fallbacks"]) for label in labels["labels"]] == ["zone", "?disk", "zone", "?disk"]
    assert "fallbacks" not in shape(label_selector={"zone": "a"}, fallback_strategy=[])
    for wrong in ([{}], ["a"], [{"label_selector": {"zone": "a"}, "num_cpus": 1}], [{"label_selector": None}], [{"label_selector": {"zone": "a,b"}}]):
        with pytest.raises(ValueError, match="fallback_strategy"):
            maniple.remote(fallback_strategy=wrong)(f)
    group = PlacementGroup("1.2.3", [{"CPU": 1}] * 2)
    used = shape(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 1, True))
    assert (tuple(used["group"]), used["bundle"], used["capture"]) == ((1, 2, 3), 1, True)
    assert shape(placement_group=group)["bundle"] == -1
    assert shape(scheduling_strategy=PlacementGroupSchedulingStrategy(None))["strategy"] == shape(placement_group=None)["strategy"] == "outside"
    for wrong in (2, -2):
        with pytest.raises(ValueError, match="2 bundles"):
            shape(scheduling_strategy=PlacementGroupSchedulingStrategy(group, wrong))
    with pytest.raises(ValueError, match="scheduling_strategy alone"):
        maniple.remote(placement_group=group, scheduling_strategy="SPREAD")(f)


@pytest.mark.parametrize("selector", ["a", "!a", "in(a,b)", "!in(a, b)", "exists()", "!exists()", ""])
def test_sound_selectors(selector):
    maniple.remote(label_selector={"zone": selector})(f)


def test_environments_merge_only_their_variables():
    base, own = {"env_vars": {"A": "1", "B": "1"}, "pip": ["x"]}, {"env_vars": {"B": "2"}, "pip": ["y"]}
    assert _options.environment_of(base, own) == {"env_vars": {"A": "1", "B": "2"}, "pip": ["y"]}
    assert '"B": "2"' in _options.shape_of({}, 1, _options.environment_of(base, own))["environment"]


@pytest.mark.parametrize("bundles,options,words", [
    ([], {}, "at least one"), ([{}], {}, "above 0"), ([{"CPU": 0}], {}, "above 0"), ([{"CPU": -1}], {}, "negative"), ([{"GPU": 1.5}], {}, "whole"), (3, {}, "list"), ([None], {}, "a dict"),
    ([{"": 1}], {}, "no resource"), ([{"CPU": float("inf")}], {}, "is the most"),
    ([{"CPU": 1}], {"strategy": "NEAR"}, "STRICT_PACK"), ([{"CPU": 1}], {"lifetime": "long"}, "detached"), ([{"CPU": "1"}], {}, "CPU"),
    ([{"CPU": 1}], {"bundle_label_selector": []}, "each bundle"), ([{"CPU": 1}], {"bundle_label_selector": [3]}, "no dict"),
    ([{"CPU": 1}], {"bundle_label_selector": [{"zone": ["a"]}]}, "to texts"), ([{"CPU": 1}], {"bundle_label_selector": [{"zone": "in("}]}, "in\\("),
])  # fmt: skip
def test_wrong_groups(bundles, options, words):
    with pytest.raises(ValueError, match=words):
        maniple.util.placement_group(bundles, **options)


@pytest.mark.parametrize("env_vars", [{"": "x"}, {"A=B": "x"}, {"A": "a\0b"}])
def test_variables_that_no_environment_can_have_are_refused(env_vars):
    from maniple import runtime_env

    assert "no environment can have" in runtime_env.check({"env_vars": env_vars})


def test_equal_bundles_are_said_once():
    import importlib

    create = importlib.import_module("maniple.util.placement_group")._create
    cpu, gpu, rack = (("CPU", 1),), (("GPU", 1),), (("rack", "a"),)

    def size(*bundles, selectors=()):
        return len(create(bundles, selectors, "SPREAD", "", None, "")(bytes(16)))

    assert size(*[cpu] * 64) - size(cpu) < 32
    assert size(cpu, gpu, cpu) - size(cpu) > 32
    assert size(cpu, cpu, selectors=(rack, ())) > size(cpu, cpu, selectors=(rack, rack))
