"""Which named actors there are."""

from __future__ import annotations

from typing import Any, List

from maniple._core import session as _session


def list_named_actors(all_namespaces: bool = False) -> List[Any]:
    """Names of this namespace's actors, on all nodes; with all_namespaces (default no) dicts of name and namespace."""
    session = _session.current()
    named = [{"name": n["name"], "namespace": n.get("namespace") or ""} for n in session.query("names").get("names") or []]
    return named if all_namespaces else [a["name"] for a in named if a["namespace"] == session.namespace]
