"""An operator for Airflow: a task that submits to Slurm or YARN, and waits for the end.

    from maniple.airflow import ManipleSubmitOperator

    train = ManipleSubmitOperator(
        task_id="train", on="yarn", flags=["-N", "4", "--gpus-per-node", "1", "--queue", "research"],
        command=["python", "train.py", "--day", "{{ ds }}"], cwd="/srv/training",
    )

With ``deferrable=True`` the task waits in Airflow's triggerer, and has no worker's slot meanwhile. Needs Airflow, which no other part of the package does (docs/guide/orchestrators.md).
"""

from __future__ import annotations

import asyncio

from airflow.configuration import conf
from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.models import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from ._submission import Watch, prepare, show, verdict

__all__ = ["ManipleSubmitOperator", "ManipleTrigger"]

POLL = 30.0  # seconds between two questions about a job


class ManipleSubmitOperator(BaseOperator):
    """Submits ``command`` by ``maniple submit``, writes its output to the task's log, and ends as it does. Its XCom is the job's ID, which is there under ``job_id`` as soon as the job is.

    command: the program and its arguments (list of str, or one text, split as a shell does).
    on: "slurm" or "yarn"; by default what the configuration says.
    flags: of ``maniple submit`` (list of str, or one text).
    env: variables for the submission, besides the worker's (dict of str); the program has those that ``--export`` names.
    cwd: the folder in which it is submitted, where the program's files are (str).
    skip_on_exit_code, fail_on_exit_code: codes of the program (int, or several) that skip the task, and that fail it without a retry.
    binary: the program ``maniple`` (str); by default this installation's.
    deferrable: the task gives its worker's slot back while its job waits and runs, and its output comes when it is over (bool); by default what Airflow's ``operators.default_deferrable`` says.
    poll_interval: seconds between two questions about a job that is waited for so (float).

    Any other code but 0 fails the task, which Airflow tries again by its ``retries``; so does what may pass, such as no answer of the scheduler. A submission that is refused, or asks for what
    the cluster does not have, fails without a retry. When the task is killed, cleared or times out the job is cancelled.
    """

    template_fields = ("command", "flags", "on", "env", "cwd")
    ui_color = "#e8f0e4"

    def __init__(self, *, command, on=None, flags=(), env=None, cwd=None, skip_on_exit_code=(), fail_on_exit_code=(), binary=None, deferrable=None, poll_interval=POLL, **kwargs):
        super().__init__(**kwargs)
        self.command = command
        self.on = on
        self.flags = flags
        self.env = env
        self.cwd = cwd
        self.skip_on_exit_code = _codes(skip_on_exit_code)
        self.fail_on_exit_code = _codes(fail_on_exit_code)
        self.binary = binary
        self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self._submission = None

    def execute(self, context):
        """Submits, and waits or has a trigger do that; Airflow calls it."""
        self._submission = prepare(self.command, self.log.info, self.on, self.flags, self.env, self.cwd, self.binary, follow=not self.deferrable)
        try:
            code = self._submission.run(lambda job_id: context["ti"].xcom_push(key="job_id", value=job_id))
        except BaseException:  # a timeout, or a database that does not take the XCom: nobody would wait for the job
            self.on_kill()
            raise
        job_id, cluster = self._submission.job_id, self._submission.cluster
        self._submission = None
        if self.deferrable and job_id is not None:
            trigger = ManipleTrigger(job_id=job_id, cluster=cluster, env=self.env, binary=self.binary, poll_interval=self.poll_interval)
            self.defer(trigger=trigger, method_name="execute_complete", timeout=self.execution_timeout)
        return self._over(job_id, code, "")

    def execute_complete(self, context, event):
        """Ends as the job did, of which a trigger tells; Airflow calls it."""
        job_id = event["job_id"]
        if "error" in event:
            raise AirflowFailException(f"{job_id} can't be watched, and may go on: {event['error']}")
        show(job_id, self.log.info, event.get("output"), self.env, self.binary)
        if event["code"] is None:
            raise AirflowException(f"{job_id} is over, and nobody says any more how it ended: {event['reason']}")
        return self._over(job_id, event["code"], f" ({event['reason']})")

    def _over(self, job_id, code, more):
        what = f"{job_id or 'the submission'} ended with exit code {code}{more}"
        outcome = verdict(code, job_id is not None, self.skip_on_exit_code, self.fail_on_exit_code)
        if outcome == "skip":
            raise AirflowSkipException(what)
        if outcome == "fail":
            raise AirflowFailException(what)
        if outcome == "retry":
            raise AirflowException(what)
        return job_id

    def on_kill(self):
        """Cancels the job; Airflow calls it when the task is killed."""
        submission, self._submission = self._submission, None
        if submission is not None:
            submission.cancel()


class ManipleTrigger(BaseTrigger):
    """Waits for the end of a job that was submitted, in Airflow's triggerer, where many share one process: it asks, and sleeps.

    Its event is what ``execute_complete`` takes. When its task is not waited for any more, since it was killed, cleared or timed out, the job is cancelled; a triggerer that merely ends cancels nothing.
    """

    def __init__(self, job_id, cluster=None, env=None, binary=None, poll_interval=POLL):
        super().__init__()
        self.job_id = job_id
        self.cluster = cluster
        self.env = env
        self.binary = binary
        self.poll_interval = poll_interval

    def serialize(self):
        """What makes it anew in another process; Airflow calls it."""
        return "maniple.airflow.ManipleTrigger", {name: getattr(self, name) for name in ("job_id", "cluster", "env", "binary", "poll_interval")}

    async def run(self):
        """Waits; Airflow calls it."""
        watch = Watch(self.job_id, self.cluster, self.env, self.binary)
        try:
            while (end := await watch.ask()) is None:
                await asyncio.sleep(self.poll_interval)
        except asyncio.CancelledError:
            if await asyncio.to_thread(self._given_up) and (wrong := await watch.cancel()):
                self.log.warning(wrong)
            raise
        yield TriggerEvent(end)

    def _given_up(self):
        """Whether the task does not wait for this trigger any more, by Airflow's database."""
        from airflow.models import TaskInstance
        from airflow.utils.session import create_session
        from airflow.utils.state import TaskInstanceState

        ti = getattr(self, "task_instance", None)
        if ti is None:
            return False
        with create_session() as session:
            now = session.query(TaskInstance.state, TaskInstance.trigger_id).filter_by(dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index).one_or_none()
        return now is None or now.state != TaskInstanceState.DEFERRED or now.trigger_id != self.trigger_id


def _codes(given):
    """Exit codes that were given as one or as several."""
    return frozenset([given] if isinstance(given, int) else given)
