"""Reads a plan, takes a few optimiser steps of its model as one worker, and prints two numbers of bytes: the peak of
the process, and how much of it were pages of files (libraries).

How many of those are mapped depends on what the machine's page cache holds already, and the kernel takes them back when
memory is short.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from opt_api.documents.plan import Plan
from opt_model.opt import OPT, LossSum

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
status = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
kibibytes = {name: int(value.split()[0]) for name, _, value in status if name in ("VmHWM", "RssFile")}
print(kibibytes["VmHWM"] * 1024, kibibytes["RssFile"] * 1024)
