"""A driver inside of a Slurm job: tasks, a value, actors and prints of both of its nodes.

usage: both_nodes.py up|alone     whether the job's cluster is up already
"""

import os
import socket
import sys

import maniple
from maniple.util.placement_group import placement_group
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

SIZE = 8 << 20


def nodes():
    return sorted(n["NodeID"] for n in maniple.nodes() if n["Alive"])


def refused():
    try:
        maniple.init(num_cpus=1)
    except ValueError as e:
        return "num_cpus can't be given when joining a cluster that is up" in str(e) and 'address="local" starts another' in str(e)
    return False


if sys.argv[1] == "up":  # what is said of a node is not for one that is up, but for another one beside it
    assert refused()
    address = "local"
else:
    address = None
with maniple.init(address, num_cpus=1, num_gpus=1):
    mask = maniple.remote(num_gpus=1)(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).remote()
    print("alone:", nodes(), maniple.cluster_resources()["CPU"], maniple.cluster_resources()["GPU"], "mask", maniple.get(mask, timeout=30), flush=True)
context = maniple.init()


@maniple.remote
def host():
    return socket.gethostname()


@maniple.remote
def makes(letter):
    return letter * SIZE


@maniple.remote
def reads(value):
    print("read", len(value), value[:1].decode(), flush=True)
    return socket.gethostname(), len(value), value[-1:]


@maniple.remote
class Place:
    def host(self):
        return socket.gethostname()


def at(node):
    return NodeAffinitySchedulingStrategy(node, soft=False)


here = socket.gethostname()
print("cluster:", context["cluster"] != "", nodes(), flush=True)
both = nodes()
(there,) = [n for n in both if n != here]
assert [maniple.get(host.options(scheduling_strategy=at(n)).remote(), timeout=30) for n in both] == both
far = makes.options(scheduling_strategy=at(there)).remote(b"f")
assert maniple.get(reads.options(scheduling_strategy=at(here)).remote(far), timeout=30) == (here, SIZE, b"f")
near = maniple.put(b"n" * SIZE)
assert maniple.get(reads.options(scheduling_strategy=at(there)).remote(near), timeout=30) == (there, SIZE, b"n")
assert maniple.get(far, timeout=30) == b"f" * SIZE
group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
actors = [Place.options(num_cpus=1, scheduling_strategy=PlacementGroupSchedulingStrategy(group, i)).remote() for i in range(2)]
assert sorted(maniple.get([a.host.remote() for a in actors], timeout=30)) == both
print("all is well", flush=True)
