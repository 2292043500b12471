"""Random blocks are sorted that memory has no room for: each is cut by range in one task, and each range is put in order by another, so
that all is written to disk, read, and written once more. Before and after it fio has the disk: it writes a file as values are written, through the
kernel's cache and sent to the disk as it goes, and reads it when nothing of it is in that cache.

    python PROGRAM.py maniple|ray MIB_OF_STORE MIB_OF_DATA MIB_OF_BLOCK FIO
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
from stand import CPUS, NAME, QUIET, Void, api, number, part, say

MIB = 1 << 20
STORE, DATA, BLOCK = number(1) * MIB, number(2) * MIB, number(3) * MIB
BLOCKS = DATA // BLOCK
SIZE = max(DATA // 2, 256 * MIB)  # of fio's file
DIRECTORY = "/var/tmp"


class Disk:
    """What has gone to and from the disk that a directory is on since this was made, and in what time it had anything to do."""

    def __init__(self, directory):
        at = os.stat(directory).st_dev
        self.number = [str(os.major(at)), str(os.minor(at))]
        os.sync()
        self.before = self.counters()

    def counters(self):
        with open("/proc/diskstats") as f:
            for line in f:
                words = line.split()
                if words[:2] == self.number:
                    return int(words[5]) * 512, int(words[9]) * 512, int(words[12]) / 1e3
        raise RuntimeError(f"the kernel counts nothing of device {':'.join(self.number)}, which {DIRECTORY} is on")

    def since(self):
        """Bytes read, bytes written, seconds."""
        os.sync()
        return [b - a for a, b in zip(self.before, self.counters())]


def fio():
    """Bytes in a second in which the disk was busy, of writing, and of reading."""
    rates = []
    path = os.path.join(DIRECTORY, f"maniple-fio-{os.getpid()}")
    try:
        for way in ("write", "read"):
            disk = Disk(DIRECTORY)
            job = ["--name=plain", f"--filename={path}", f"--rw={way}", f"--size={SIZE}", "--bs=1m", "--ioengine=psync", "--invalidate=1", "--fallocate=none"]
            if way == "write":  # as values are: objstore/spill/write.go
                job += ["--sync_file_range=write:64", "--end_fsync=1", "--refill_buffers"]
            out = subprocess.run([sys.argv[5], "--output-format=json", *job], check=True, stdout=subprocess.PIPE, cwd=DIRECTORY)
            moved = json.loads(out.stdout)["jobs"][0][way]["io_bytes"]
            read, wrote, busy = disk.since()
            if min(moved, wrote if way == "write" else read) < 0.9 * SIZE:
                raise RuntimeError(f"fio was to {way} {SIZE} bytes, says {moved}, and the disk had {read} read and {wrote} written")
            rates.append(moved / busy)
    finally:
        if os.path.exists(path):
            os.remove(path)
    print("fio", rates, file=sys.stderr)
    return rates


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


def sort():
    """Seconds that it took."""
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
    return seconds


def figures():
    """What the store has written and read."""
    from maniple._core.session import current

    store = current().query("memory")["store"]
    return store.get("spilled", 0), store.get("restored", 0)


def ours():
    before = fio()
    api.init("local", num_cpus=CPUS, object_store_memory=STORE, object_spilling_directory=DIRECTORY, **QUIET)
    api.get([make.remote(0)])
    disk = Disk(DIRECTORY)
    seconds = sort()
    spilled, restored = figures()
    read, wrote, busy = disk.since()
    api.shutdown()
    after = fio()
    if not spilled or not busy:
        raise ValueError(f"{spilled} bytes were written, and the disk was busy for {busy} s")
    # What the kernel's cache gave, or what went before it was written, says nothing of the disk.
    wrote, read = min(spilled, wrote), min(restored, read)
    rate = (wrote + read) / busy
    say("spilling", seconds=seconds, spilled=spilled / 1e9, restored=restored / 1e9, wrote=wrote / 1e9, read=read / 1e9, busy=busy, rate=rate / 1e6)
    with part("share"):
        plain = [(wrote + read) / (wrote / w + read / r) for w, r in (before, after)]
        print("rate", rate, "fio", plain, file=sys.stderr)
        if max(plain) > 1.25 * min(plain):
            raise Void(f"fio had {plain[0] / 1e6:.0f} MB/s before, and {plain[1] / 1e6:.0f} after")
        say("share", plain=sum(plain) / 2 / 1e6, share=rate / (sum(plain) / 2))


with part("spilling", "share"):
    if NAME == "maniple":
        ours()
    else:
        api.init("local", num_cpus=CPUS, object_store_memory=STORE, **QUIET)
        api.get([make.remote(0)])
        say("spilling", seconds=sort())
        api.shutdown()
