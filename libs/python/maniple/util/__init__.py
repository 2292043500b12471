"""What programs often need around tasks and actors: groups, strategies, a pool, a queue. Loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any, List

_PLACES = {
    "ActorPool": "actor_pool",
    "Queue": "queue",
    "placement_group": "placement_group",
    "PlacementGroup": "placement_group",
    "get_placement_group": "placement_group",
    "remove_placement_group": "placement_group",
    "placement_group_table": "placement_group",
    "get_current_placement_group": "placement_group",
    "get_node_ip_address": "addresses",
    "list_named_actors": "named_actors",
    "inspect_serializability": "serializers",
    "register_serializer": "serializers",
    "deregister_serializer": "serializers",
    "as_completed": "unordered",
    "map_unordered": "unordered",
    "log_once": "debug",
    "disable_log_once_globally": "debug",
    "enable_periodic_logging": "debug",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        module = import_module("maniple.util." + _PLACES[name])
        value = getattr(module, name)
    elif name in ("accelerators", "actor_pool", "debug", "queue", "scheduling_strategies", "state"):
        value = import_module("maniple.util." + name)
    else:
        raise AttributeError(f"module 'maniple.util' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_PLACES})
