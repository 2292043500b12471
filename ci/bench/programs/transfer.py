"""A value goes from one node of this machine to another. Beside it a plain copy over TLS, or iperf3 where it goes unencrypted, with as many connections, has the machine.

    python PROGRAM.py maniple|ray MIB TIMES CONNECTIONS COPIER IPERF3 LIBFABRIC
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
from stand import NAME, QUIET, api, ask, module, number, part, say, until

MIB, GIB = 1 << 20, 1 << 30
SIZE, TIMES, STREAMS = number(1) * MIB, number(2), number(3)
# Memory is used again where it can be: a virtual machine may have to get what is new from its host, which takes longer than what is measured. So values are
# made once, and a store has room for one, for which the copy that the other node keeps for a moment goes; Ray's for two.
STORE = (2 if NAME == "ray" else 1) * SIZE + 256 * MIB
VALUES = {size: np.full(size, 7, np.uint8) for size in (MIB, SIZE)}
strategies = module("util.scheduling_strategies")


@contextlib.contextmanager
def bare():
    """What gives seconds of a plain copy, the faster of two, and what it took of all processors."""
    with subprocess.Popen([sys.argv[5], "copy", str(SIZE), str(STREAMS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as copier:

        def run():
            copier.stdin.write("2\n")
            said = json.loads(copier.stdout.readline())
            return said["seconds"], said["cpu"]

        yield run


@contextlib.contextmanager
def iperf():
    """The same of iperf3, which reads from and writes to the same few pages."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = str(s.getsockname()[1])

    def run():
        best = []
        for _ in range(2):
            out = subprocess.run([sys.argv[6], "-J", "-c", "127.0.0.1", "-p", port, "-P", str(STREAMS), "-n", str(SIZE)], check=True, stdout=subprocess.PIPE)
            end = json.loads(out.stdout)["end"]
            used = end["cpu_utilization_percent"]
            seconds = 8 * SIZE / end["sum_received"]["bits_per_second"]
            best.append((seconds, (used["host_total"] + used["remote_total"]) / 100 * end["sum_received"]["seconds"]))
        return min(best)

    server = subprocess.Popen([sys.argv[6], "-s", "-B", "127.0.0.1", "-p", port], stdout=subprocess.DEVNULL, stderr=2)
    try:
        until("iperf3 listens", lambda: subprocess.run(["ss", "-Hltn", f"sport = :{port}"], stdout=subprocess.PIPE).stdout)
        yield run
    finally:
        server.kill()
        server.wait()


def up(*flags):
    """Two nodes, and what ends them."""
    if NAME == "ray":
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": STORE}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.add_node(**node)
        api.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        return cluster.shutdown
    name = f"transfer-{os.getpid()}"
    env = {**os.environ, "LD_LIBRARY_PATH": sys.argv[7]} if "--fabric" in flags else None
    subprocess.run(["maniple", "up", "--cluster", name, "--fake-nodes", "2", "--cpus", "1", "--object-store-memory", f"{STORE // MIB}M", *flags], stdout=2, check=True, env=env)
    api.init(name, **QUIET)
    return lambda: subprocess.run(["maniple", "down", "--now", "--cluster", name], stdout=2)


@api.remote(num_cpus=1)
class There:
    def get(self, refs):
        began = time.perf_counter()
        value = api.get(refs[0])
        return time.perf_counter() - began, int(value[0]) + int(value[-1]), len(value)


def one(there, size):
    """Seconds for a value to be there."""
    ref = api.put(VALUES[size])
    ask("begin")
    took, ends, length = api.get(there.get.remote([ref]), timeout=120)
    ask("end")
    assert (ends, length) == (14, size), (ends, length)
    del ref
    time.sleep(0.3 if size > MIB else 0.02)
    return took


def stores():
    """What each node says of its store."""
    from maniple._core.session import current

    return [node["store"] for node in current().query("stores")["nodes"]]


def by_fabric():
    """Bytes that came by the fabric so far."""
    return sum(store.get("fabric_received", 0) for store in stores())


def measured(name, beside, *flags, than=None):
    """Two nodes, and values that go from one to the other, and GB/s of them. beside: what runs before each. than: GB/s to compare with. The bench adds
    what the last one took of all processors."""
    with part(name), beside() if beside else contextlib.nullcontext() as plain:
        end = up(*flags)
        try:
            until("both nodes are up", lambda: sum(n["Alive"] for n in api.nodes()) == 2)
            here = api.get_runtime_context().get_node_id()
            other = next(n["NodeID"] for n in api.nodes() if n["NodeID"] != here)
            there = There.options(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(other, soft=False)).remote()
            one(there, MIB)
            fabric = "--fabric" in flags
            if fabric:  # which a node opens when it has memory for values
                until("the fabric is open", lambda: all(store.get("fabric") for store in stores()))
            small = sorted(one(there, MIB) for _ in range(10))[5]
            one(there, SIZE)
            before = by_fabric() if fabric else 0
            took, bares = [], []
            for _ in range(TIMES):
                if plain:
                    bares.append(plain())
                took.append(one(there, SIZE))
            more = {"share": min(bares)[0] / min(took), "bare": SIZE / min(bares)[0] / 1e9, "bare cpu": min(cpu for _, cpu in bares) / SIZE * GIB} if bares else {}
            if fabric and by_fabric() - before < TIMES * SIZE:
                raise RuntimeError(f"{by_fabric() - before} bytes came by the fabric, of {TIMES * SIZE}")
            print("took", took, "beside", bares, file=sys.stderr)
            rate = SIZE / min(took) / 1e9
            if than:
                more["share"] = rate / than
            say(name, rate=rate, small=small * 1e3, gib=SIZE / GIB, **more)
            api.shutdown()
            return rate
        finally:
            end()


if NAME == "ray":
    measured("node to node", None)
else:
    measured("node to node", bare, "--no-same-host-handover")
    clear = measured("unencrypted", iperf, "--no-same-host-handover", "--clear-values", "127.0.0.0/8")
    if sys.argv[7]:
        measured("by the fabric", None, "--no-same-host-handover", "--clear-values", "127.0.0.0/8", "--fabric", "tcp", than=clear)
    measured("one machine", None)
