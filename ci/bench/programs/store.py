"""put of large arrays into a store that was never used, into one that had time to get warm, and into memory that was used before; beside each, in the
same process, the fastest copy of as many bytes, with one thread or two, through the caches or past them, into memory that is as
cold or as warm. A virtual machine may have to get memory from its host, which takes several times what the rest does, and have it taken back when it is
free: before whatever is cold, as much was used a moment before, so that neither pays for that. A processor that has slept takes up to two milliseconds until
it copies: before each put, and before each copy into warm memory, which take turns, nothing is done for as long.

    python PROGRAM.py maniple|ray MIB_OF_THE_LARGEST COUNT
"""

import mmap
import statistics
import threading
import time

import numpy as np
from stand import NAME, api, number, part, say, start, timed

MIB = 1 << 20
LARGEST, COUNT = number(1) * MIB, number(2)
REST = 0.3  # seconds, in which what was dropped is free again
WAYS = [(two, stream) for two in (False, True) for stream in (False, True)]


def clocked(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def put(array):
    """Seconds of a put, and its reference."""
    began = time.perf_counter()
    ref = api.put(array)
    return time.perf_counter() - began, ref


def copy(room, array, two, stream):
    from maniple._core import _fast

    _fast.copy(room, array, two, stream)


def halves(room, array):
    """A copy by two threads of numpy."""
    half = len(array) // 2
    other = threading.Thread(target=np.copyto, args=(room[:half], array[:half]))
    other.start()
    np.copyto(room[half:], array[half:])
    other.join()


def in_turn(array, puts):
    """The medians of seconds: of that many puts, and of the fastest of all ways to copy into memory that was written before."""
    room = np.empty_like(array)
    ways = [lambda: np.copyto(room, array), lambda: halves(room, array)]
    if NAME == "maniple":
        ways += [lambda w=w: copy(room, array, *w) for w in WAYS]
    for way in ways:
        way()
    all_took, copies = [], [[] for _ in ways]
    for turn in range(max(COUNT, puts)):
        for way, took in zip(ways, copies):
            time.sleep(REST)
            took.append(clocked(way))
        if turn < puts:
            time.sleep(REST)
            took, ref = put(array)
            all_took.append(took)
            del ref
    return statistics.median(all_took or [0]), min(map(statistics.median, copies))


def from_host(size):
    """Has the machine's host give so much memory, which is free then."""
    np.ones(size, np.uint8)


def cold_copy(array):
    """By two threads into memory that is new: shared, as the store's is, or one's own, whose pages may be huge; whichever is faster."""
    def shared():
        from_host(2 * len(array))
        with mmap.mmap(-1, len(array)) as room:
            return clocked(lambda: halves(np.frombuffer(room, np.uint8), array))

    def own():
        from_host(2 * len(array))
        room = np.empty_like(array)
        return clocked(lambda: halves(room, array))

    return min(statistics.median(way() for _ in range(3)) for way in (shared, own))


start()
api.put(np.ones(8, np.uint8))  # the connection
arrays = {f"{size // MIB} MiB": np.ones(size, np.uint8) for size in (LARGEST // 10, LARGEST)}
with part("cold", "spare"):
    array = arrays[f"{LARGEST // MIB} MiB"]
    from_host(2 * LARGEST)
    cold, first = put(array)
    time.sleep(2 * LARGEST / (1 << 30))
    spare, second = put(array)  # the first is there still
    say("cold", put=LARGEST / cold / 1e9, copy=LARGEST / cold_copy(array) / 1e9)
    say("spare", put=LARGEST / spare / 1e9, copy=LARGEST / in_turn(array, 0)[1] / 1e9)
    del first, second
for name, (size, array) in zip(("small", "large"), ((LARGEST // 10, arrays[f"{LARGEST // 10 // MIB} MiB"]), (LARGEST, array))):
    with part(name):
        for _ in range(2):
            put(array)
            time.sleep(REST)
        took, copied = in_turn(array, COUNT)
        say(name, put=size / took / 1e9, copy=size / copied / 1e9)
del arrays, array
with part("1 MiB"):
    array, count = np.ones(MIB, np.uint8), 400

    def puts():
        for _ in range(count):
            ref = api.put(array)
            del ref

    puts()
    timed("1 MiB", count, puts)
api.shutdown()
