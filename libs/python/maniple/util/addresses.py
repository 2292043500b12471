"""Where this node is reached."""

from __future__ import annotations


def get_node_ip_address() -> str:
    """The address at which other nodes reach this one."""
    import maniple

    context = maniple.get_runtime_context()
    me = context.get_node_id()
    return next((node["NodeManagerAddress"] for node in maniple.nodes() if node["NodeID"] == me), "127.0.0.1")
