"""A submission, as a program that waits for it sees it: ``maniple submit --json`` in a process of its own, what it says, how it is looked at, and how it is cancelled."""

import asyncio
import json
import os
import subprocess
import threading
import time

from ._binary import find_binary

# What a submission may end with before there is a job and that another try does not change: the command line is wrong, somebody refuses, nothing can hold it, no such program.
HOPELESS = frozenset({64, 77, 78, 126, 127})

SUBMITTING = 30.0  # so long is waited for the job of a submission that is to be cancelled

ASKING = 120.0  # so long may a question take
REFUSALS = 5  # after so many in a row it is not asked again

# Flags of a submission that somebody has to wait for.
WAITING = ("--follow", "-f", "--wait", "-W", "--client")


def arguments(command, on=None, flags=(), binary="maniple", follow=True):
    """The command line (list of str). command and flags may be one text each, which is split as a shell does. follow: it goes on as long as the job."""
    import shlex

    words = [shlex.split(part) if isinstance(part, str) else [str(word) for word in part] for part in (flags, command)]
    if not words[1]:
        raise ValueError("command: no program is named; give for instance ['python', 'train.py']")
    if not follow and (waiting := [word for word in words[0] if word in WAITING]):
        raise ValueError(f"flags: with {waiting[0]} a worker would have to wait, which deferrable=True is there to spare it: leave one of the two away")
    return [binary, "submit", *(["--on", on] if on else []), *words[0], *(["--follow"] if follow else []), "--json", "--", *words[1]]


def verdict(code, submitted, skip=(), fail=()):
    """What an end means to a workflow (str): ``success``, ``skip``, ``fail``, which no other try would change, or ``retry``.

    submitted: there was a job, and the code is its program's. skip and fail are the codes that the program means so by.
    """
    if code == 0:
        return "success"
    if submitted:
        return "skip" if code in skip else "fail" if code in fail else "retry"
    return "fail" if code in HOPELESS else "retry"


