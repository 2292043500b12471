"""put of arrays of several sizes, one after the other, each dropped before the next; beside it, in the same
process, a copy of as many bytes into memory that was written before."""

import statistics
import time

import numpy as np
from stand import api, number, part, say, start, timed

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def puts(array, count):
    for _ in range(count):
        ref = api.put(array)
        del ref


def copies(array, count):
    """The median of the times of some copies."""
    room = np.empty_like(array)
    np.copyto(room, array)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        np.copyto(room, array)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def large(array, count):
    """Each is freed before the next, so that the next finds warm memory; the time of a put alone."""
    took = []
    for _ in range(count + 1):
        began = time.perf_counter()
        ref = api.put(array)
        took.append(time.perf_counter() - began)
        del ref
        time.sleep(0.3)  # the memory is free
    return statistics.median(took[1:])


few = number(1)
start()
for name, size, count in (("1 KiB", KIB, 200 * few), ("1 MiB", MIB, 100 * few)):
    with part(name):
        array = np.ones(size, np.uint8)
        puts(array, 20 * few)  # a machine's host may have to give the memory first
        timed(name, count, lambda: puts(array, count))
for name, size, count in (("100 MiB", 100 * MIB, 5), ("1 GiB", GIB if few >= 10 else 200 * MIB, 3)):
    with part(name):
        array = np.ones(size, np.uint8)
        before = copies(array, 5)
        took = large(array, count)
        after = copies(array, 5)
        say(name, put=size / took / 1e9, copy=2 * size / (before + after) / 1e9)
        del array
api.shutdown()
