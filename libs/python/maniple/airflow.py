"""An operator for Airflow: a task that submits to Slurm or YARN, and waits for the end.

    from maniple.airflow import ManipleSubmitOperator

    train = ManipleSubmitOperator(
        task_id="train", on="yarn", flags=["-N", "4", "--gpus-per-node", "1", "--queue", "research"],
        command=["python", "train.py", "--day", "{{ ds }}"], cwd="/srv/training",
    )

Needs Airflow, which no other part of the package does (docs/guide/orchestrators.md).
"""

from __future__ import annotations

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.models import BaseOperator

from ._submission import prepare, verdict

__all__ = ["ManipleSubmitOperator"]


class ManipleSubmitOperator(BaseOperator):
    """Submits ``command`` by ``maniple submit``, writes its output to the task's log, and ends as it does. Its XCom is the job's ID, which is there under ``job_id`` as soon as the job is.

    command: the program and its arguments (list of str, or one text, split as a shell does).
    on: "slurm" or "yarn"; by default what the configuration says.
    flags: of ``maniple submit`` (list of str, or one text).
    env: variables for the submission, besides the worker's (dict of str); the program has those that ``--export`` names.
    cwd: the folder in which it is submitted, where the program's files are (str).
    skip_on_exit_code, fail_on_exit_code: codes of the program (int, or several) that skip the task, and that fail it without a retry.
    binary: the program ``maniple`` (str); by default this installation's.

    Any other code but 0 fails the task, which Airflow tries again by its ``retries``; so does what may pass, such as no answer of the scheduler. A submission that is refused, or asks for what
    the cluster does not have, fails without a retry. When the task is killed or times out the job is cancelled.
    """

    template_fields = ("command", "flags", "on", "env", "cwd")
    ui_color = "#e8f0e4"

    def __init__(self, *, command, on=None, flags=(), env=None, cwd=None, skip_on_exit_code=(), fail_on_exit_code=(), binary=None, **kwargs):
        super().__init__(**kwargs)
        self.command = command
        self.on = on
        self.flags = flags
        self.env = env
        self.cwd = cwd
        self.skip_on_exit_code = _codes(skip_on_exit_code)
        self.fail_on_exit_code = _codes(fail_on_exit_code)
        self.binary = binary
        self._submission = None

    def execute(self, context):
        """Submits and waits; Airflow calls it."""
        self._submission = prepare(self.command, self.log.info, self.on, self.flags, self.env, self.cwd, self.binary)
        try:
            code = self._submission.run(lambda job_id: context["ti"].xcom_push(key="job_id", value=job_id))
        except BaseException:  # a timeout, or a database that does not take the XCom: nobody would wait for the job
            self.on_kill()
            raise
        job_id = self._submission.job_id
        self._submission = None
        what = f"{job_id or 'the submission'} ended with exit code {code}"
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


def _codes(given):
    """Exit codes that were given as one or as several."""
    return frozenset([given] if isinstance(given, int) else given)
