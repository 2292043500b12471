"""Groups of 64 bundles spread over eight nodes of this machine: from the request until all are reserved, and removed."""

import os
import statistics
import subprocess
import time

from stand import CPUS, NAME, QUIET, api, module, number, part, say, until

NODES, BUNDLES = 8, 64
groups = module("util.placement_group")


def up():
    """Eight nodes, and what ends them."""
    if NAME == "ray":
        from ray.cluster_utils import Cluster

        node = {"num_cpus": CPUS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=CPUS)
        api.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        return cluster.shutdown
    name = f"groups-{os.getpid()}"
    subprocess.run(["maniple", "up", "--cluster", name, "--fake-nodes", str(NODES), "--cpus", str(CPUS)], stdout=2, check=True)
    api.init(name, **QUIET)
    return lambda: subprocess.run(["maniple", "down", "--now", "--cluster", name], stdout=2)


def one():
    """Seconds for a group to be there, and seconds to have it removed."""
    began = time.perf_counter()
    group = groups.placement_group([{"CPU": 0.1}] * BUNDLES, strategy="SPREAD")
    if not group.wait(30):
        raise TimeoutError(f"64 bundles are not there after 30 s: {getattr(group, 'explain', str)()}")
    there = time.perf_counter()
    groups.remove_placement_group(group)
    gone = time.perf_counter()
    time.sleep(0.1)  # the next does not wait for the end of this one
    return there - began, gone - there


with part("64 bundles"):
    end = up()
    try:
        until("all nodes are up", lambda: sum(n["Alive"] for n in api.nodes()) == NODES)
        one()
        took = [one() for _ in range(number(1))]
        say("64 bundles", there=statistics.median(a for a, _ in took), gone=statistics.median(b for _, b in took), whole=statistics.median(a + b for a, b in took))
        api.shutdown()
    finally:
        end()
