"""Adds up the ranks of all processes with torch.distributed; an ordinary program for torchrun.

It fails if torchrun did not start it, or if the sum is wrong.
"""

import os
import socket

import torch
import torch.distributed as dist

assert "TORCHELASTIC_RUN_ID" in os.environ, "start it with torchrun"
dist.init_process_group("gloo")
total = torch.tensor([float(dist.get_rank())])
dist.all_reduce(total)
world = dist.get_world_size()
assert total.item() == world * (world - 1) / 2, total
print(f"torchrun rank {dist.get_rank()} of {world} on {socket.gethostname()}: sum {total.item():g}", flush=True)
dist.destroy_process_group()
