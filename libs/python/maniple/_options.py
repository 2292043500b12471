"""Options of tasks, actors and methods: names, defaults and checks as Ray has them, and the shape they make.

A shape is what the agent has to know of a call to place it; docs/spec/wire.md has its fields.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Optional

from maniple import _requirements, runtime_env
from maniple._core import wire

UNIT = 10_000  # amounts of resources are in ten-thousandths
_MOST = (1 << 62) // UNIT  # of a resource: the agent adds them up
_MOST_TIMES = (1 << 31) - 1  # of what is counted
_MOST_RETURNS = 1 << 20
_NAMES_GPU = ("GPU", "num_gpus")


class Option:
    """One option: the types it takes, a check that gives a message or None, its default."""

    __slots__ = ("types", "check", "default")

    def __init__(self, types: Any = None, check: Optional[Callable[[Any], Optional[str]]] = None, default: Any = None):
        self.types, self.check, self.default = types, check, default

    def validate(self, name: str, value: Any) -> None:
        if self.types is not None and not isinstance(value, self.types):
            raise TypeError(f"{name} must be {_names(self.types)}, not {type(value).__name__}")
        problem = self.check(value) if self.check else None
        if problem:
            raise ValueError(problem)


def _names(types: Any) -> str:
    return " or ".join("None" if t is type(None) else t.__name__ for t in (types if isinstance(types, tuple) else (types,)))


def check_amount(name: str, value: Optional[float]) -> Optional[str]:
    """What is wrong with an amount of a resource."""
    if value is None:
        return None
    if value < 0:
        return f"the amount of {name} can't be negative: {value}"
    if not value <= _MOST:  # or it is no number
        return f"the amount of {name} can't be {value}: {_MOST} is the most"
    if isinstance(value, float) and value and int(value * UNIT) == 0:
        return f"the amount of {name} can't be finer than 0.0001: {value}"
    if name in _NAMES_GPU and value > 1 and value != int(value):
        return f"{name} above 1 must be whole: {value}"
    return None


def _count(name: str, infinite: bool, default: Any = None, most: int = _MOST_TIMES) -> Option:
    least, words = (-1, "None, -1 (no bound), 0 or a positive number") if infinite else (0, "None, 0 or a positive number")
    return Option((int, type(None)), lambda v: None if v is None or least <= v <= most else f"{name} must be {words} up to {most}, not {v}", default)


def _amount(name: str, default: Any = None) -> Option:
    return Option((float, int, type(None)), lambda v: check_amount(name, v), default)


def _resources(value: Optional[Dict[str, float]]) -> Optional[str]:
    if not value:
        return None
    if "CPU" in value or "GPU" in value:
        return "resources can't name CPU or GPU: use num_cpus and num_gpus"
    for name, amount in value.items():
        if not isinstance(name, str) or not name or not isinstance(amount, (int, float)):
            return f"resources are a dict from a name to an amount, not {name!r}: {amount!r}"
    return next((problem for problem in (check_amount(k, v) for k, v in value.items()) if problem), None)


def _selector(value: Any) -> Optional[str]:
    from maniple.util.scheduling_strategies import check_selector

    return None if value is None else check_selector(value)


def _fallbacks(value: Any) -> Optional[str]:
    for choice in value or ():
        if not isinstance(choice, dict) or set(choice) != {"label_selector"} or not isinstance(choice["label_selector"], dict):
            return f"fallback_strategy is a list of dicts with a label_selector each and nothing else, not {choice!r}"
        problem = _selector(choice["label_selector"])
        if problem:
            return f"fallback_strategy: {problem}"
    return None


def _strategy(value: Any) -> Optional[str]:
    from maniple.util import scheduling_strategies as s

    if value is None or value in s.NAMES or isinstance(value, s.KINDS):
        return None
    return f"scheduling_strategy must be None, {', '.join(map(repr, s.NAMES))} or one of maniple.util.scheduling_strategies, not {value!r}"


def _returns(value: Any) -> Optional[str]:
    if value is None or value in ("dynamic", "streaming") or (isinstance(value, int) and 0 <= value <= _MOST_RETURNS):
        return None
    return f"num_returns must be None, a number from 0 to {_MOST_RETURNS}, 'streaming' (of generators) or 'dynamic', not {value!r}"


def _retry(value: Any) -> Optional[str]:
    if isinstance(value, bool) or all(isinstance(t, type) and issubclass(t, Exception) for t in value):
        return None
    return "retry_exceptions must be a bool or a list of exception types"


def _transport(value: Any) -> Optional[str]:
    if value is None or value.lower() in TRANSPORTS:
        return None
    return f"tensor_transport must be {', '.join(map(repr, TRANSPORTS))} or None, not {value!r}; cuda_ipc and object_store need no collective group"


TRANSPORTS = ("gloo", "nccl", "cuda_ipc", "object_store")
_NONE = type(None)
_COMMON = {
    "label_selector": Option((dict, _NONE), _selector),
    "fallback_strategy": Option((list, _NONE), _fallbacks),
    "accelerator_type": Option((str, _NONE)),
    "memory": _amount("memory"),
    "name": Option((str, _NONE)),
    "num_cpus": _amount("num_cpus"),
    "num_gpus": _amount("num_gpus"),
    "object_store_memory": _count("object_store_memory", False, most=(1 << 63) - 1),
    "placement_group": Option(default="default"),
    "placement_group_bundle_index": Option(int, default=-1),
    "placement_group_capture_child_tasks": Option((bool, _NONE)),
    "resources": Option((dict, _NONE), _resources),
    "runtime_env": Option((dict, _NONE), runtime_env.check),
    "scheduling_strategy": Option(None, _strategy),
    "enable_task_events": Option(bool, default=True),
    "_labels": Option((dict, _NONE)),
}
_BACKPRESSURE = Option((int, _NONE), lambda v: "_generator_backpressure_num_objects can't be 0: 1 is one item at a time, -1 no bound" if v == 0 else None)
TASK = {
    **_COMMON,
    "max_calls": _count("max_calls", False, 0),
    "max_retries": _count("max_retries", True, 3),
    "num_cpus": _amount("num_cpus", 1),
    "num_returns": Option((int, str, _NONE), _returns),
    "object_store_memory": Option(None, lambda v: "object_store_memory is not an option of tasks" if v is not None else None),
    "retry_exceptions": Option((bool, list, tuple), _retry, False),
    "_generator_backpressure_num_objects": _BACKPRESSURE,
}
ACTOR = {
    **_COMMON,
    "concurrency_groups": Option((list, dict, _NONE)),
    "lifetime": Option((str, _NONE), lambda v: None if v in (None, "detached", "non_detached") else f"lifetime must be None, 'detached' or 'non_detached', not {v!r}"),
    "max_concurrency": _count("max_concurrency", False),
    "max_restarts": _count("max_restarts", True, 0),
    "max_task_retries": _count("max_task_retries", True, 0),
    "max_pending_calls": _count("max_pending_calls", True, -1),
    "namespace": Option((str, _NONE)),
    "get_if_exists": Option(bool, default=False),
    "allow_out_of_order_execution": Option((bool, _NONE)),
}
METHOD = {
    "num_returns": TASK["num_returns"],
    "max_task_retries": _count("max_task_retries", True),
    "retry_exceptions": Option((bool, list, tuple, _NONE), lambda v: None if v is None else _retry(v)),
    "concurrency_group": Option((str, _NONE)),
    "name": Option((str, _NONE)),
    "enable_task_events": Option(bool, default=True),
    "tensor_transport": Option((str, _NONE), _transport),
    "_generator_backpressure_num_objects": _BACKPRESSURE,
}


def check(what: str, known: Dict[str, Option], given: Dict[str, Any], before: Optional[Dict[str, Any]] = None) -> None:
    """Raises ValueError or TypeError for an option that is unknown or wrong.

    what: "remote functions", "actors" or "actor methods". before: what given is put over by .options().
    """
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{name} is no option of {what}; the valid ones are {list(known)}")
        known[name].validate(name, value)
    for name in () if before is None else ("max_calls", "concurrency_groups"):
        if name in given:
            raise ValueError(f"{name} can't be given in .options(): give it to the decorator")
    given = {**(before or {}), **given}
    if given.get("get_if_exists") and not given.get("name"):
        raise ValueError("get_if_exists needs the actor's name")
    if given.get("placement_group", "default") not in ("default", None) and given.get("scheduling_strategy") is not None:
        raise ValueError("give the placement group by scheduling_strategy alone; the option placement_group is the old way")


def check_returns(num_returns: Any, is_generator: bool, name: str) -> None:
    """Streams need a generator."""
    if num_returns in ("streaming", "dynamic") and not is_generator:
        raise ValueError(f"num_returns={num_returns!r} needs a generator function, and {name} is none")


def returns_of(num_returns: Any, is_generator: bool, backpressure: Optional[int]) -> int:
    """The field `returns` of Submit and Call."""
    if num_returns is None:
        num_returns = "streaming" if is_generator else 1
    if num_returns == "streaming":
        return wire.STREAM | (wire.UNBOUNDED if backpressure is not None and backpressure < 0 else min(backpressure or 0, wire.UNBOUNDED))
    return wire.DYNAMIC if num_returns == "dynamic" else int(num_returns)


def resources_of(options: Dict[str, Any], cpus: Optional[float]) -> Dict[str, int]:
    """Amounts by name, in ten-thousandths. cpus: without num_cpus; None: it is left out."""
    amounts: Dict[str, float] = dict(options.get("resources") or {})
    if options.get("num_cpus") is not None:
        cpus = options["num_cpus"]
    for name, value in (("CPU", cpus), ("GPU", options.get("num_gpus")), ("memory", options.get("memory"))):
        if value is not None:
            amounts[name] = value
    if options.get("accelerator_type"):
        amounts["accelerator_type:" + options["accelerator_type"]] = 0.001
    return {name: int(round(value * UNIT)) for name, value in sorted(amounts.items())}


def shape_of(options: Dict[str, Any], cpus: Optional[float], env: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """The fields of a Shape for checked options. env: the runtime_env, settled."""
    from maniple.util.scheduling_strategies import strategy_fields

    resources = resources_of(options, cpus)
    shape: Dict[str, Any] = {
        "resources": [{"name": name, "amount": amount} for name, amount in resources.items()],
        "retries": _or(options.get("max_retries"), _or(options.get("max_task_retries"), 0)),
        "retry_exceptions": bool(options.get("retry_exceptions")),
        "max_calls": options.get("max_calls") or (1 if options.get("num_gpus") and "max_retries" in options else 0),
        "bundle": -1,
        "name": options.get("name") or "",
    }
    if env:
        shape["environment"] = json.dumps(env, sort_keys=True)
    strategy = options.get("scheduling_strategy")
    group = options.get("placement_group", "default")
    if strategy is None and group != "default":  # None: outside of the group that captured the parent's children
        from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(group, options.get("placement_group_bundle_index", -1), options.get("placement_group_capture_child_tasks"))
    shape.update(strategy_fields(strategy, options.get("label_selector"), [choice["label_selector"] for choice in options.get("fallback_strategy") or ()], {name: amount / UNIT for name, amount in resources.items() if amount}))
    return shape


def environment_of(base: Optional[Dict[str, Any]], own: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """A runtime_env over the one it comes after: env_vars are merged, all else is replaced; what is to be installed, or run in, all together."""
    merged = {**_requirements.over(base or {}, own or {}), **(own or {})}
    env_vars = {**((base or {}).get("env_vars") or {}), **((own or {}).get("env_vars") or {})}
    if env_vars:
        merged["env_vars"] = env_vars
    return merged


def _or(value: Optional[int], default: int) -> int:
    return default if value is None else value


