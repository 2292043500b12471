"""A worker is killed with -9 in the middle of a task: the time until the second attempt's result is here."""

import os
import signal
import statistics
import tempfile
import time

from stand import api, number, say, start, until


@api.remote(max_retries=3)
def victim(path):
    if os.path.exists(path):
        return "the second attempt"
    with open(path + "~", "w") as f:
        f.write(str(os.getpid()))
    os.rename(path + "~", path)
    time.sleep(600)


@api.remote
def sleep(seconds):
    time.sleep(seconds)


def once(path):
    ref = victim.remote(path)
    until("the task has begun", lambda: os.path.exists(path))
    with open(path) as f:
        pid = int(f.read())
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    if api.get(ref, timeout=60) != "the second attempt":
        raise AssertionError("the first attempt gave a result")
    return time.perf_counter() - began


start()
api.get([sleep.remote(0.05) for _ in range(4)])  # the workers are there
with tempfile.TemporaryDirectory() as directory:
    took = [once(os.path.join(directory, str(i))) for i in range(number(1))]
say("killed", seconds=statistics.median(took), most=max(took))
api.shutdown()
