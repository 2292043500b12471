"""What there is: tasks, actors, objects, workers, nodes and placement groups, as dicts.

Fields are those of docs/spec/state.md, and `node_id` says whose agent tells of it. Of tasks, actors, objects and workers every node knows its own: all are
asked, each by a task there that needs no CPU, and one that does not answer in time is named in an error, or left out.
"""

from __future__ import annotations

import operator
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from maniple import _api, exceptions
from maniple._core import session as _session
from maniple._core import wire
from maniple._core.references import key_index
from maniple.remote_function import RemoteFunction

Filter = Tuple[str, str, Any]
_PREDICATES: Dict[str, Callable[[Any, Any], bool]] = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ASKS = "maniple.util.state"  # the name of tasks that ask, which are not told of


def list_tasks(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, raise_on_missing_output: bool = True, **other: Any) -> List[Dict[str, Any]]:
    """Tasks that have not ended.

    filters: (field, "=" or another comparison, value), all of which have to hold. limit: how many at most. timeout: seconds that nodes have to answer.
    raise_on_missing_output: GetTimeoutError if one does not (default), else the others' are given.
    """
    tasks: Dict[str, Dict[str, Any]] = {}
    for task in everywhere("tasks", timeout, raise_on_missing_output):
        task["name"] = task["name"].rpartition(" (")[0] or task["name"]  # behind it is the ID
        if task["name"] != ASKS and (task["id"] not in tasks or not task.get("node")):  # who has sent one away knows less of it
            tasks[task["id"]] = task
    return _chosen(list(tasks.values()), filters, limit, other)


def list_actors(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, raise_on_missing_output: bool = True, **other: Any) -> List[Dict[str, Any]]:
    """Actors, also dead ones that somebody has a handle of; each at the node of who made it. The arguments are those of list_tasks."""
    return _chosen(everywhere("actors", timeout, raise_on_missing_output), filters, limit, other)


def list_objects(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, raise_on_missing_output: bool = True, **other: Any) -> List[Dict[str, Any]]:
    """Objects, once for each process that holds a reference. The arguments are those of list_tasks."""
    return _chosen(everywhere("objects", timeout, raise_on_missing_output), filters, limit, other)


def list_workers(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, raise_on_missing_output: bool = True, **other: Any) -> List[Dict[str, Any]]:
    """Processes that run tasks or actors. The arguments are those of list_tasks."""
    return _chosen(everywhere("workers", timeout, raise_on_missing_output), filters, limit, other)


def list_nodes(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, **other: Any) -> List[Dict[str, Any]]:
    """Nodes, dead ones too. The arguments are those of list_tasks."""
    told = [{**n, "node_id": n.get("name")} for n in _session.current().query("nodes", timeout=timeout).get("nodes") or []]
    return _chosen(told, filters, limit, other)


def list_placement_groups(filters: Optional[Sequence[Filter]] = None, limit: int = 100, timeout: float = 30, **other: Any) -> List[Dict[str, Any]]:
    """Placement groups and gangs, the last thousand that ended too. The arguments are those of list_tasks."""
    return _chosen(_session.current().query("groups", timeout=timeout).get("groups") or [], filters, limit, other)


def get_task(id: str, timeout: float = 30) -> Optional[Dict[str, Any]]:
    """The task of this ID, as here or as get_task_id() has it; None if it has ended, or never was."""
    return _one(list_tasks, id, timeout)


def get_actor(id: str, timeout: float = 30) -> Optional[Dict[str, Any]]:
    """The actor of this ID, as here or as get_actor_id() has it; None if there is none."""
    return _one(list_actors, id, timeout)


def get_objects(id: str, timeout: float = 30) -> List[Dict[str, Any]]:
    """Who holds the object of this ID, as here or as ref.hex()."""
    return list_objects([("id", "=", _spelled(id))], 1 << 60, timeout)


def get_node(id: str, timeout: float = 30) -> Optional[Dict[str, Any]]:
    """The node of this name; None if there is none."""
    found = list_nodes([("name", "=", id)], 1, timeout)
    return found[0] if found else None


def get_placement_group(id: str, timeout: float = 30) -> Optional[Dict[str, Any]]:
    """The placement group of this ID; None if it is forgotten, or never was."""
    return _one(list_placement_groups, id, timeout)


def _one(of: Callable[..., List[Dict[str, Any]]], id: str, timeout: float) -> Optional[Dict[str, Any]]:
    found = of([("id", "=", _spelled(id))], 1, timeout)
    return found[0] if found else None


