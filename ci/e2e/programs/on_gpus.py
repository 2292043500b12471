"""Trains a small network on random numbers with DistributedDataParallel and says what it sees of GPUs.

An ordinary torch program for GPUs: it takes the device LOCAL_RANK names among those that are visible, as
under torchrun, and the only one when there is one. Backend nccl, or gloo when ranks share a GPU.

Prints one JSON line: rank, visible (number of GPUs), masks (the variables that hide GPUs), device (its PCI
bus ID), first and last loss.
"""

import argparse
import json
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="nccl", choices=["nccl", "gloo"])
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()

    names = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]
    visible = torch.cuda.device_count()
    seen = {"rank": int(os.environ.get("RANK", -1)), "visible": visible, "masks": {n: os.environ[n] for n in names if n in os.environ}}
    if visible:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % visible)
        seen["device"] = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        dist.init_process_group(args.backend)
        torch.manual_seed(0)
        model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1)).cuda())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        x = torch.randn(512, 64, device="cuda")
        y = x.sum(1, keepdim=True) / 8
        for step in range(args.steps):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step == 0:
                seen["first"] = loss.item()
        seen["last"] = loss.item()
        dist.destroy_process_group()
    print(json.dumps(seen), flush=True)


main()
