"""One large value is read by many processes at once: what each of them has resident of it, as who adds processes up counts (YARN), and what
of that stays when they have let go of it.

    python PROGRAM.py maniple|ray MIB PROCESSES
"""

import numpy as np
from stand import api, number, part, say, start

MIB = 1 << 20
SIZE, COUNT = number(1) * MIB, number(2)


@api.remote(num_cpus=0)
class Reader:
    def resident(self):
        """Bytes that this process has resident, shared or not."""
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * 4096

    def look(self, refs):
        self.array = api.get(refs[0])
        return int(self.array[:: 4096].sum())

    def let_go(self):
        self.array = None


start()
with part("mapped"):
    readers = [Reader.remote() for _ in range(COUNT)]
    before = sum(api.get([r.resident.remote() for r in readers]))
    ref = api.put(np.ones(SIZE, np.uint8))
    assert api.get([r.look.remote([ref]) for r in readers]) == [SIZE // 4096] * COUNT
    looking = sum(api.get([r.resident.remote() for r in readers])) - before
    api.get([r.let_go.remote() for r in readers])
    after = sum(api.get([r.resident.remote() for r in readers])) - before
    say("mapped", looking=looking / SIZE, after=after / SIZE)
api.shutdown()
