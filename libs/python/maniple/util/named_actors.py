"""Which named actors there are."""

from __future__ import annotations

from typing import Any, List

from maniple._core import session as _session


def list_named_actors(all_namespaces: bool = False) -> List[Any]:
    """Names of this namespace's actors; with all_namespaces (default no) dicts of name and namespace."""
    session = _session.current()
    actors = session.query("actors").get("actors") or []
    named = [{"name": a["name"], "namespace": a.get("namespace") or ""} for a in actors if a.get("name") and a.get("state") != "dead"]
    return named if all_namespaces else [a["name"] for a in named if a["namespace"] == session.namespace]
