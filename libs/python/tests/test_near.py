"""Who waits may wait on the processor that the agent names; nobody who runs meanwhile is there to see it."""

import os
import subprocess
import sys

import pytest

from maniple._core import twin
from scripted import Agent

pytestmark = [
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one processor only: there is nothing to choose"),
    pytest.mark.skipif(twin.fast is None, reason="only the C extension takes the hint"),
]

DRIVER = """
import os, sys, threading, _thread, time
import maniple
maniple.init(sys.argv[1], namespace="test")

@maniple.remote
def nothing():
    pass

seen, over = set(), threading.Event()

def look():
    while not over.is_set():
        seen.add(tuple(sorted(os.sched_getaffinity(os.getpid()))))  # of the main thread, by what most programs ask

free = tuple(sorted(os.sched_getaffinity(0)))
if sys.argv[2] == "thread":
    threading.Thread(target=look).start()
elif sys.argv[2] == "raw":
    _thread.start_new_thread(look, ())
for _ in range(200):
    maniple.get(nothing.remote())
    assert tuple(sorted(os.sched_getaffinity(0))) == free
over.set()
assert seen <= {free}, seen
print("free", len(seen))
"""


def mask(thread):
    with open(f"/proc/{thread}/status") as f:
        return next(line.split(":")[1].strip() for line in f if line.startswith("Cpus_allowed_list"))


@pytest.mark.parametrize("other,usable", [("none", True), ("none", False), ("thread", True), ("raw", True)])
def test_wait_near(tmp_path, other, usable):
    place = sorted(os.sched_getaffinity(0))[-1] + (0 if usable else 7000)
    seen, agent = [], Agent(tmp_path)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen([sys.executable, "-c", DRIVER, agent.path, other], env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE, text=True)

    def attach(driver):
        sent = driver.send

        def send(data):
            named = bytearray(data)
            named[12:16] = (place + 1).to_bytes(4, "little")
            sent(bytes(named))

        def serve(frame):
            if frame.name == "SUBMIT":
                seen.append({mask(process.pid) for _ in range(20)})
                driver.result(frame.fields.task)

        driver.handler, driver.send = serve, send

    agent.on_attach = attach
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        agent.close()
    assert process.returncode == 0 and out.startswith("free"), out
    near = [s for s in seen if str(place) in s]  # a list of one
    assert bool(near) == (usable and other == "none"), seen[-3:]