class Submission:
    """One run of ``maniple submit``. job_id is None until there is a job, and cluster is where Slurm has it; output and messages are given to log, line by line."""

    def __init__(self, words, log, env=None, cwd=None):
        self.job_id = None
        self._words, self._log, self._cwd = words, log, cwd
        self._env = {**os.environ, **(env or {})}
        self.cluster = None
        self._process = None
        self._submitted = threading.Event()  # or it never will be

    def run(self, known):
        """Submits, calls known(job_id) once there is a job, and waits for its end. The exit code (int)."""
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._env, cwd=self._cwd,
            text=True, errors="replace", start_new_session=True,  # who ends this process by its group leaves it to cancel
        )  # fmt: skip
        readers = [threading.Thread(target=read, daemon=True) for read in (self._read_records, self._read_messages)]
        for reader in readers:
            reader.start()
        self._submitted.wait()
        if self.job_id is not None:
            known(self.job_id)
        for reader in readers:
            reader.join()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def cancel(self):
        """Cancels the job, whose programs have their grace, and ends the run. May be called by a signal's handler: it takes no lock that run has."""
        process = self._process
        if process is None:
            return
        over = time.monotonic() + SUBMITTING
        while self.job_id is None and process.poll() is None and time.monotonic() < over:
            time.sleep(0.05)
        if self.job_id is not None and process.poll() is None:
            words = self.cancelling()
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=self._env, cwd=self._cwd, text=True, errors="replace")
            if done.returncode:
                self._log(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        process.terminate()

    def cancelling(self):
        """The command line that cancels the job."""
        return cancelling(self._words[0], self.job_id, self.cluster)

    def _read_records(self):
        try:
            for line in self._process.stdout:
                self._take(line.rstrip("\n"))
        finally:
            self._submitted.set()

    def _take(self, line):
        try:
            record = json.loads(line)
            event = record["event"]
        except (ValueError, TypeError, KeyError):
            self._log(line)  # no record: it is told as it is
            return
        if event == "submitted":
            self.cluster, self.job_id = record.get("cluster"), str(record["job_id"])
            self._log(f"submitted {self.job_id}")
            self._submitted.set()
        elif event == "output":
            self._log(record.get("text", ""))
        elif event == "end":
            self._log(f"{self.job_id} ended: {record.get('state')}, exit code {record.get('code')}" + (f" ({record['reason']})" if record.get("reason") else ""))

    def _read_messages(self):
        for line in self._process.stderr:
            self._log(line.rstrip("\n"))


def prepare(command, log, on=None, flags=(), env=None, cwd=None, binary=None, follow=True):
    """A Submission of a command with this installation's binary, or another one."""
    return Submission(arguments(command, on, flags, binary or find_binary(), follow), log, env, cwd)


def cancelling(binary, job_id, cluster=None):
    """The command line that cancels a job (list of str): its scheduler's own on Slurm."""
    if on_yarn(job_id):
        return [binary, "cancel", job_id]
    return ["scancel", *([f"--clusters={cluster}"] if cluster else []), job_id]


def on_yarn(job_id):
    """Whether a job is YARN's (bool)."""
    return job_id.startswith("application_")


class Watch:
    """A job that is looked at now and then, by ``maniple explain --json``. One question is open at a time, and no thread waits for it."""

    def __init__(self, job_id, cluster=None, env=None, binary=None):
        self._job_id, self._cluster, self._binary = job_id, cluster, binary or find_binary()
        self._env = {**os.environ, **(env or {}), **({"SLURM_CLUSTERS": cluster} if cluster else {})}
        self._ends = {}  # of an array's tasks, which Slurm forgets one by one: exit codes
        self._refused = 0

    async def ask(self):
        """How the job ended (dict), or None as long as it has not, or nobody answers: code, None if nobody knows it any more; reason; output, its file on Slurm. error in place of code: it can't be asked for."""
        code, answer, why = await self._run(self._binary, "explain", "--json", self._job_id)
        if code != 0:
            self._refused = self._refused + 1 if code in HOPELESS else 0
            return {"job_id": self._job_id, "error": why.strip() or f"exit code {code}"} if self._refused >= REFUSALS else None
        self._refused = 0
        return self._end(json.loads(answer))

    def _end(self, answer):
        if "application" in answer:
            return {"job_id": self._job_id, "code": answer["code"], "reason": f"{answer['final']}: {answer['why']}"} if answer.get("code") is not None else None
        jobs = answer["jobs"]
        for job in jobs:
            if job["over"]:
                self._ends[job["id"]] = None if job["state"] == "UNKNOWN" else job["exit_code"]
        if not all(job["over"] for job in jobs):
            return None
        codes = list(self._ends.values())
        unknown = None in codes or len(codes) < answer.get("tasks", 0)  # Slurm forgot them before they were seen here
        code = next((code for code in codes if code), None if unknown else 0)
        return {"job_id": self._job_id, "code": code, "reason": "; ".join(f"{job['state']}: {job['why']}" for job in jobs[:3]), "output": jobs[0].get("output")}

    async def cancel(self):
        """Cancels the job, whose programs have their grace. What went wrong (str), or None."""
        words = cancelling(self._binary, self._job_id, self._cluster)
        code, _, why = await self._run(*words)
        return f"{' '.join(words)} ended with {code}: {why.strip()}" if code else None

    async def _run(self, *words):
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._env, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), ASKING)
        except asyncio.TimeoutError:
            return 75, "", f"no answer in {ASKING:.0f} s"
        finally:
            if process.returncode is None:  # nobody waits for it any more
                process.kill()
                await process.wait()
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def show(job_id, log, output=None, env=None, binary=None):
    """Gives log, line by line, what a job has printed that is over: what YARN keeps of it, or its file."""
    if not on_yarn(job_id):
        try:
            with open(output or "", errors="replace") as lines:
                for line in lines:
                    log(line.rstrip("\n"))
        except OSError as e:
            log(f"the output of {job_id} can't be read here: {e}")
        return
    words = [binary or find_binary(), "logs", job_id]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, text=True, errors="replace")
    for line in process.stdout:
        log(line.rstrip("\n"))
    process.wait()