def _spelled(id: str) -> str:
    """An ID as agents spell it."""
    try:
        key = bytes.fromhex(id)
    except ValueError:
        return id
    if len(key) == wire.TASK_SIZE:
        return wire.task_text(key)
    return f"{wire.task_text(key[: wire.TASK_SIZE])}[{key_index(key)}]" if len(key) == wire.KEY_SIZE else id


def summarize_tasks(timeout: float = 30, raise_on_missing_output: bool = True) -> Dict[str, Dict[str, int]]:
    """How many tasks of each name are in each state."""
    return _counted(list_tasks(None, 1 << 60, timeout, raise_on_missing_output), "name")


def summarize_actors(timeout: float = 30, raise_on_missing_output: bool = True) -> Dict[str, Dict[str, int]]:
    """How many actors of each class are in each state."""
    return _counted(list_actors(None, 1 << 60, timeout, raise_on_missing_output), "class")


def summarize_objects(timeout: float = 30, raise_on_missing_output: bool = True) -> Dict[str, Dict[str, Union[int, float]]]:
    """How many objects there are on each node, and their bytes."""
    found: Dict[str, Dict[str, Union[int, float]]] = {}
    seen = set()
    for o in list_objects(None, 1 << 60, timeout, raise_on_missing_output):
        if (o["node_id"], o["id"]) not in seen:
            seen.add((o["node_id"], o["id"]))
            of = found.setdefault(o["node_id"], {"objects": 0, "bytes": 0})
            of["objects"] += 1
            of["bytes"] += o.get("size") or 0
    return found


def _counted(told: List[Dict[str, Any]], by: str) -> Dict[str, Dict[str, int]]:
    found: Dict[str, Dict[str, int]] = {}
    for item in told:
        states = found.setdefault(item.get(by) or "", {})
        states[item["state"]] = states.get(item["state"], 0) + 1
    return found


def _chosen(told: List[Dict[str, Any]], filters: Optional[Sequence[Filter]], limit: int, other: Dict[str, Any]) -> List[Dict[str, Any]]:
    unknown = set(other) - {"detail", "address", "_explain"}  # Ray's, that mean nothing here
    if unknown:
        raise TypeError(f"there is no argument {', '.join(sorted(unknown))}")
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    for given in filters or ():
        if not isinstance(given, (list, tuple)) or len(given) != 3 or given[1] not in _PREDICATES:
            raise ValueError(f"a filter is (field, one of {' '.join(_PREDICATES)}, value), not {given!r}")
    return [item for item in told if all(_holds(item, *given) for given in filters or ())][:limit]


def _holds(item: Dict[str, Any], field: str, predicate: str, value: Any) -> bool:
    """A text stands for itself whatever its case, and for what it spells: command lines give texts. What is absent is empty."""
    have = item.get(field)
    if isinstance(value, str) and not isinstance(have, str):
        have = "" if have is None else str(have)
    if isinstance(value, str):
        have, value = have.lower(), value.lower()
    try:
        return _PREDICATES[predicate](have, value)
    except TypeError:  # they do not compare
        return False


def _told(what: str, timeout: float) -> List[Dict[str, Any]]:
    """What this process's agent has."""
    session, reply = _session.current(), {"more": True}  # type: Any, Dict[str, Any]
    told: List[Dict[str, Any]] = []
    while reply.get("more"):  # by pages
        reply = session.query(what, str(reply.get("next") or ""), timeout=timeout)
        told += [{**item, "node_id": item.get("node") or session.node} for item in reply.get(what) or []]
    return told


def everywhere(what: str, timeout: float, strict: bool) -> List[Dict[str, Any]]:
    """What all nodes' agents have, but for those that are being drained, which take no question. strict: GetTimeoutError if one does not answer in time,
    else it is left out."""
    from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

    session = _session.current()
    told = _told(what, timeout)
    others = [n["name"] for n in session.query("nodes", timeout=timeout).get("nodes") or [] if n.get("state") not in ("dead", "draining") and n.get("name") != session.node]
    asks = RemoteFunction(_told, {"num_cpus": 0, "max_retries": 0, "name": ASKS})
    refs = {asks.options(scheduling_strategy=At(name, False)).remote(what, timeout): name for name in others}
    ready, late = _api.wait(list(refs), num_returns=len(refs), timeout=timeout) if refs else ([], [])
    silent = {refs[ref]: f"it did not answer within {timeout} s" for ref in late}
    for ref in ready:
        try:
            told += _api.get(ref)
        except exceptions.ManipleError as e:
            silent[refs[ref]] = str(e)
    for ref in late:
        _api.cancel(ref)
    if silent and strict:
        raise exceptions.GetTimeoutError("; ".join(f"node {name}: {why}" for name, why in sorted(silent.items())) + "; raise_on_missing_output=False gives what the others say")
    return told
