"""A million tasks without arguments are queued while others hold the CPUs, and then all finish."""

import os
import tempfile
import threading
import time

from stand import CPUS, api, ask, number, say, start

STUCK = 20  # seconds without another task that is submitted, after which nobody waits for more


@api.remote
def waits(path):
    while not os.path.exists(path):
        time.sleep(0.01)


@api.remote
def nothing():
    pass


count = number(1)
start()
api.get([nothing.remote() for _ in range(1000)])
with tempfile.TemporaryDirectory() as directory:
    go = os.path.join(directory, "go")
    held = [waits.remote(go) for _ in range(CPUS)]
    time.sleep(0.5)
    ask("before")
    refs, stuck = [], threading.Event()

    def watch():
        last, since = 0, time.monotonic()
        while len(refs) < count:
            time.sleep(0.5)
            if len(refs) != last:
                last, since = len(refs), time.monotonic()
            elif time.monotonic() - since > STUCK:
                stuck.set()
                open(go, "w").close()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    queued = 0
    while len(refs) < count:
        refs.append(nothing.remote())
        if not stuck.is_set():
            queued = len(refs)
    submitted = time.perf_counter() - began
    watcher.join()
    time.sleep(1)
    ask("queued")
    open(go, "w").close()
    finished = 0
    for at in range(0, count, 10_000):
        finished += sum(value is None for value in api.get(refs[at : at + 10_000]))
    whole = time.perf_counter() - began
    api.get(held)
    ask("finished")
    say("queued", count=queued, finished=finished, submitted=submitted, seconds=whole)
api.shutdown()
