"""The trainer's side of a save: start the copy, tell the writer process, keep score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from opt_api.architecture import Architecture
from opt_api.documents.keys import checkpoint_prefix
from opt_api.documents.manifests import CheckpointManifest
from opt_api.documents.plan import CheckpointPlan
from opt_trainer.checkpoint.copier import Copier
from opt_trainer.checkpoint.errors import Fenced
from opt_trainer.checkpoint.image import Image, lay_out, owned
from opt_trainer.checkpoint.job import (
    CHUNK_BYTES,
    ExportRequest,
    Outcome,
    RetentionPolicy,
    SaveJob,
    StoreAddress,
    WriterConfig,
)
from opt_trainer.checkpoint.link import WriterLink
from opt_trainer.checkpoint.staging import Staging
from opt_trainer.state import LocalTensor, LoopState, RunIdentity

RNG = "rng"
"""The tensor that holds the ranks' generator states, uint8 (world size, bytes): a row each."""


@dataclass(frozen=True, slots=True)
class SaveSettings:
    """What does not change from save to save.

    Attributes:
        architecture: Of the model, into every manifest.
        store: Where checkpoints go.
        plan: Retention and pinned steps.
        export: How exports are written, when one is asked for.
        chunk_bytes: Unit of digests.
        peers_deadline_s: How long writers wait for one another.
        finite: Whether a value that is not finite fails the save.
        at_once: Start the writer now; after a fault it is left to the first save, since the first step is waited for.
    """

    architecture: Architecture
    store: StoreAddress
    plan: CheckpointPlan
    export: ExportRequest = field(default_factory=ExportRequest)
    chunk_bytes: int = CHUNK_BYTES
    peers_deadline_s: float = 1800
    finite: bool = True
    at_once: bool = True


class CheckpointSaver:
    """A `Saver`; see there for the contract with the loop."""

    def __init__(self, identity: RunIdentity, settings: SaveSettings) -> None:
        self._identity, self._settings = identity, settings
        self._staging = Staging()
        self._copier = Copier(self._staging)
        self._link = WriterLink(
            WriterConfig(
                store=settings.store,
                run=identity.run,
                attempt=identity.attempt,
                rank=identity.rank,
                world_size=identity.world_size,
                descriptor=self._staging.descriptor,
                peers_deadline_s=settings.peers_deadline_s,
            ),
            at_once=settings.at_once,
        )
        self._last: int | None = None
        self._layout: tuple[list[object], Image] | None = None
        self.stall_seconds = 0.0

    @property
    def busy(self) -> bool:
        """See `Saver.busy`."""
        return self._link.pending is not None

    @property
    def durable(self) -> Outcome | None:
        """Outcome of the newest save that became durable."""
        return self._link.durable

    def outcomes(self) -> list[Outcome]:
        """What the writer reported since the last call, for telemetry and the logbook."""
        return self._link.take_outcomes()

    def prepare(self, tensors: Sequence[LocalTensor], rng: bytes = b"") -> None:
        """Allocate the staging memory in the background, so that the first save is as short as the others."""
        self._copier.prepare(self._image(owned([*tensors, *self._rng(rng)])).size)

    def save(self, tensors: Sequence[LocalTensor], state: LoopState, *, export: bool = False) -> None:
        """See `Saver.save`. A step that was saved already is not saved again."""
        began = time.perf_counter()
        self.before_update()
        if state.step == self._last:
            return
        if self._link.fenced:
            raise Fenced(self._link.fenced)
        mine = owned([*tensors, *self._rng(state.rng)])
        image = self._image(mine)
        self._link.announce(state.step, export=export and self._identity.rank == 0)

        def done() -> None:
            self._link.send(self._job(image, state, export=export))

        self._copier.start(image, mine, done=done, failed=self._link.give_up)
        self._last = state.step
        self.stall_seconds = time.perf_counter() - began

    def before_update(self) -> float:
        """See `Saver.before_update`. A copy that failed is told by `wait` and `outcomes`, and stops no training."""
        waited = self._copier.join()
        self.stall_seconds += waited
        return waited

    def wait(self, timeout_s: float | None = None) -> int | None:
        """See `Saver.wait`; None also if nothing was ever saved."""
        self.before_update()
        return self._link.wait(timeout_s)

    def close(self, timeout_s: float = 60.0) -> None:
        """See `Saver.close`."""
        self.before_update()
        self._copier.close()
        self._link.close(timeout_s)
        self._staging.close()

    def _image(self, mine: Sequence[LocalTensor]) -> Image:
        """The layout, worked out anew only when names, formats or shapes have changed."""
        like: list[object] = [(t.name, t.tensor.dtype, t.tensor.shape, t.global_shape, t.offset) for t in mine]
        if self._layout is None or self._layout[0] != like:
            self._layout = (like, lay_out(mine))
        return self._layout[1]

    def _rng(self, state: bytes) -> list[LocalTensor]:
        if not state:
            return []
        row = torch.frombuffer(bytearray(state), dtype=torch.uint8).view(1, -1)
        return [LocalTensor(RNG, row, (self._identity.world_size, len(state)), (self._identity.rank, 0))]

    def _job(self, image: Image, state: LoopState, *, export: bool) -> SaveJob:
        plan = self._settings.plan
        return SaveJob(
            prefix=checkpoint_prefix(self._identity.run, state.step, self._identity.attempt),
            size=image.size,
            pieces=image.pieces,
            draft=self._draft(state),
            retention=RetentionPolicy(retention=plan.retention, pinned=plan.pinned),
            finite=self._settings.finite,
            export=self._settings.export if export else None,
        )

    def _draft(self, state: LoopState) -> CheckpointManifest:
        return CheckpointManifest(
            run=self._identity.run,
            attempt=self._identity.attempt,
            step=state.step,
            time=datetime.now(UTC),
            architecture=self._settings.architecture,
            world_size=self._identity.world_size,
            objects=(),
            tensors=(),
            chunk_bytes=self._settings.chunk_bytes,
            tokens=state.tokens,
            loss=state.loss,
            loss_scale=state.scaler.scale if state.scaler else None,
            activation_norm=state.activation_norm,
            validation_loss=dict(state.validation_loss),
            applied_change=state.applied_change,
            scaler=state.scaler,
            running=state.running,
            lineage=self._identity.lineage,
        )
