"""Saves of every layout, and loads of every save into every layout, on one gang of real workers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

from opt_api.documents.manifests import Lineage
from opt_api.documents.plan import Plan
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.checkpoint.peers import Alone, GroupPeers
from opt_trainer.checkpoint.restore import CheckpointRestorer
from opt_trainer.checkpoint.saver import CheckpointSaver, SaveSettings
from opt_trainer.loop.tensors import saved_tensors
from opt_trainer.parallelism.build import build
from opt_trainer.recipe.optimiser import optimiser_of
from opt_trainer.state import LocalTensor, LoopState, RunIdentity


def tensors_of(plan: Plan, rank: int) -> list[LocalTensor]:
    """What this rank would save."""
    worker = build(plan, rank)
    return saved_tensors(worker, optimiser_of(worker, plan))


def expected(t: LocalTensor) -> torch.Tensor:
    """What a box must hold: a number that is different for every element of every tensor, whatever the layout."""
    whole = torch.arange(t.tensor.new_zeros(t.global_shape).numel(), dtype=torch.int64).view(t.global_shape)
    here = whole[tuple(slice(o, o + n) for o, n in zip(t.offset, t.tensor.shape, strict=True))]
    return (here * 31 + zlib.crc32(t.name.encode()) % 1_000_003).to(t.tensor.dtype)


def save_each(rank: int, folder: Path, plans: Mapping[str, bytes]) -> None:
    """Save every layout under a run of its own name."""
    for name, data in plans.items():
        plan = Plan.from_bytes(data)
        tensors = tensors_of(plan, rank)
        with torch.no_grad():
            for t in tensors:
                t.tensor.copy_(expected(t))
        who = RunIdentity(name, 0, rank, plan.layout.world_size, Lineage(code_version="test"))
        saver = CheckpointSaver(who, SaveSettings(plan.architecture, address(folder), plan.checkpointing))
        saver.save(tensors, LoopState(step=1))
        assert saver.wait(120) == 1
        saver.close()


def load_each(rank: int, folder: Path, plans: Mapping[str, bytes], runs: list[str]) -> dict[str, list[str]]:
    """Load every run's save into every layout; returns, for each layout, what came back otherwise than expected."""
    wrong: dict[str, list[str]] = {}
    for name, data in plans.items():
        plan = Plan.from_bytes(data)
        tensors, world = tensors_of(plan, rank), plan.layout.world_size
        for run in runs:
            with torch.no_grad():
                for t in tensors:
                    t.tensor.zero_()
            who = RunIdentity(run, 0, rank, world, Lineage(code_version="test"))
            peers = Alone() if world == 1 else GroupPeers()
            CheckpointRestorer(address(folder).open(), who, plan.architecture, peers=peers).restore(tensors)
            found = [t.name for t in tensors if not torch.equal(t.tensor, expected(t))]
            if found:
                wrong[f"{run} into {name}"] = found
    return wrong


def address(folder: Path) -> StoreAddress:
    return StoreAddress(url=folder.as_uri())
