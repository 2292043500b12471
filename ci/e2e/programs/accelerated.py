"""Fits a line with Hugging Face's accelerate on CPUs; an ordinary program for `accelerate launch`.

It fails if the processes do not end with the same weights, or with wrong ones.
"""

import os
import socket

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
accelerator = Accelerator(cpu=True)
x = torch.linspace(-1, 1, 256).unsqueeze(1)
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(TensorDataset(x, 3 * x + 1), batch_size=16, shuffle=True))
for _ in range(20):
    for xs, ys in loader:
        optimizer.zero_grad()
        accelerator.backward(torch.nn.functional.mse_loss(model(xs), ys))
        optimizer.step()
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
everywhere = accelerator.gather(weights).reshape(accelerator.num_processes, -1)
assert torch.allclose(everywhere, everywhere[0].expand_as(everywhere)), everywhere
assert torch.allclose(weights, torch.tensor([3.0, 1.0]), atol=0.05), weights
print(f"accelerate rank {accelerator.process_index} of {accelerator.num_processes} on {socket.gethostname()}: {weights.tolist()}", flush=True)
accelerator.end_training()
os._exit(0)  # torch 2.15: one exit in twenty aborts below Python, "terminate called without an active exception", with or without a launcher
