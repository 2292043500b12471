"""From init() with nothing running to the result of the first task, in a new process."""

import time

from stand import CPUS, IMPORT, QUIET, api, say


@api.remote
def nothing():
    pass


began = time.perf_counter()
api.init("local", num_cpus=CPUS, **QUIET)
there = time.perf_counter()
api.get(nothing.remote())
say("first result", seconds=time.perf_counter() - began, init=there - began, imports=IMPORT)
api.shutdown()
