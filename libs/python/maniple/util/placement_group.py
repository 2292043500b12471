"""Placement groups: bundles of resources that are reserved together, on all their nodes or on none."""

from __future__ import annotations

import sys
from functools import lru_cache
from itertools import zip_longest
from time import monotonic
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence, Tuple

from maniple import _options, exceptions
from maniple._core import session as _session
from maniple._core import frames, table, values, wire
from maniple._core.references import ObjectRef
from maniple.util.scheduling_strategies import check_selector

STRATEGIES = {name: getattr(frames, "STRATEGY_" + name) for name in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")}
_NODE = "ray.io/node-id"  # the label that each node has for its own name
_CREATED, _ENDED = frames.GROUP_PHASE_CREATED, frames.GROUP_PHASE_ENDED  # phases: from created on the bundles are there, ended is for good
_REMOVE = wire.Stamp("GroupCancel", {"mode": frames.CANCEL_MODE_STOP, "reason": "removed by its owner"}, "group")
_STATES = {"pending": "PENDING", "reserving": "PREPARED", "created": "CREATED", "ended": "REMOVED", "stopping": "REMOVED"}


class PlacementGroup:
    """A group of bundles. Made by placement_group(); may be sent to tasks and actors."""

    def __init__(self, id: str, bundles: Optional[Sequence[Dict[str, float]]]):  # None: asked for when they are looked at
        self.id, self._bundles = id, None if bundles is None else [dict(b) for b in bundles]
        self._asked: Optional[Tuple[_Items, ...]] = None  # by placement_group() here; as dicts when they are looked at
        self._watched: Optional[_Watch] = None
        self._home = _session.attached()  # the session that it is of; None: the first that is asked about it

    def _check(self) -> None:
        """Raises TaskPlacementGroupRemoved if the group is of a session that is over, or of another cluster: its ID may be another group's in the
        one that there is. A forked child may use those of its parent."""
        session, home = _session.attached(), self._home
        if session is None or home is None:
            self._home = home or session
        elif home is not session and (home.table.closed or home.cluster != session.cluster):
            raise exceptions.TaskPlacementGroupRemoved(
                f"placement group {self.id} is of another session, from before a shutdown, and of no use in this one: "
                "make the group again, or get it with get_placement_group() if it has a name and is still there"
            )

    def _ask(self, what: str) -> Dict[str, Any]:
        """The agent's answer to a question about the group."""
        session = _session.current()
        self._check()
        return session.query(what, self.id).get(what) or {}

    @property
    def bundle_specs(self) -> List[Dict[str, float]]:
        """What each bundle has."""
        if self._bundles is None and self._asked is not None:
            self._bundles = [dict(items) for items in self._asked]
        if self._bundles is None:
            self._bundles = [dict(b["resources"]) for b in self._ask("group").get("bundle_specs") or ()]
        return self._bundles

    @property
    def bundle_count(self) -> int:
        return len(self.bundle_specs)

    def table_id(self) -> Any:
        self._check()
        return wire.task_fields(wire.task_of_text(self.id))

    def ready(self) -> ObjectRef:
        """A reference whose value is this group, once all bundles are there; its error, if they never will be."""
        session = _session.current()
        key, watch = wire.key_of(session.mint(), 0), _watch(session, self)
        session.table.entries[key] = table.PENDING
        ref = session.held.made(key)

        def settle() -> None:
            entry = _entry(self, watch)
            with session.table.lock:
                if key in session.table.entries:
                    session.table.settle_locked(key, entry)

        def leave() -> None:  # the reference goes to another process, which does not wait for this one
            if watch.known() and watch.error() is None:
                session.put_promised(key, self)
            else:
                _same_on(self).fulfil(session, key, self)

        session.promises[key] = leave
        watch.when_known(settle)
        return ref

    def wait(self, timeout_seconds: Optional[float] = 30) -> bool:
        """Waits for the bundles. False after timeout_seconds (default 30; None: no end), or if it is removed."""
        watch = _watch(_session.current(), self)
        return watch.wait(timeout_seconds) and watch.error() is None

    def explain(self) -> str:
        """What the group waits for, in words."""
        return str(self._ask("explain").get("text") or "")

    @property
    def is_empty(self) -> bool:
        return not self.bundle_specs

    def __reduce__(self) -> Any:
        self._check()
        return PlacementGroup, (self.id, self._bundles if self._asked is None else self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        known = self._bundles if self._asked is None else self._asked
        return f"PlacementGroup({self.id})" if known is None else f"PlacementGroup({self.id}, {len(known)} bundles)"


class _Watch:
    """What this process was told of a group. Updates come on the reader thread."""

    def __init__(self, session: Any, group: str):
        self._session, self._group, self._last, self._known = session, group, {}, False  # type: ignore[var-annotated]
        self._gates: List[table.Gate] = []
        self._calls: List[Any] = []

    def update(self, name: str, fields: Dict[str, Any]) -> None:
        self._last = fields
        if (fields.get("phase") or 0) >= _CREATED:
            self._known = True
            calls, self._calls = self._calls, []
            for gate in list(self._gates):
                gate.open()
            for call in calls:
                call()
        if (fields.get("phase") or 0) >= _ENDED:
            self._session.watching.pop(wire.task_of_text(self._group), None)  # nothing comes after it

    def when_known(self, call: Any) -> None:
        self._calls.append(call)
        if self._known and call in self._calls:
            self._calls.remove(call)
            call()

    def known(self) -> bool:
        return self._known

    def wait(self, timeout: Optional[float]) -> bool:
        if self._known:
            return True
        deadline = None if timeout is None else monotonic() + timeout
        gate = self._session.table.gate()
        self._gates.append(gate)
        try:
            return self._wait(gate, deadline)
        finally:
            if gate in self._gates:
                self._gates.remove(gate)

    def _wait(self, gate: Any, deadline: Optional[float]) -> bool:
        while not self._known:
            self._session.connection.flush()
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            # A closed connection opens no gate of ours: look once in a while.
            self._session.pause(gate.wait, 0.2 if left is None else min(left, 0.2))
            if self._session.table.closed:
                raise self._session.table.closed
        return True

    def error(self) -> Optional[BaseException]:
        """Why the group is not there; None if it is."""
        if (self._last.get("phase") or 0) < _ENDED:
            return None
        end = self._last.get("end") or {}
        return exceptions.TaskPlacementGroupRemoved(f"placement group {self._group}: {end.get('reason') or end.get('cause') or 'it was removed'}")


def _watch(session: Any, group: PlacementGroup) -> _Watch:
    """The watch of a group, which is asked for if this process has not made the group."""
    watch = group._watched
    if watch is None or watch._session is not session:
        group._check()
        watch = _begin_watch(session, group)
        session.send(wire.table("GroupWatch", {"group": group.table_id()}))
    return watch


def _begin_watch(session: Any, group: PlacementGroup) -> _Watch:
    watch = group._watched = _Watch(session, group.id)
    session.watching.setdefault(wire.task_of_text(group.id), []).append(watch.update)
    return watch


def _same(group: PlacementGroup) -> PlacementGroup:
    """The task that ready() is where others wait for it: it runs on the group, once that is there, and fails as any does if it never will be."""
    return group


def _same_on(group: PlacementGroup) -> Any:
    from maniple.remote_function import RemoteFunction
    from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return RemoteFunction(_same, {"num_cpus": 0, "name": "ready"}).options(scheduling_strategy=PlacementGroupSchedulingStrategy(group))


def _entry(group: PlacementGroup, watch: _Watch) -> Any:
    encoded = values.encode(group)
    return watch.error() or table.Value(wire.NOT_TASK, encoded.format, (), encoded.payload)


def placement_group(
    bundles: List[Dict[str, float]], strategy: Optional[str] = None, name: str = "", lifetime: Optional[str] = None,
    _soft_target_node_id: Optional[str] = None, bundle_label_selector: Optional[List[Dict[str, str]]] = None,
    topology_strategy: Optional[Dict[str, str]] = None,
) -> PlacementGroup:  # fmt: skip
    """Asks for a group of bundles; gives it at once. Wait with .wait() or get(.ready()).

    bundles: resources of each. strategy: PACK (default: few nodes, if it can), SPREAD, STRICT_PACK (one node),
    STRICT_SPREAD (a node each). lifetime: None (default: ends with this driver) or "detached".
    bundle_label_selector: labels of each bundle's node. topology_strategy, in place of strategy: {label: "STRICT_PACK"} puts all
    bundles on nodes that have the same value of that label (a rack, say), and what "ray.io/node-id" has there is the strategy among them.
    Raises ValueError or TypeError for what can't be a group.
    """
    strategy, within = _topology(strategy, topology_strategy)
    asked = _check(bundles, strategy, lifetime, bundle_label_selector)
    session = _session.current()
    task = session.mint()
    group = PlacementGroup(wire.task_text(task), None)
    group._asked = asked
    _begin_watch(session, group)
    selectors = tuple(tuple(s.items()) for s in bundle_label_selector or ())
    session.send(_create(asked, selectors, strategy, name, lifetime, within)(task))
    return group


_Items = Tuple[Tuple[str, Any], ...]  # of a dict


@lru_cache(maxsize=256)
def _create(bundles: Tuple[_Items, ...], selectors: Tuple[_Items, ...], strategy: str, name: str, lifetime: Optional[str], within: str) -> wire.Stamp:
    tables: List[Dict[str, Any]] = []
    before: Any = None
    for bundle, selector in zip_longest(bundles, selectors):
        if before == (bundle, selector):  # said once
            tables[-1]["times"] = tables[-1].get("times", 1) + 1
            continue
        before = (bundle, selector)
        tables.append({"resources": [{"name": k, "amount": int(round(v * _options.UNIT))} for k, v in bundle if v]})
        if selector is not None:
            tables[-1]["labels"] = [{"key": k, "value": v} for k, v in selector]
    fields = {"name": name, "strategy": STRATEGIES[strategy], "bundles": tables, "detached": lifetime == "detached"}
    if within:
        fields["within"] = within
    return wire.Stamp("GroupCreate", fields, "group")


def _topology(strategy: Optional[str], topology: Any) -> Tuple[Any, str]:
    """The strategy among nodes, and the label whose value all of them share; empty: none."""
    if topology is None:
        return "PACK" if strategy is None else strategy, ""
    if strategy is not None:
        raise ValueError(f"give strategy or topology_strategy, not both: what is to hold among nodes is topology_strategy[{_NODE!r}]")
    if not isinstance(topology, dict) or not all(isinstance(label, str) and label for label in topology):
        raise ValueError(f"topology_strategy is a dict from a label's name to a strategy, not {topology!r}")
    for label, wanted in topology.items():
        if wanted not in STRATEGIES:
            raise ValueError(f"topology_strategy[{label!r}] must be one of {', '.join(STRATEGIES)}, not {wanted!r}")
        if label != _NODE and wanted != "STRICT_PACK":
            raise ValueError(f"topology_strategy[{label!r}] can only be STRICT_PACK, not {wanted}: other strategies are for {_NODE!r}")
    labels = [label for label in topology if label != _NODE]
    if len(labels) > 1:
        raise ValueError(f"topology_strategy takes one label beside {_NODE!r}, not {', '.join(labels)}")
    return topology.get(_NODE, "PACK"), labels[0] if labels else ""


def _check(bundles: Any, strategy: Any, lifetime: Any, selectors: Any) -> Tuple[_Items, ...]:
    """What each bundle has."""
    if not isinstance(bundles, list) or not bundles:
        raise ValueError("a placement group needs a list of at least one bundle")
    asked: List[_Items] = []
    before: Any = None
    for bundle in bundles:
        if asked and bundle is before:  # [bundle] * 64
            asked.append(asked[-1])
            continue
        before = bundle
        if not isinstance(bundle, dict) or not any(bundle.values()):
            raise ValueError(f"a bundle is a dict of resources with an amount above 0, not {bundle!r}")
        for resource, amount in bundle.items():
            problem = check_bundle_amount(resource, amount)
            if problem:
                raise ValueError(f"bundle {bundle}: {problem}")
        asked.append(tuple(bundle.items()))
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(f'lifetime must be None or "detached", not {lifetime!r}')
    if selectors is not None and (not isinstance(selectors, list) or len(selectors) != len(bundles)):
        raise ValueError("bundle_label_selector needs one dict for each bundle")
    for selector in selectors or ():
        problem = check_selector(selector) if isinstance(selector, dict) else f"{selector!r} is no dict"
        if problem:
            raise ValueError(f"bundle_label_selector: {problem}")
    return tuple(asked)


def check_bundle_amount(resource: Any, amount: Any) -> Optional[str]:
    if not isinstance(resource, str) or not resource or not isinstance(amount, (int, float)) or isinstance(amount, bool):
        return f"{resource!r}: {amount!r} is no resource and amount"
    return _options.check_amount(resource, amount)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Gives a group's resources back and kills what runs on them. May be called again."""
    session = _session.current()
    placement_group._check()
    session.send(_REMOVE(wire.task_of_text(placement_group.id)))


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of that name. Raises ValueError if there is none."""
    if not placement_group_name:
        raise ValueError("get_placement_group needs a name")
    for group in _session.current().query("groups").get("groups") or []:
        if group.get("name") == placement_group_name and group.get("phase") != "ended":
            return PlacementGroup(group["id"], None)
    raise ValueError(f"there is no placement group {placement_group_name!r}: it is not there yet, or was removed")


def get_current_placement_group() -> Optional[PlacementGroup]:
    """The group that this task or actor runs in, None outside of any."""
    from maniple.runtime_context import shape

    group = (shape() or {}).get("group")
    text = wire.task_text(wire.task_bytes(group))
    return None if text == "0.0.0" else PlacementGroup(text, None)


def placement_group_table(placement_group: Optional[PlacementGroup] = None) -> Dict[str, Any]:
    """Facts about a group, or about all groups by ID: `bundles` by index, what each has; `bundles_to_node_id`, the node that each is at."""
    if placement_group is not None:
        return _facts(placement_group._ask("group"))
    session = _session.current()
    ids = [g["id"] for g in session.query("groups").get("groups") or []]
    return {i: _facts(session.query("group", i).get("group") or {}) for i in ids}


def _facts(group: Dict[str, Any]) -> Dict[str, Any]:
    names = {"strictpack": "STRICT_PACK", "strictspread": "STRICT_SPREAD"}
    strategy, specs = group.get("strategy") or "", list(enumerate(group.get("bundle_specs") or ()))
    return {
        "placement_group_id": group.get("id"), "name": group.get("name") or "", "state": _STATES.get(group.get("phase") or "", "PENDING"),
        "strategy": names.get(strategy, strategy.upper()), "bundles": {i: b["resources"] for i, b in specs},
        "bundles_to_node_id": {i: b["node"] for i, b in specs if b.get("node")}, "nodes": group.get("nodes") or [], "why": group.get("why") or "",
    }  # fmt: skip


class _Callable(ModuleType):
    """`maniple.util.placement_group` is this module as well as the function in it, whichever was asked for first."""

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        return placement_group(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
