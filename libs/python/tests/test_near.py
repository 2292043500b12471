"""Who waits may wait on the processor that the agent names; what runs then is as free as before."""

import os
import threading

import pytest

import maniple
from maniple._core import twin

pytestmark = [
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one processor only: there is nothing to choose"),
    pytest.mark.skipif(twin.fast is None, reason="only the C extension takes the hint"),
]


def mask(thread):
    with open(f"/proc/self/task/{thread}/status") as f:
        return next(line.split(":")[1].strip() for line in f if line.startswith("Cpus_allowed_list"))




@pytest.mark.parametrize("usable", [True, False])
def test_wait_near(driver, usable):
    free, allowed = mask(threading.get_native_id()), sorted(os.sched_getaffinity(0))
    place = allowed[-1] + (0 if usable else 7000)
    seen, main, sent = [], threading.get_native_id(), driver.send

    def send(data):
        named = bytearray(data)
        named[12:16] = (place + 1).to_bytes(4, "little")
        sent(bytes(named))

    def serve(frame):
        if frame.name == "SUBMIT":
            seen.append({mask(main) for _ in range(20)})
            driver.result(frame.fields.task)

    @maniple.remote
    def nothing():
        pass

    driver.handler, driver.send = serve, send
    for _ in range(200):
        maniple.get(nothing.remote())
        assert mask(main) == free
    near = [s for s in seen if str(place) in s]  # a list of one
    assert bool(near) == usable, seen[-3:]
