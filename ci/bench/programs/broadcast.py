"""A value of one node that all others want at once: how long until each has it, and what leaves the node that has it. The nodes are there, each in a network of its own.

    python PROGRAM.py maniple|ray MIB TIMES NODES PREFIX

PREFIX and a node's number name the interface by which the node is reached.
"""

import socket
import sys
import time

import numpy as np
from stand import NAME, api, module, number, part, say, until

SIZE, TIMES, NODES, PREFIX = number(1) << 20, number(2), number(3), sys.argv[5]
strategies = module("util.scheduling_strategies")


def left():
    """Bytes that have left this node: what its interface's other end has received."""
    with open(f"/sys/class/net/{PREFIX}{socket.gethostname()[1:]}/statistics/rx_bytes") as f:
        return int(f.read())


@api.remote(num_cpus=1)
class There:
    def get(self, refs):
        if not refs:
            return 0
        value = api.get(refs[0])
        return int(value[0]) + int(value[-1]) + len(value)


def one(readers):
    """Seconds until all have a new value, and how often it has left this node meanwhile."""
    value = np.full(SIZE, 7, np.uint8)
    value[:: 1 << 12] = np.random.default_rng().integers(0, 256, SIZE >> 12, np.uint8)
    value[0] = value[-1] = 7
    ref = api.put(value)
    before, began = left(), time.perf_counter()
    ends = api.get([r.get.remote([ref]) for r in readers], timeout=300)
    took, sent = time.perf_counter() - began, left() - before
    assert ends == [14 + SIZE] * len(readers), ends
    del ref
    time.sleep(0.5)
    return took, sent / SIZE


with part("broadcast"):
    api.init("auto", **({} if NAME == "maniple" else {"log_to_driver": False, "logging_level": "ERROR"}))
    until("all nodes are up", lambda: sum(n["Alive"] for n in api.nodes()) == NODES, 180)
    here = api.get_runtime_context().get_node_id()
    readers = [
        There.options(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote()
        for n in api.nodes()
        if n["NodeID"] != here
    ]
    assert len(readers) == NODES - 1
    api.get([r.get.remote([]) for r in readers], timeout=300)
    one(readers)  # makes memory and connections
    took, copies = zip(*(one(readers) for _ in range(TIMES)))
    print("took", took, "copies", copies, file=sys.stderr)
    say("broadcast", seconds=sorted(took)[TIMES // 2], copies=max(copies))
api.shutdown()
