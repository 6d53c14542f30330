"""What the loop hands to, and takes from, data order, checkpoints and telemetry.

The loop knows modules, optimisers and process groups; the parts below know files, digests and clocks. They meet here.
A step is numbered from 1; `LoopState.step` counts the steps done, so a fresh run has 0 and trains step 1 next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from opt_api.documents.manifests import CheckpointManifest, Lineage, RunningValues, ScalerState
from opt_api.training.resilience import Section
from opt_trainer.checkpoint.job import Outcome


@dataclass(frozen=True, slots=True)
class LocalTensor:
    """A contiguous box of a global tensor, held by this rank.

    Parameters, Adam's moments and anything else that is saved. The tensor is aliased, not copied: saving reads it,
    loading writes into it.

    Attributes:
        name: Name in the checkpoint, the same for every box of one tensor and for every layout, such as
            `model.decoder.embed_tokens.weight` or `exp_avg.decoder.embed_tokens.weight`.
        tensor: The local values, of shape `shape`; need not be contiguous in memory.
        global_shape: Shape of the whole tensor.
        offset: Where the box begins, per dimension. A rank with no part of the tensor has a dimension of size 0.
        owner: Whether this rank writes the box. Of replicas, exactly one does; all of them load.
    """

    name: str
    tensor: torch.Tensor
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    owner: bool = True


@dataclass(frozen=True, slots=True)
class LoopState:
    """Everything of a run that is not a tensor of the model or the optimiser.

    The data order is a pure function of (seed, step) and so has no state of its own.

    Attributes:
        step: Optimiser steps done, skipped ones included.
        tokens: Tokens trained on.
        scaler: State of the dynamic loss scale; None without float16.
        applied_change: Sequence number of the last live change in force; 0 for none.
        running: Values of the fields that may change while running, as they are now in force.
        rng: This rank's generator states, opaque; empty if the loop derives its generators from (seed, step, rank).
            It comes back empty when the world size differs from the one that saved.
        loss, activation_norm, validation_loss: Newest readings, for whoever chooses a checkpoint to go back to.
    """

    step: int = 0
    tokens: int = 0
    scaler: ScalerState | None = None
    applied_change: int = 0
    running: RunningValues | None = None
    rng: bytes = b""
    loss: float | None = None
    activation_norm: float | None = None
    validation_loss: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's share of one step's batch.

    Attributes:
        step: The step it is for.
        rows: int64 of shape (share, sequence_length + 1); inputs are [:, :-1], labels [:, 1:].
        blocks: Index of each row's block in the train split, for the audit and the exactly-once tests.
    """

    step: int
    rows: torch.Tensor
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a load gave.

    Attributes:
        state: To go on from.
        manifest: Of the checkpoint that was taken.
        lineage_parent: Digest of that manifest, for the lineage of later saves.
    """

    state: LoopState
    manifest: CheckpointManifest
    lineage_parent: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step, as the loop measured it; telemetry adds rates, utilisation, memory and seconds per section.

    Attributes:
        step: Steps done, this one included.
        tokens: Tokens trained on so far, over all ranks.
        step_tokens: Tokens of this step, over all ranks; 0 for a skipped batch.
        step_seconds: Wall time of the step.
        compute_seconds: This rank's own part of it, without waiting for peers; None if it cannot be told.
        gradient_norm: Global, before clipping.
        own_gradient_norm, own_parameter_norm: This rank's part of both norms; the same on all replicas of the part.
        loss_scale: None without float16.
        overflow: The update was left out because the gradients overflowed.
    """

    step: int
    tokens: int
    step_tokens: int
    loss: float
    learning_rate: float
    gradient_norm: float
    parameter_norm: float
    activation_norm: float
    step_seconds: float
    compute_seconds: float | None = None
    loss_scale: float | None = None
    overflow: bool = False
    applied_change: int = 0
    own_gradient_norm: float | None = None
    own_parameter_norm: float | None = None


class Order(Protocol):
    """Which blocks each step trains on: a pure function of (seed, step). See `opt_trainer.data.order.DataOrder`."""

    def skipped(self, step: int) -> bool:
        """Whether the step's batch is left out: the step counts, nothing is computed, the weights stay."""

    def blocks(self, step: int) -> Sequence[int]:
        """Blocks of the whole batch of a step, in batch order."""


