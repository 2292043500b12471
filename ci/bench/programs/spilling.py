"""Random blocks are sorted that memory has no room for: each is cut by range in one task, and each range is put in order by another, so
that all is written to disk, read, and written once more. Before and after it a plain writer and reader has the disk, with the same
files and the same block.

    python PROGRAM.py maniple|ray MIB_OF_STORE MIB_OF_DATA MIB_OF_BLOCK
"""

import os
import tempfile
import time

import numpy as np
from stand import CPUS, NAME, QUIET, api, number, part, say

MIB = 1 << 20
STORE, DATA, BLOCK = number(1) * MIB, number(2) * MIB, number(3) * MIB
BLOCKS = DATA // BLOCK
FILE, PIECE = 64 * MIB, MIB  # what is written together, and at once
DIRECTORY = "/var/tmp"


def plain(size):
    """Bytes a second of a plain writer, and of a reader behind it."""
    data = np.random.default_rng(1).integers(0, 256, FILE, np.uint8).tobytes()
    took = [0.0, 0.0]
    with tempfile.TemporaryFile(dir=DIRECTORY) as f:
        for at in range(0, size, FILE):
            began = time.perf_counter()
            for i in range(0, FILE, PIECE):
                os.pwrite(f.fileno(), memoryview(data)[i : i + PIECE], at + i)
            took[0] += time.perf_counter() - began
        for at in range(0, size, FILE):
            began = time.perf_counter()
            for i in range(0, FILE, PIECE):
                os.pread(f.fileno(), PIECE, at + i)
            took[1] += time.perf_counter() - began
    return size / took[0], size / took[1]


@api.remote
def make(seed):
    return np.random.default_rng(seed).integers(0, 1 << 32, BLOCK // 4, np.uint32)


@api.remote(num_returns=BLOCKS)
def cut(block):
    block = np.sort(block)
    ends = np.searchsorted(block, [(i << 32) // BLOCKS for i in range(1, BLOCKS)])
    return [np.ascontiguousarray(p) for p in np.split(block, ends)]


@api.remote
def merge(*pieces):
    return np.sort(np.concatenate(pieces))


@api.remote
def check(block):
    return int(block[0]), int(block[-1]), len(block), bool((block[1:] >= block[:-1]).all())


def figures():
    """What the store has written and read, and in what time."""
    from maniple._core.session import current

    store = current().query("memory")["store"]
    return {name: store.get(name, 0) for name in ("spilled", "restored", "busy")}


with part("spilling"):
    size = max(DATA // 2, FILE)
    before = plain(size)
    more = {"object_spilling_directory": DIRECTORY} if NAME == "maniple" else {}
    api.init("local", num_cpus=CPUS, object_store_memory=STORE, **QUIET, **more)
    api.get([make.remote(0)])
    began = time.perf_counter()
    blocks = [make.remote(i) for i in range(BLOCKS)]
    pieces = [cut.remote(b) for b in blocks]
    del blocks
    out = [merge.remote(*[p[i] for p in pieces]) for i in range(BLOCKS)]
    del pieces
    told = api.get([check.remote(b) for b in out])
    seconds = time.perf_counter() - began
    assert sum(n for _, _, n, _ in told) == BLOCKS * (BLOCK // 4) and all(ok for *_, ok in told), told
    assert all(a[1] <= b[0] for a, b in zip(told, told[1:])), "the ranges are not in order"
    got = figures() if NAME == "maniple" else {}
    del out
    api.shutdown()
    after = plain(size)
    if NAME == "maniple":
        moved = got["spilled"] + got["restored"]
        if not moved or not got["busy"]:
            raise ValueError(f"nothing was written to disk: {got}")
        say("spilling", seconds=seconds, spilled=got["spilled"] / 1e9, restored=got["restored"] / 1e9, rate=moved / got["busy"] / 1e6)
    else:
        say("spilling", seconds=seconds)
if NAME == "maniple":
    with part("share"):
        rates = [moved / (got["spilled"] / w + got["restored"] / r) for w, r in (before, after)]
        if max(rates) > 1.25 * min(rates):
            raise ValueError(f"void: a plain writer and reader had {rates[0] / 1e6:.0f} MB/s before, and {rates[1] / 1e6:.0f} after")
        say("share", plain=sum(rates) / 2 / 1e6, share=moved / got["busy"] / (sum(rates) / 2))
