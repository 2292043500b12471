"""Actors created and called once each, all at the same time. With the word torch each has imported it."""

import sys
import time

from stand import api, number, start, timed

TORCH = "torch" in sys.argv
WARM = 20 if TORCH and api.__name__ == "maniple" else 0  # seconds in which workers that have imported it may come to be
HEAVY = 40 << 20  # bytes of its own that an actor may have if a hundred are to fit
if TORCH:
    import torch  # noqa: F401: the driver has it, as a user's has


@api.remote(num_cpus=0)
class Actor:
    def __init__(self):
        if TORCH:
            import torch  # noqa: F401, F811

    def nothing(self):
        pass

    def memory(self):
        return own_memory()


def own_memory():
    """Bytes that this process shares with nobody."""
    with open("/proc/self/smaps_rollup") as f:
        return sum(int(line.split()[1]) << 10 for line in f if line.startswith("Private"))


def made(count):
    actors = [Actor.remote() for _ in range(count)]
    api.get([a.nothing.remote() for a in actors])
    return actors


def heaviest(actors):
    """Bytes of its own that the largest of them has."""
    return max(api.get([a.memory.remote() for a in actors]))


count = number(1)
start()
until = time.monotonic() + WARM
while True:
    (first,) = made(1)
    own = heaviest([first])
    api.kill(first)
    if own <= HEAVY or time.monotonic() > until:
        break
    time.sleep(0.5)
if own > HEAVY and TORCH:
    sys.exit(f"an actor has {own >> 20} MiB of its own: no worker has imported torch, so it imports it itself, and {count} of them are not what is measured here")
if own > HEAVY:
    count = min(count, 10)
time.sleep(0.5)
timed("actors", count, lambda: made(count), own=own / (1 << 20))
api.shutdown()