class Loader(Protocol):
    """This rank's batches. See `opt_trainer.data.loader.BlockLoader`."""

    def seek(self, step: int) -> None:
        """Make `step` the next one; O(1), drops what was read ahead. Call it once before the first `next`."""

    def next(self) -> Batch:
        """Return this rank's share of the next step's batch (also of a skipped one, which the loop leaves aside).

        Raises:
            opt_store.Corrupt, opt_store.StoreError: A shard cannot be had.
        """

    def validation(self, source: str, batch_sequences: int, max_batches: int) -> Iterator[torch.Tensor]:
        """Yield this rank's share of a source's held-out batches, each int64 (rows, sequence_length + 1)."""

    def close(self) -> None:
        """Stop reading ahead."""


class Saver(Protocol):
    """Asynchronous checkpoints. See `opt_trainer.checkpoint.saver.CheckpointSaver`.

    The contract that keeps the stall small: after `save` returns, the tensors are read in the background, so they must
    not change until `before_update` has returned. Forward and backward only read them; call `before_update` right
    before the optimiser's step (and before anything else that writes into saved tensors).
    """

    @property
    def busy(self) -> bool:
        """Whether an earlier save is not durable yet; a periodic save is then better put off to a later step."""

    def save(self, tensors: Sequence[LocalTensor], state: LoopState, *, export: bool = False) -> None:
        """Begin a save; waits only if an earlier one still uses the staging memory.

        Raises:
            opt_trainer.checkpoint.saver.SaveFailed: An earlier save failed in the background.
        """

    def outcomes(self) -> Sequence[Outcome]:
        """What became of saves since the last call."""

    def before_update(self) -> float:
        """Wait until nothing reads the tensors any more; return the seconds waited."""

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the last save is durable, and its export written; return its step, or None if time ran out.

        Raises:
            opt_trainer.checkpoint.saver.SaveFailed: It could not be written; the message says why.
        """

    def close(self, timeout_s: float = 60.0) -> None:
        """Finish what was begun, within the bound, and end the writer process."""


class Restorer(Protocol):
    """Loads. See `opt_trainer.checkpoint.restore.CheckpointRestorer`."""

    def restore(self, tensors: Sequence[LocalTensor], *, step: int | None = None) -> Restored | None:
        """Fill the tensors in place from the newest good checkpoint; None if there is none.

        Call it on every rank with its own boxes. A checkpoint that fails its digests is marked Poisoned, with a word
        in the logbook, and the one before it is taken; all ranks must agree on the choice (`choose` on rank 0, then
        broadcast the step).

        Args:
            tensors: All boxes of this rank, replicas included.
            step: Take this checkpoint and no other.

        Raises:
            opt_trainer.checkpoint.errors.WrongCheckpoint: It is of another model; the message has both numbers.
        """


class Telemetry(Protocol):
    """Records. See `opt_trainer.telemetry.hub.TelemetryHub`."""

    def section(self, name: Section) -> AbstractContextManager[None]:
        """Time a part of the loop; heartbeats say which one a rank is in."""

    def at_step(self, step: int) -> None:
        """Tell that this step begins, for heartbeats."""

    def step(self, record: StepRecord) -> None:
        """Report a finished step."""

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Report validation loss per source, in nats per token."""

    def saved(self, step: int, stall_seconds: float) -> None:
        """Report a save that began, and how long training stood still for it."""

    def outcome(self, outcome: Outcome) -> None:
        """Report how far a save has come, or that it failed."""

    def progress(self, done: int, total: int) -> None:
        """Tell how many bytes of the current section's work are done; from any thread."""

    def close(self) -> None:
        """Flush and close every sink."""


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Who writes: goes into manifests, heartbeats and every log line.

    Attributes:
        run: Name of the training.
        attempt: Number of the attempt.
        rank, world_size: Of this process, over the gang.
        lineage: What the run is made from.
    """

    run: str
    attempt: int
    rank: int
    world_size: int
    lineage: Lineage
