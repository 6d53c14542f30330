"""Reads a plan, takes a few optimiser steps of its model as one worker, and prints the peak of the process in bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from opt_api.documents.plan import Plan
from opt_model import OPT, LossSum

torch.set_num_threads(1)
plan = Plan.from_bytes(sys.stdin.buffer.read())
model = OPT(plan.architecture).train()
for block in model.layers:
    block.recompute = plan.layout.activation_checkpointing == "full"
optimiser = torch.optim.AdamW(model.parameters(), fused=True)
rows = torch.randint(4, plan.architecture.vocabulary_size, (len(plan.share(0)), plan.sequence_length + 1))
for _ in range(4):
    found = model(rows[:, :-1], rows[:, 1:])
    assert isinstance(found, LossSum)
    found.loss.backward()
    optimiser.step()
    optimiser.zero_grad()
high_water = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(high_water.split()[1]) * 1024)
