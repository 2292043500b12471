"""Where this code runs: job, node, task, actor, worker."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from maniple._core import session as _session
from maniple._core.context import running

_MASKS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class RuntimeContext:
    """Facts about the code that asks. IDs are texts."""

    def get_job_id(self) -> str:
        """Number of the driver's job."""
        task = running.get()
        return str(task.job if task else _session.current().job)

    def get_node_id(self) -> str:
        """The node, as NodeID in maniple.nodes()."""
        return _session.current().node

    def get_worker_id(self) -> str:
        """This process, AGENT.PROCESS."""
        session = _session.current()
        return f"{session.agent}.{session.process}"

    def get_task_id(self) -> Optional[str]:
        """The task that runs here, hexadecimal; None in a driver."""
        task = running.get()
        return task.task.hex() if task else None

    def get_task_name(self) -> Optional[str]:
        """The name that the task was given, else that of the function or method; None in a driver."""
        task = running.get()
        if task is None:
            return None
        given = (task.shape or {}).get("name")
        return given or (task.name.rpartition(".")[2] if task.actor is None else task.name)

    def get_task_function_name(self) -> Optional[str]:
        """The function or method that runs here, with its module; None in a driver."""
        task = running.get()
        return task.name if task else None

    def is_canceled(self) -> bool:
        """The task or call that this is was cancelled: for those that nothing interrupts, such as calls of an actor with threads.

        Raises RuntimeError in a driver, and in an async actor, whose calls are cancelled as any coroutine.
        """
        session, task = _session.current(), running.get()
        jobs = getattr(session, "jobs", None)
        if jobs is None:
            raise RuntimeError("is_canceled() is for tasks and actors: this is a driver")
        if task is not None and not task.blocks:
            raise RuntimeError("is_canceled() is not for async actors: a call that is cancelled gets asyncio.CancelledError where it awaits")
        job = session.guarded if task is None else jobs.get(task.task)  # in a thread that the code has started: the code of the main thread
        return job is not None and bool(job.cancelled)

    def get_actor_id(self) -> Optional[str]:
        """The actor that this is part of, hexadecimal; None outside of one."""
        task = running.get()
        return task.actor.hex() if task and task.actor else None

    def get_actor_name(self) -> Optional[str]:
        """The name that the actor was given, "" without one; None outside of one."""
        from maniple import _execute

        return _execute.actor_facts.get("name", "") if self.get_actor_id() else None

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """This actor was restarted. Raises RuntimeError outside of one."""
        from maniple import _execute

        if self.get_actor_id() is None:
            raise RuntimeError("was_current_actor_reconstructed is only for actors")
        return bool(_execute.actor_facts.get("life", 0) > 1)

    @property
    def current_actor(self) -> Any:
        """A handle to this actor. Raises RuntimeError outside of one."""
        from maniple import _execute

        if self.get_actor_id() is None:
            raise RuntimeError("current_actor is only for actors")
        return _execute.own_handle(_session.current())

    @property
    def namespace(self) -> str:
        """Where this job's named actors are."""
        return _session.current().namespace

    @property
    def gcs_address(self) -> str:
        """The agent's socket."""
        return _session.current().path

    def get_placement_group_id(self) -> Optional[str]:
        """The group that this task runs in, AGENT.PROCESS.COUNTER; None outside of any."""
        from maniple.util.placement_group import get_current_placement_group

        group = get_current_placement_group()
        return group.id if group else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """What this task starts runs in its placement group, too."""
        return bool((shape() or {}).get("capture"))

    def get_session_name(self) -> str:
        """The cluster."""
        return _session.current().cluster

    def get_assigned_resources(self) -> Dict[str, float]:
        """Resources that this task or actor holds, by name; empty in a driver."""
        return {r["name"]: r["amount"] / 10_000 for r in (shape() or {}).get("resources") or []}

    def get_node_labels(self) -> Dict[str, str]:
        """Labels of this node, by which a label_selector finds it."""
        from maniple._api import nodes

        me = self.get_node_id()
        return next((n["Labels"] for n in nodes() if n["NodeID"] == me), {})

    def get_accelerator_ids(self) -> Dict[str, List[str]]:
        """Devices that this process may use: {"GPU": [...]}."""
        return {"GPU": gpu_ids()}

    @property
    def runtime_env(self) -> Dict[str, Any]:
        """The runtime_env of this task or actor; in a driver that of its job."""
        return dict(_session.current().runtime_env or {})

    def get_runtime_env_string(self) -> str:
        import json

        return json.dumps(self.runtime_env, sort_keys=True)

    def get(self) -> Dict[str, Any]:
        """The most of it in a dict."""
        facts = {"job_id": self.get_job_id(), "node_id": self.get_node_id(), "worker_id": self.get_worker_id(), "task_id": self.get_task_id(), "actor_id": self.get_actor_id(), "namespace": self.namespace}
        return {k: v for k, v in facts.items() if v is not None}


def shape() -> Optional[Dict[str, Any]]:
    """What the task that runs here, or the actor that it is a call of, was asked for with; None in a driver."""
    from maniple import _execute

    task = running.get()
    return None if task is None else _execute.actor_facts.get("shape") if task.actor else task.shape


def gpu_ids() -> List[str]:
    """What this process's mask of GPUs names."""
    for name in _MASKS:
        if name in os.environ:
            return [part for part in os.environ[name].split(",") if part]
    return []


def get_runtime_context() -> RuntimeContext:
    """Where this code runs."""
    return RuntimeContext()
