"""A worker entry that trains a tiny model over gloo: deterministic, independent of when it was stopped and resumed.

Its first rank appends `step loss` to losses.txt beside the hosts' folders; the loss is written as exact hexadecimal.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from opt_api.documents.exit_report import ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_runtime.rendezvous.joining import join
from opt_runtime.worker.context import WorkerContext

WIDTH = 16


class Loop:
    def __init__(self, context: WorkerContext) -> None:
        self.context, self.order = context, context.order
        self.sequence = self.step = 0
        self.loss: float | None = None
        self.beat("init")
        dist.init_process_group("gloo", store=join(self.order), rank=self.order.rank, world_size=self.order.world_size)
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))
        self.tensors = {name: p.data for name, p in self.model.named_parameters()}

    def beat(self, section: str, **more) -> None:
        self.sequence += 1
        order = self.order
        self.context.heartbeat(
            Heartbeat(
                run=order.run, attempt=order.attempt, rank=order.rank, world_size=order.world_size, host=order.host,
                pid=os.getpid(), sequence=self.sequence, section=section, step=self.step, time=time.time(), **more,
            )
        )  # fmt: skip

    def restore(self) -> None:
        self.beat("load")
        if not self.order.from_memory:
            return
        self.step = self.order.restore_step
        parts = self.context.memory.load(self.step)
        for name, tensor in self.tensors.items():
            tensor.copy_(torch.frombuffer(bytearray(parts[name]), dtype=tensor.dtype).view_as(tensor))

    def train_step(self) -> None:
        if os.environ.get("TINY_CRASH_STEP") == str(self.step + 1):
            raise ArithmeticError("this step always fails")
        batch = torch.Generator().manual_seed(self.step + 1)
        rows = torch.randn(8, WIDTH, generator=batch)
        mine = rows.chunk(self.order.world_size)[self.order.rank]
        loss = (self.model(mine) - mine.sum(1, keepdim=True)).square().sum() / 8
        self.model.zero_grad()
        loss.backward()
        if os.environ.get("TINY_NAN_STEP") == str(self.step + 1) and not self.told_nan():
            self.model[0].weight.grad[0, 0] = float("nan")
        summed = torch.cat([loss.detach().view(1), *(p.grad.flatten() for p in self.model.parameters())])
        self.context.memory.settle()
        dist.all_reduce(summed)
        self.loss = float(summed[0])
        if not torch.isfinite(summed).all():
            self.loss = float("nan")
        at = 1
        for p in self.model.parameters():
            p.data -= 0.01 * summed[at : at + p.numel()].view_as(p)
            at += p.numel()
        self.step += 1

    def told_nan(self) -> bool:
        """Whether the fault was given before: a particle hits once."""
        mark = Path(self.order.directory).parent / "nan-given"
        if self.order.rank != 0 or mark.exists():
            return True
        mark.touch()
        return False

    def after_step(self) -> None:
        if self.order.rank == 0:  # before the step is published: a killed rank then writes it twice, not never
            with (Path(self.order.directory).parent / "losses.txt").open("a") as file:
                file.write(f"{self.step} {self.loss.hex()}\n")
        self.context.memory.publish(self.step, {n: t.numpy().data for n, t in self.tensors.items()})
        self.beat("step", loss=self.loss)

    def end(self, cause: str, message: str = "done") -> ExitReport:
        return ExitReport(
            cause=cause, message=message, attempt=self.order.attempt, rank=self.order.rank, step=self.step
        )


def run(context: WorkerContext) -> ExitReport:
    torch.set_num_threads(1)
    loop = Loop(context)
    pause = float(os.environ.get("TINY_STEP_SECONDS", "0.02"))
    loop.restore()
    while loop.step < int(os.environ["TINY_STEPS"]):
        try:
            loop.train_step()
        except RuntimeError as fault:
            return loop.end("LostPeer", str(fault)[:500])
        if not math.isfinite(loop.loss):
            loop.step -= 1  # as the trainer: no heartbeat of that step, and the report names the one before
            return loop.end("Diverged", f"the loss of step {loop.step + 1} is not finite")
        loop.after_step()
        if context.stopping:
            return loop.end("Stopped")
        time.sleep(pause)
    return loop.end("Completed")
