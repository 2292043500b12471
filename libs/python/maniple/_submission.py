"""A submission, as a program that waits for it sees it: ``maniple submit --follow --json`` in a process of its own, what it says, and how it is cancelled."""

import json
import os
import subprocess
import threading
import time

from ._binary import find_binary

# What a submission may end with before there is a job and that another try does not change: the command line is wrong, somebody refuses, nothing can hold it, no such program.
HOPELESS = frozenset({64, 77, 78, 126, 127})

SUBMITTING = 30.0  # so long is waited for the job of a submission that is to be cancelled


def arguments(command, on=None, flags=(), binary="maniple"):
    """The command line (list of str). command and flags may be one text each, which is split as a shell does."""
    import shlex

    words = [shlex.split(part) if isinstance(part, str) else [str(word) for word in part] for part in (flags, command)]
    if not words[1]:
        raise ValueError("command: no program is named; give for instance ['python', 'train.py']")
    return [binary, "submit", *(["--on", on] if on else []), *words[0], "--follow", "--json", "--", *words[1]]


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
    """One run of ``maniple submit``. job_id is None until there is a job; output and messages are given to log, line by line."""

    def __init__(self, words, log, env=None, cwd=None):
        self.job_id = None
        self._words, self._log, self._cwd = words, log, cwd
        self._env = {**os.environ, **(env or {})}
        self._cluster = None
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
        """The command line that cancels the job: its scheduler's own on Slurm."""
        if self.job_id.startswith("application_"):
            return [self._words[0], "cancel", self.job_id]
        return ["scancel", *([f"--clusters={self._cluster}"] if self._cluster else []), self.job_id]

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
            self._cluster, self.job_id = record.get("cluster"), str(record["job_id"])
            self._log(f"submitted {self.job_id}")
            self._submitted.set()
        elif event == "output":
            self._log(record.get("text", ""))
        elif event == "end":
            self._log(f"{self.job_id} ended: {record.get('state')}, exit code {record.get('code')}" + (f" ({record['reason']})" if record.get("reason") else ""))

    def _read_messages(self):
        for line in self._process.stderr:
            self._log(line.rstrip("\n"))


def prepare(command, log, on=None, flags=(), env=None, cwd=None, binary=None):
    """A Submission of a command with this installation's binary, or another one."""
    return Submission(arguments(command, on, flags, binary or find_binary()), log, env, cwd)
