"""Drivers of one Slurm job that nobody brought a cluster up for: each calls init() when it likes.

usage: at_once.py DIRECTORY  whoever starts the cluster is through first, the others work on
       at_once.py killed     dies with a cluster that it started
       at_once.py beside     starts another cluster beside the job's, on this node
"""

import os
import socket
import sys
import time

import maniple
from maniple import _init

how = sys.argv[1]


def nodes():
    return sorted(n["NodeID"] for n in maniple.nodes() if n["Alive"])


@maniple.remote
def host():
    return socket.gethostname()


if how == "beside":
    with maniple.init("local", resources={"disk": 2}):
        print("beside:", nodes() == [socket.gethostname()], maniple.get(host.options(resources={"disk": 2}).remote(), timeout=60) == socket.gethostname(), flush=True)
    maniple.init("auto")
    print("and then:", nodes(), flush=True)
    sys.exit()
maniple.init()
started = _init._guard is not None
print("nodes:", nodes(), flush=True)
assert len(nodes()) == 2
if how == "killed":
    assert started
    os.kill(os.getpid(), 9)
together = [os.path.join(sys.argv[1], f"up.{i}") for i in range(2)]  # whoever was quicker waits for the other one
open(together[int(os.environ["SLURM_PROCID"])], "w").close()
deadline = time.monotonic() + 30
while not all(map(os.path.exists, together)):
    assert time.monotonic() < deadline, "the other one did not come"
    time.sleep(0.05)
for _ in range(1 if started else 6):
    assert maniple.get(host.remote(), timeout=60)
    if not started:
        time.sleep(0.1)
print("through:", "started it" if started else "joined", flush=True)
