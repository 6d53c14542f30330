"""Going on from the newest checkpoint that is whole; one that is not is marked, told, and passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import torch

from opt_api.architecture import Architecture
from opt_api.documents.keys import manifest_key
from opt_api.documents.manifests import CheckpointManifest
from opt_store import Corrupt, NotFound, Store, digest_of
from opt_trainer.checkpoint.catalog import Found, catalog, loadable
from opt_trainer.checkpoint.contents import Contents
from opt_trainer.checkpoint.errors import BadCheckpoint, NoGoodCheckpoint, WrongCheckpoint
from opt_trainer.checkpoint.fetching import Progress, fill
from opt_trainer.checkpoint.logbook import tell_poisoned
from opt_trainer.checkpoint.marks import mark
from opt_trainer.checkpoint.peers import Alone, Peers
from opt_trainer.checkpoint.saver import RNG
from opt_trainer.checkpoint.sealing import open_sealed
from opt_trainer.state import LocalTensor, LoopState, Restored, RunIdentity


class CheckpointRestorer:
    """A `Restorer`; see there.

    Args:
        store: Where the run's checkpoints are.
        identity: Who loads.
        architecture: The model that is loaded into.
        peers: The other ranks.
        parallel: Fetches in flight.
        progress: Told of bytes fetched by this rank.
    """

    def __init__(
        self,
        store: Store,
        identity: RunIdentity,
        architecture: Architecture,
        *,
        peers: Peers | None = None,
        parallel: int = 4,
        progress: Progress | None = None,
    ) -> None:
        self._store, self._identity, self._architecture = store, identity, architecture
        self._peers: Peers = peers or Alone()
        self._parallel, self._progress = parallel, progress

    def restore(self, tensors: Sequence[LocalTensor], *, step: int | None = None) -> Restored | None:
        """See `Restorer.restore`.

        Raises:
            NoGoodCheckpoint: There are checkpoints, and none can be loaded; never a silent start from nothing.
            WrongCheckpoint: The newest is sound, but of another model.
        """
        found = catalog(self._store, self._identity.run) if self._peers.first else []
        offers = self._offers([f for f in loadable(found) if step in {None, f.step}])
        while offer := self._peers.from_first(next(offers, None)):
            prefix, _, data = offer.partition(b"\n")
            restored, problem = self._attempt(prefix.decode(), data, tensors)
            problems = [text for text in self._peers.all(problem) if text]
            if not problems:
                return restored
            self._poison(prefix.decode(), digest_of(data), problems[0])
        if self._peers.from_first(b"some" if step is not None or any(f.complete for f in found) else None):
            which = "" if step is None else f" of step {step}"
            raise NoGoodCheckpoint(
                f"run {self._identity.run!r}: none of its checkpoints{which} can be loaded; the Poisoned marks beside "
                "them say why; restore an object from another copy and remove the mark, or begin a new run"
            )
        return None

    def _offers(self, found: Sequence[Found]) -> Iterator[bytes]:
        """Prefix and manifest of each checkpoint whose manifest is sound; the others are marked on the way."""
        for f in found:
            key = manifest_key(f.prefix)
            try:
                data = self._store.get(key)
                open_sealed(data, repr(key))
            except (BadCheckpoint, Corrupt) as problem:
                self._poison(f.prefix, None, str(problem))
            except NotFound:
                continue  # deleted since the listing
            else:
                yield f.prefix.encode() + b"\n" + data

    def _attempt(self, prefix: str, data: bytes, tensors: Sequence[LocalTensor]) -> tuple[Restored | None, str]:
        """Load one checkpoint; what is wrong with it, if anything, as text.

        Raises:
            WrongCheckpoint, opt_store.StoreError: It is no fault of the checkpoint's bytes; the other ranks see this
                rank end.
        """
        manifest = open_sealed(data, repr(manifest_key(prefix)))
        if manifest.architecture != self._architecture:
            raise WrongCheckpoint(_difference(prefix, manifest.architecture, self._architecture))
        rng = self._rng(manifest)
        try:
            contents = Contents(self._store, prefix, manifest, parallel=self._parallel)
            fill(contents, [*tensors, *rng], parallel=self._parallel, progress=self._progress)
        except BadCheckpoint as problem:
            return None, f"rank {self._identity.rank}: {problem}"
        state = _state(manifest, b"".join(t.tensor.numpy().tobytes() for t in rng))
        return Restored(state, manifest, digest_of(data)), ""

    def _rng(self, manifest: CheckpointManifest) -> list[LocalTensor]:
        """Room for this rank's generator states, if the same number of ranks saved them."""
        shape = next((entry.shape for entry in manifest.tensors if entry.name == RNG), None)
        if manifest.world_size != self._identity.world_size or shape is None:
            return []
        return [LocalTensor(RNG, torch.empty((1, shape[1]), dtype=torch.uint8), shape, (self._identity.rank, 0))]

    def _poison(self, prefix: str, manifest: str | None, reason: str) -> None:
        if not self._peers.first:
            return
        mark(self._store, prefix, "Poisoned", manifest, by="restore", now=datetime.now(UTC), reason=reason)
        tell_poisoned(self._store, self._identity.run, self._identity.attempt, prefix, reason)


def _state(manifest: CheckpointManifest, rng: bytes) -> LoopState:
    return LoopState(
        step=manifest.step,
        tokens=manifest.tokens,
        scaler=manifest.scaler,
        applied_change=manifest.applied_change,
        running=manifest.running,
        rng=rng,
        loss=manifest.loss,
        activation_norm=manifest.activation_norm,
        validation_loss=manifest.validation_loss,
    )


def _difference(prefix: str, stored: Architecture, wanted: Architecture) -> str:
    theirs, ours = stored.wire(), wanted.wire()
    fields = [
        f"{name} {theirs.get(name)} there, {ours.get(name)} here" for name in ours if theirs.get(name) != ours[name]
    ]
    return f"checkpoint {prefix!r} is of another model: {'; '.join(fields)}"
