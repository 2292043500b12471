"""Trains a small convolutional network on scikit-learn's handwritten digits with DistributedDataParallel.

An ordinary torch program: it reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT from the
environment, as it would under torchrun, and knows nothing about what started it.

Writes to --out: checkpoint.pt after every epoch (and resumes from it), metrics.json, curves.png. Reads digits.npz in --data, if that is
given. Both are paths, or whatever else fsspec knows, such as hdfs:///user/me/digits.
Exits with 1 when the held-out accuracy stays under --target.
"""

import argparse
import io
import json
import os
import sys
import time

import fsspec
import numpy
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16, help="samples per rank and step")
    parser.add_argument("--workers", type=int, default=1, help="DataLoader worker processes per rank")
    parser.add_argument("--out", default="digits-out")
    parser.add_argument("--data", default="", help="directory of digits.npz (default: that of scikit-learn)")
    parser.add_argument("--target", type=float, default=0.95, help="held-out accuracy to reach")
    parser.add_argument("--crash-at", type=int, default=-1, metavar="EPOCH", help="rank 1 fails once before this epoch")
    return parser.parse_args()


def data(place):
    """Training and held-out sets: images (n, 1, 8, 8) in 0..1, labels (n,)."""
    if place:
        with fsspec.open(place.rstrip("/") + "/digits.npz", "rb") as file, numpy.load(file) as digits:
            images, labels = digits["images"], digits["target"]
    else:
        digits = load_digits()
        images, labels = digits.images, digits.target
    images = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(labels)
    train, held, train_labels, held_labels = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return TensorDataset(train, train_labels), TensorDataset(held, held_labels)


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10),
    )


def accuracy(model, held, rank, world):
    """Share of the held-out set that is classified right; each rank looks at its part."""
    images, labels = held.tensors
    with torch.no_grad():
        right = (model(images[rank::world]).argmax(1) == labels[rank::world]).sum()
    seen = torch.tensor([right.item(), len(labels[rank::world])], dtype=torch.float64)
    dist.all_reduce(seen)
    return (seen[0] / seen[1]).item()


def bar(done, total, text, final):
    """Overall progress: redrawn on a terminal, one line per epoch elsewhere."""
    width = 24
    filled = int(width * done / total)
    line = f"[{'#' * filled}{'.' * (width - filled)}] {text}"
    if sys.stdout.isatty():
        print(f"\r{line}", end="\n" if final else "", flush=True)
    elif final:
        print(line, flush=True)


def save(files, path, write):
    """Writes a file, which is whole whenever it is there."""
    with files.open(path + ".part", "wb") as file:
        write(file)
    files.mv(path + ".part", path)


def plot(history, file):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, left = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    left.plot(epochs, [entry["loss"] for entry in history], color="tab:blue", marker="o")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:blue")
    right = left.twinx()
    right.plot(epochs, [entry["accuracy"] for entry in history], color="tab:green", marker="s")
    right.set_ylabel("held-out accuracy", color="tab:green")
    right.set_ylim(0, 1.02)
    figure.savefig(file, format="png", dpi=120)


def main():
    options = arguments()
    start = time.time()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    train, held = data(options.data)
    model = DistributedDataParallel(network())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    sampler = DistributedSampler(train, world, rank, seed=0)
    loader = DataLoader(train, options.batch, sampler=sampler, num_workers=options.workers,
                        persistent_workers=options.workers > 0)
    files, out = fsspec.core.url_to_fs(options.out)
    files.makedirs(out, exist_ok=True)
    checkpoint = os.path.join(out, "checkpoint.pt")
    history, first = [], 0
    if files.exists(checkpoint):
        with files.open(checkpoint, "rb") as file:
            state = torch.load(io.BytesIO(file.read()), weights_only=True)
        model.module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history, first = state["history"], state["epoch"] + 1
        if rank == 0:
            print(f"resuming after epoch {state['epoch']}", flush=True)
    dist.barrier()

    for epoch in range(first, options.epochs):
        if options.crash_at == epoch and rank == min(1, world - 1):
            marker = os.path.join(out, "crashed")
            if not files.exists(marker):
                files.touch(marker)
                print(f"rank {rank} fails on purpose before epoch {epoch}", file=sys.stderr, flush=True)
                os._exit(3)
        sampler.set_epoch(epoch)
        total = torch.zeros(1)
        for step, (images, labels) in enumerate(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            if epoch == first and step == 0 and rank == 0:
                print(f"first step after {time.time() - start:.1f} s on {world} ranks", flush=True)
            if rank == 0 and step + 1 < len(loader):
                bar(epoch + (step + 1) / len(loader), options.epochs, f"epoch {epoch + 1}/{options.epochs}", final=False)
        dist.all_reduce(total)
        score = accuracy(model.module, held, rank, world)
        history.append({"epoch": epoch + 1, "loss": total.item() / len(loader) / world, "accuracy": score})
        if rank == 0:
            bar(epoch + 1, options.epochs, f"epoch {epoch + 1}/{options.epochs}  loss {history[-1]['loss']:.4f}  accuracy {score:.4f}", final=True)
            state = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "epoch": epoch}
            save(files, checkpoint, lambda file: torch.save(state, file))
        dist.barrier()

    if rank == 0:
        text = json.dumps({"world_size": world, "history": history}, indent=1)
        save(files, os.path.join(out, "metrics.json"), lambda file: file.write(text.encode()))
        save(files, os.path.join(out, "curves.png"), lambda file: plot(history, file))
        print(f"held-out accuracy {history[-1]['accuracy']:.4f}; {options.out}/curves.png shows all {len(history)} epochs", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    sys.exit(0 if history[-1]["accuracy"] >= options.target else 1)


if __name__ == "__main__":
    main()
