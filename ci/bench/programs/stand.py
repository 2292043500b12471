"""What the programs beside this one share: the system that they run on, and how they say what they measured.

    python PROGRAM.py maniple|ray [NUMBER ...]

`api` is the module of that name: each program is written once and run with either. Lines of JSON go to the
bench on what was standard output; what libraries print goes to standard error. A timed part stands between
two questions to the bench, which it answers once it has read the clocks of all processes.
"""

import contextlib
import importlib
import json
import os
import sys
import time

_out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

NAME = sys.argv[1]
_began = time.perf_counter()
api = importlib.import_module(NAME)
IMPORT = time.perf_counter() - _began  # seconds
CPUS = os.cpu_count() or 1
# Both start alike; what is Ray's alone the other takes and does not need.
QUIET = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
STORE = 5 << 30  # bytes of shared memory that Ray may use: the largest object is 1 GiB


def number(at, default=0):
    """The argument at that place, from 1."""
    return int(sys.argv[at + 1]) if len(sys.argv) > at + 1 else default


def start():
    """A cluster of its own, of this machine."""
    api.init("local", num_cpus=CPUS, object_store_memory=STORE, **QUIET)


def module(name):
    return importlib.import_module(f"{NAME}.{name}")


def _line(**fields):
    _out.write(json.dumps(fields) + "\n")
    _out.flush()


def ask(what):
    """Has the bench look at something, and goes on when it has."""
    _line(ask=what)
    if not sys.stdin.readline():
        sys.exit("the bench is gone")


def say(part, note="", **figures):
    """Figures of a part of this program's work."""
    _line(part=part, note=note, figures=figures)


def timed(part, count, work, **figures):
    """Does count pieces of work, and says how long they took; the bench adds the CPU of all processes."""
    ask("begin")
    began = time.perf_counter()
    out = work()
    took = time.perf_counter() - began
    ask("end")
    say(part, seconds=took, count=count, **figures)
    return out


def trips(part, count, trip, warm=50):
    """Round trips, one after the other: the time of each."""
    for _ in range(warm):
        trip()
    clock, took = time.perf_counter, []

    def work():
        for _ in range(count):
            began = clock()
            trip()
            took.append(clock() - began)

    ask("begin")
    began = clock()
    work()
    whole = clock() - began
    ask("end")
    say(part, seconds=whole, count=count, p50=percentile(took, 50), p90=percentile(took, 90))


def percentile(values, p):
    """The smallest value that p in a hundred do not exceed."""
    values = sorted(values)
    return values[max(0, -(-p * len(values) // 100) - 1)]


def until(what, ready, limit=60.0):
    """Waits until ready() gives something true, and gives that."""
    end = time.perf_counter() + limit
    while True:
        found = ready()
        if found:
            return found
        if time.perf_counter() > end:
            raise TimeoutError(f"after {limit:.0f} s still not: {what}")
        time.sleep(0.001)


class Void(Exception):
    """The machine was not the same all the time, so that this run says nothing: it is repeated."""


@contextlib.contextmanager
def part(*names):
    """What fails in here is said for these parts, and the others go on."""
    try:
        yield
    except Exception as e:
        for name in names:
            _line(part=name, error=f"{type(e).__name__}: {str(e)[-600:]}")
