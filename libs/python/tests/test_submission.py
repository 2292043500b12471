"""What the operator for Airflow stands on, without Airflow: a submission by a program that stands in for ``maniple``."""

import asyncio
import threading
import time

import pytest

from maniple import _submission
from maniple._submission import Submission, Watch, arguments, show, verdict


def stand_in(directory, text):
    path = directory / "maniple"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


SUBMITTED = """echo '{"version":1,"event":"submitted","job_id":"application_1_2"}'
"""


def test_a_command_line_is_made_of_lists_or_of_texts():
    want = ["maniple", "submit", "--on", "yarn", "-N", "2", "--follow", "--json", "--", "python", "a b.py"]
    assert arguments(["python", "a b.py"], "yarn", ["-N", 2]) == want
    assert arguments("python 'a b.py'", "yarn", "-N 2") == want
    assert arguments("true") == ["maniple", "submit", "--follow", "--json", "--", "true"]
    with pytest.raises(ValueError, match="no program"):
        arguments("")
    assert arguments("true", flags="-N 2", follow=False) == ["maniple", "submit", "-N", "2", "--json", "--", "true"]
    for flag in ("--client", "--follow", "-W"):
        with pytest.raises(ValueError, match=f"with {flag} a worker would have to wait"):
            arguments("true", flags=["-N", "1", flag], follow=False)


def test_an_end_means_what_its_code_and_time_say():
    assert verdict(0, True) == "success"
    assert [verdict(code, True, skip={99}, fail={2}) for code in (99, 2, 1, 78, 143)] == ["skip", "fail", "retry", "retry", "retry"]
    assert [verdict(code, False, skip={99, 78}) for code in (64, 77, 78, 127, 69, 75, 99)] == ["fail"] * 4 + ["retry"] * 3


def test_output_and_messages_are_logged_and_the_id_is_told_once(tmp_path):
    binary = stand_in(tmp_path, SUBMITTED + """echo "$K in $PWD" >&2
echo '{"version":1,"event":"output","text":"epoch 1"}'; echo 'no record'
echo '{"version":1,"event":"end","state":"FAILED","code":3,"reason":"exit code 3"}'; exit 3
""")
    lines, ids = [], []
    assert Submission(arguments("true", binary=binary), lines.append, {"K": "value"}, str(tmp_path)).run(ids.append) == 3
    assert ids == ["application_1_2"]
    assert f"value in {tmp_path}" in lines
    assert [line for line in lines if " in " not in line] == ["submitted application_1_2", "epoch 1", "no record", "application_1_2 ended: FAILED, exit code 3 (exit code 3)"]


def test_what_is_never_submitted_has_no_id(tmp_path):
    lines = []
    s = Submission(arguments("true", binary=stand_in(tmp_path, "echo 'submit: no such queue' >&2; exit 78\n")), lines.append)
    assert s.run(lambda job_id: pytest.fail(job_id)) == 78 and s.job_id is None and lines == ["submit: no such queue"]


def test_cancelling_waits_for_the_job_and_cancels_it(tmp_path):
    binary = stand_in(tmp_path, f"""case $1 in
submit) sleep 0.3; {SUBMITTED.strip()}; exec sleep 60;;
cancel) echo "$2" > {tmp_path}/cancelled; exit 1;;
esac
""")
    lines, codes = [], []
    s = Submission(arguments("true", binary=binary), lines.append)
    s.cancel()  # nothing runs: nothing is done
    thread = threading.Thread(target=lambda: codes.append(s.run(lambda job_id: None)))
    thread.start()
    while s._process is None:
        time.sleep(0.01)
    s.cancel()
    thread.join(10)
    assert codes == [143]
    assert (tmp_path / "cancelled").read_text() == "application_1_2\n"
    assert any("ended with 1" in line for line in lines)


def test_a_submission_that_hangs_is_ended_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(_submission, "SUBMITTING", 0.2)
    codes = []
    s = Submission(arguments("true", binary=stand_in(tmp_path, "exec sleep 60\n")), print)
    thread = threading.Thread(target=lambda: codes.append(s.run(print)))
    thread.start()
    while s._process is None:
        time.sleep(0.01)
    s.cancel()
    thread.join(10)
    assert codes == [143] and s.job_id is None


def test_jobs_of_slurm_are_cancelled_by_slurm():
    s = Submission(["maniple"], print)
    s._take('{"event":"submitted","job_id":"17"}')
    assert s.cancelling() == ["scancel", "17"]
    s._take('{"event":"submitted","job_id":"18","cluster":"east"}')
    assert s.cancelling() == ["scancel", "--clusters=east", "18"]


