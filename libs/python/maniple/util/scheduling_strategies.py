"""Where a task or an actor may run: values of the option scheduling_strategy."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Union

NAMES = ("DEFAULT", "SPREAD")


class PlacementGroupSchedulingStrategy:
    """On a bundle of a group.

    placement_group: the group; None: outside of any, though the parent captures its children.
    placement_group_bundle_index: -1 (default): any bundle with room.
    placement_group_capture_child_tasks: what the task starts goes into the group too (default: no).
    """

    def __init__(self, placement_group: Any, placement_group_bundle_index: int = -1, placement_group_capture_child_tasks: Optional[bool] = None):
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy:
    """On one node. node_id: as in maniple.nodes(). soft: elsewhere if it is gone or can't; else that is an error."""

    def __init__(self, node_id: str, soft: bool, _spill_on_unavailable: bool = False, _fail_on_unavailable: bool = False):
        if not isinstance(node_id, str):
            raise TypeError(f"node_id must be the NodeID of a node in maniple.nodes(), not {type(node_id).__name__}")
        self.node_id, self.soft = node_id, soft
        self._spill_on_unavailable, self._fail_on_unavailable = _spill_on_unavailable, _fail_on_unavailable


class In:
    """The label has one of these values."""

    def __init__(self, *values: str):
        self.values = list(values)

    def __str__(self) -> str:
        return f"in({','.join(self.values)})"


class NotIn(In):
    """The label has none of these values."""

    def __str__(self) -> str:
        return f"!in({','.join(self.values)})"


class Exists:
    """The node has the label."""

    def __str__(self) -> str:
        return "exists()"


class DoesNotExist:
    """The node does not have the label."""

    def __str__(self) -> str:
        return "!exists()"


Match = Union[In, NotIn, Exists, DoesNotExist]


class NodeLabelSchedulingStrategy:
    """On nodes with these labels. hard: all must hold. soft: preferred."""

    def __init__(self, hard: Optional[Dict[str, Match]], *, soft: Optional[Dict[str, Match]] = None):
        if not hard and not soft:
            raise ValueError("NodeLabelSchedulingStrategy needs hard or soft labels")
        for labels in (hard or {}, soft or {}):
            if not isinstance(labels, dict) or not all(isinstance(k, str) and isinstance(v, (In, Exists, DoesNotExist)) for k, v in labels.items()):
                raise ValueError("labels are a dict from a label's name to In, NotIn, Exists or DoesNotExist")
        self.hard, self.soft = hard or {}, soft or {}


KINDS = (PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy)
_SELECTOR = re.compile(r"!?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|!?in\([^()]+\)|!?exists\(\)|")


def check_selector(selector: Dict[str, str]) -> Optional[str]:
    """What is wrong with a label_selector: a dict of label to x, !x, in(a,b), !in(a,b), exists() or !exists()."""
    for key, value in selector.items():
        if not isinstance(key, str) or not isinstance(value, str):
            return f"label_selector maps labels to texts: {key!r}: {value!r}"
        if not _SELECTOR.fullmatch(value.replace(" ", "")):
            return f"label_selector {key}: {value!r} is not x, !x, in(a,b) or !in(a,b)"
    return None


def _check_room(group: Any, index: int, resources: Dict[str, float]) -> None:
    """Raises ValueError if no bundle that is meant can ever hold the resources. Of a group that was found by name they are not known."""
    bundles = group.bundle_specs if index < 0 else [group.bundle_specs[index]]
    if all(bundles) and not any(all(bundle.get(name, 0) >= amount for name, amount in resources.items() if not name.startswith("accelerator_type:")) for bundle in bundles):
        which = f"bundle {index} of the placement group" if index >= 0 else "any bundle of the placement group"
        raise ValueError(f"{resources} does not fit into {which}: {', '.join(str(b) for b in bundles)}")


def strategy_fields(strategy: Any, selector: Optional[Dict[str, str]], fallbacks: List[Dict[str, str]], resources: Dict[str, float]) -> Dict[str, Any]:
    """The fields of a Shape that say where. A label that is only preferred has a ? before its name. fallbacks: selectors that come after
    the first, in their order. resources: what is asked for."""
    labels: List[Dict[str, str]] = []
    fields: Dict[str, Any] = {}
    if isinstance(strategy, str):
        fields["strategy"] = "" if strategy == "DEFAULT" else strategy.lower()
    elif isinstance(strategy, NodeAffinitySchedulingStrategy):
        fields.update(node=strategy.node_id, soft=bool(strategy.soft))
    elif isinstance(strategy, NodeLabelSchedulingStrategy):
        labels += [{"key": k, "value": str(v)} for k, v in sorted(strategy.hard.items())]
        labels += [{"key": "?" + k, "value": str(v)} for k, v in sorted(strategy.soft.items())]
    elif isinstance(strategy, PlacementGroupSchedulingStrategy):
        group = strategy.placement_group
        if group is None:
            fields["strategy"] = "outside"  # of the group that captured the parent's children
        else:
            index = strategy.placement_group_bundle_index
            if not -1 <= index < group.bundle_count:
                raise ValueError(f"placement group bundle index {index} is not there: the group has {group.bundle_count} bundles, -1 means any")
            _check_room(group, index, resources)
            fields.update(group=group.table_id(), bundle=index, capture=bool(strategy.placement_group_capture_child_tasks))
    first, *others = [[{"key": k, "value": v} for k, v in sorted(s.items())] + labels for s in (selector or {}, *fallbacks)]
    if first:
        fields["labels"] = first
    if others:
        fields["fallbacks"] = [{"labels": labels} for labels in others]
    return fields
