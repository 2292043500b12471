"""The last runs of tasks and calls on all nodes, for chrome://tracing and ui.perfetto.dev."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

from maniple._core import wire
from maniple.util import state

_PATIENCE = 30.0  # seconds that nodes have to answer
_COLORS = {"task:deserialize_arguments": "rail_load", "task:execute": "rail_animation", "task:store_outputs": "rail_idle"}  # of Chrome's own


def timeline(filename: Optional[str] = None) -> Optional[List[Dict[str, Any]]]:
    """How tasks and calls went, as events of Chrome's tracing format: a list, or a file of that name, which chrome://tracing and ui.perfetto.dev open.

    Each is told with its node (a process there), its worker (a thread) and its phases: reading arguments, running, storing what it gave. All that ended
    is told of, by each node the last 65,536. Nodes that do not answer within 30 s are left out.
    """
    events = trace([run for run in state.everywhere("timeline", _PATIENCE, False) if run["name"] != state.ASKS])
    if filename is None:
        return events
    with open(filename, "w") as f:
        f.write(json.dumps(events))  # several times faster than dump
    return None


def trace(runs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The events of runs, as docs/spec/state.md has them."""
    events: List[Dict[str, Any]] = []
    nodes: Dict[str, int] = {}
    lanes: Dict[Tuple[str, int], List[List[int]]] = {}  # of a worker, which may run several at a time: number and end of each
    threads = 0
    for run in sorted(runs, key=lambda run: run["began"]):  # type: ignore[no-any-return]
        node, process = run["node_id"], run["process"]
        if node not in nodes:
            nodes[node] = len(nodes) + 1
            events.append({"ph": "M", "name": "process_name", "pid": nodes[node], "args": {"name": f"Node {node}"}})
        own = lanes.setdefault((node, process), [])
        lane = next((lane for lane in own if lane[1] <= run["began"] + _SLACK), None)
        if lane is None:
            threads += 1
            lane = [threads, 0]
            own.append(lane)
            name = f"worker:{process} (pid {run['pid']})" + (f" #{len(own)}" if len(own) > 1 else "")
            events.append({"ph": "M", "name": "thread_name", "pid": nodes[node], "tid": lane[0], "args": {"name": name}})
        events += _events(run, {"pid": nodes[node], "tid": lane[0]}, lane[1])
        lane[1] = max(lane[1], run["began"] + run["took"])
    return events


_SLACK = 2000  # ns by which clocks may differ that are read one after the other


def _events(run: Dict[str, Any], where: Dict[str, int], after: int) -> List[Dict[str, Any]]:
    """A run and its phases. after: when the one before it in its place had ended."""
    began, over = max(run["began"], after), run["began"] + run["took"]
    name = f"{run['class'].rpartition('.')[2]}.{run['name']}" if run.get("class") else run["name"].rpartition(".")[2]
    args = {"task_id": _hex(run["id"]), "job_id": str(run["job"]), "attempt_number": run.get("attempt") or 0, "state": run["state"], "name": name}
    args["func_or_class_name"] = run.get("class") or run["name"]
    if run.get("actor"):
        args["actor_id"] = _hex(run["actor"])

    def event(cat: str, called: str, start: int, end: int) -> Dict[str, Any]:
        start, end = max(start, began), max(end, began)
        made = {"ph": "X", "cat": cat, "name": called, "ts": start / 1000, "dur": max(end - start, 0) / 1000, **where, "args": args}
        return {**made, "cname": _COLORS[cat]} if cat in _COLORS else made

    read, ran = run["began"] + run["read"], run["began"] + run["ran"]
    events = [event(f"task::{name}", name, began, over)]
    if run["read"]:
        events.append(event("task:deserialize_arguments", "task:deserialize_arguments", began, read))
    events.append(event("task:execute", "task:execute", read, ran))
    if run["state"] != "died":
        events.append(event("task:store_outputs", "task:store_outputs", ran, over))
    return events


def _hex(task: str) -> str:
    return wire.task_of_text(task).hex()