def answers(directory, *lines):
    """A program that gives these answers to ``explain --json``, one after the other; a number is an exit code."""
    says = [f"echo why >&2; exit {line}" if isinstance(line, int) else f"echo '{line}'" for line in lines]
    turns = "".join(f"{i}) {do};;\n" for i, do in enumerate(says))
    return stand_in(directory, f"""n=$(cat {directory}/n 2>/dev/null || echo 0); echo $((n + 1)) > {directory}/n
echo "$@ $K $SLURM_CLUSTERS" >> {directory}/asked
case $n in
{turns}esac
""")


def asked(watch, times):
    async def ask():
        return [await watch.ask() for _ in range(times)]

    return asyncio.run(ask())


def test_an_application_is_looked_at_until_it_is_over(tmp_path):
    running = '{"application":"application_1_2","state":"RUNNING","final":"UNDEFINED","why":""}'
    over = '{"application":"application_1_2","state":"FINISHED","final":"FAILED","why":"rank 0","code":3}'
    watch = Watch("application_1_2", env={"K": "value"}, binary=answers(tmp_path, running, 69, over))
    assert asked(watch, 3) == [None, None, {"job_id": "application_1_2", "code": 3, "reason": "FAILED: rank 0"}]
    assert (tmp_path / "asked").read_text() == "explain --json application_1_2 value \n" * 3


def test_the_first_bad_end_of_an_arrays_tasks_is_kept(tmp_path):
    def task(n, state, code=0):
        return f'{{"id":"7_{n}","state":"{state}","why":"it is so","exit_code":{code},"over":{str(state != "RUNNING").lower()},"output":"/out"}}'

    first = f'{{"jobs":[{task(1, "FAILED", 5)},{task(2, "RUNNING")}]}}'
    then = f'{{"jobs":[{task(2, "COMPLETED")}]}}'  # Slurm has forgotten the other one
    watch = Watch("7", cluster="east", binary=answers(tmp_path, first, then))
    assert asked(watch, 2) == [None, {"job_id": "7", "code": 5, "reason": "COMPLETED: it is so", "output": "/out"}]
    assert "explain --json 7  east" in (tmp_path / "asked").read_text()
    (tmp_path / "n").unlink()
    late = Watch("9", binary=answers(tmp_path, f'{{"jobs":[{task(2, "COMPLETED")}],"tasks":2}}', f'{{"jobs":[{task(1, "COMPLETED")},{task(2, "COMPLETED")}],"tasks":2}}'))
    assert [end["code"] for end in asked(late, 2)] == [None, 0]  # the first did not see how another one ended
    (tmp_path / "n").unlink()
    forgotten = Watch("8", binary=answers(tmp_path, f'{{"jobs":[{task(1, "UNKNOWN")}]}}'))
    assert asked(forgotten, 1)[0]["code"] is None


def test_a_job_that_may_not_be_asked_for_is_given_up_and_one_that_nobody_answers_for_is_not(tmp_path):
    assert asked(Watch("application_1_2", binary=answers(tmp_path, *[77] * 4, 69, *[77] * 5)), 10) == [None] * 9 + [{"job_id": "application_1_2", "error": "why"}]


def test_a_question_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(_submission, "ASKING", 0.2)
    assert asked(Watch("application_1_2", binary=stand_in(tmp_path, "exec sleep 60\n")), 1) == [None]


def test_a_watched_job_is_cancelled(tmp_path):
    binary = stand_in(tmp_path, f'echo "$@" > {tmp_path}/cancelled; echo gone >&2; exit 1\n')
    assert asyncio.run(Watch("application_1_2", binary=binary).cancel()) == f"{binary} cancel application_1_2 ended with 1: gone"
    assert (tmp_path / "cancelled").read_text() == "cancel application_1_2\n"


def test_what_a_job_printed_is_shown_when_it_is_over(tmp_path):
    lines = []
    show("application_1_2", lines.append, env={"K": "value"}, binary=stand_in(tmp_path, 'echo "$@ $K"; echo more >&2\n'))
    (tmp_path / "out").write_text("epoch 1\nepoch 2\n")
    show("17", lines.append, str(tmp_path / "out"))
    show("18", lines.append, str(tmp_path / "none"))
    assert lines[:4] == ["logs application_1_2 value", "more", "epoch 1", "epoch 2"]
    assert lines[4].startswith("the output of 18 can't be read here:")
