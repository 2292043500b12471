"""What the operator for Airflow stands on, without Airflow: a submission by a program that stands in for ``maniple``."""

import threading
import time

import pytest

from maniple import _submission
from maniple._submission import Submission, arguments, verdict


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
