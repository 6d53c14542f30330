"""Savers, restorers and states to save, all real: the writer is a process, the store a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from opt_api.documents.manifests import Lineage, RunningValues, ScalerState
from opt_api.training.checkpointing import Retention
from opt_store import Store
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.checkpoint.restore import CheckpointRestorer
from opt_trainer.checkpoint.saver import CheckpointSaver, SaveSettings
from opt_trainer.state import LocalTensor, LoopState, RunIdentity
from support.plans import tiny_plan

RUN = "run"
Place = Path | StoreAddress
"""A folder store's folder, or any store."""
SHAPES = {
    "embed": ((50, 8), torch.float32),
    "half": ((7, 3), torch.float16),
    "brain": ((33,), torch.bfloat16),
    "count": ((), torch.int64),
    "small": ((5, 2), torch.int32),
    "bytes": ((11,), torch.uint8),
    "deep": ((4, 3, 5), torch.float32),
}


def whole_state(seed: int) -> dict[str, torch.Tensor]:
    """Every storable number format, with NaN, infinities and signed zeros in the bits."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (shape, dtype) in SHAPES.items():
        size = torch.empty(shape, dtype=dtype).nbytes
        bits = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator)
        state[name] = bits.view(dtype).reshape(shape)
    return state


def boxes(state: dict[str, torch.Tensor], rank: int = 0, ranks: int = 1) -> list[LocalTensor]:
    """The rank's rows of each tensor, uneven where they do not divide; scalars belong to rank 0."""
    made = []
    for name, tensor in state.items():
        if tensor.dim() == 0:
            made.append(LocalTensor(name, tensor, (), (), owner=rank == 0))
            continue
        rows = tensor.shape[0]
        a, b = rows * rank // ranks, rows * (rank + 1) // ranks
        made.append(LocalTensor(name, tensor[a:b], tuple(tensor.shape), (a, *(0,) * (tensor.dim() - 1))))
    return made


def columns(state: dict[str, torch.Tensor], rank: int, ranks: int) -> list[LocalTensor]:
    """The rank's columns of each matrix; everything else whole, written by rank 0."""
    made = []
    for name, tensor in state.items():
        if tensor.dim() < 2:
            made.append(LocalTensor(name, tensor, tuple(tensor.shape), (0,) * tensor.dim(), owner=rank == 0))
            continue
        wide = tensor.shape[1]
        a, b = wide * rank // ranks, wide * (rank + 1) // ranks
        made.append(LocalTensor(name, tensor[:, a:b], tuple(tensor.shape), (0, a, *(0,) * (tensor.dim() - 2))))
    return made


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[n].reshape(-1).view(torch.uint8), b[n].reshape(-1).view(torch.uint8)) for n in a
    )


def blank(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def loop_state(step: int, **more) -> LoopState:
    return LoopState(
        step=step,
        tokens=64 * step,
        scaler=ScalerState(scale=4.0, good_steps=3),
        running=RunningValues(learning_rate=1e-3, clip=1.0),
        loss=2.5,
        validation_loss={"manual": 3.0},
        **more,
    )


def identity(rank: int = 0, ranks: int = 1, attempt: int = 1) -> RunIdentity:
    return RunIdentity(RUN, attempt, rank, ranks, Lineage(code_version="test"))


def address_of(place: Place) -> StoreAddress:
    return place if isinstance(place, StoreAddress) else StoreAddress(url=place.as_uri())


def settings(folder: Place, *, chunk_bytes: int = 64, keep_last: int = 100, pinned=(), **more) -> SaveSettings:
    plan = tiny_plan().checkpointing.model_copy(
        update={"retention": Retention(keep_last=keep_last), "pinned": tuple(pinned)}
    )
    return SaveSettings(
        architecture=tiny_plan().architecture,
        store=address_of(folder),
        plan=plan,
        chunk_bytes=chunk_bytes,
        peers_deadline_s=20,
        **{"finite": False, **more},
    )


def store_in(folder: Place) -> Store:
    if isinstance(folder, Path):
        folder.mkdir(exist_ok=True)
    return address_of(folder).open()


def save_all(folder: Place, state: dict[str, torch.Tensor], step: int, *, ranks: int = 1, attempt: int = 1, cut=boxes):
    """One save by `ranks` savers at once."""
    savers = [CheckpointSaver(identity(r, ranks, attempt), settings(folder)) for r in range(ranks)]
    for rank, saver in enumerate(savers):
        saver.save(cut(state, rank, ranks), loop_state(step))
    for saver in savers:
        assert saver.wait(120) == step
        saver.close()


def restorer(folder: Place, rank: int = 0, ranks: int = 1, **more) -> CheckpointRestorer:
    return CheckpointRestorer(store_in(folder), identity(rank, ranks), tiny_plan().architecture, **more)
