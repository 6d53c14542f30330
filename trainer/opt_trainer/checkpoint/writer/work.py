"""One save, from staged image to verified checkpoint."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from opt_api.documents.keys import index_name, object_name
from opt_api.documents.manifests import CheckpointIndex, CheckpointObject, ObjectEntry
from opt_store import Corrupt, Store, StoreError, digest_of
from opt_trainer.checkpoint import fence
from opt_trainer.checkpoint.errors import Fenced, SaveFailed
from opt_trainer.checkpoint.job import CheckpointPart, Outcome, SaveJob, WriterConfig
from opt_trainer.checkpoint.marks import mark
from opt_trainer.checkpoint.retention import retain
from opt_trainer.checkpoint.writer.digests import check_finite, entry_of, groups_of, read_back
from opt_trainer.checkpoint.writer.export import run_export
from opt_trainer.checkpoint.writer.gathering import Gathering

_UPLOADS = 3
"""Times an object is written when it does not read back as it was written."""


class Writer:
    """Does one rank's jobs, one after the other.

    Args:
        config: Who and where.
        store: Opened from the config.
        parent: Process id of the trainer.
        report: Told how far a save is.
    """

    def __init__(self, config: WriterConfig, store: Store, parent: int, report: Callable[[Outcome], None]) -> None:
        self._config, self._store, self._report = config, store, report
        self._gathering = Gathering(store, config, parent)
        self._map: mmap.mmap | None = None

    def begin(self) -> None:
        """Announce the attempt in the store; a fault shows again, and is told, at the first save."""
        if self._config.rank == 0:
            with suppress(StoreError, Fenced):
                fence.hold(self._store, self._config.run, self._config.attempt)

    def save(self, job: SaveJob) -> None:
        """Do one job and report its outcome; nothing is raised for what goes wrong outside."""
        began = time.monotonic()

        def tell(stage: str, message: str = "", **more: object) -> None:
            self._report(
                Outcome.model_validate(
                    {
                        "step": job.draft.step,
                        "stage": stage,
                        "message": message,
                        "seconds": time.monotonic() - began,
                        **more,
                    }
                )
            )

        try:
            self._stage(job)
            tell("Stored", storedBytes=job.size)
            tell("Complete", manifest=self._publish(job))
            if job.export and self._config.rank == 0:
                run_export(self._config.store, job.prefix, job.export)
                tell("Exported")
        except Fenced as problem:
            tell("Fenced", str(problem))
        except (SaveFailed, StoreError, OSError, ValueError) as problem:
            tell("Failed", f"checkpoint of step {job.draft.step}, rank {self._config.rank}: {problem}")

    def _stage(self, job: SaveJob) -> None:
        """Upload this rank's object and its index, read them back, and leave the rank's part for rank 0."""
        with self._image(job.size) as image:
            header = image[: job.pieces[0].start if job.pieces else job.size]
            chunk = job.draft.chunk_bytes
            for piece in job.pieces if job.finite else ():
                check_finite(piece, image, chunk)
            index = CheckpointIndex(tensors=tuple(entry_of(piece, image, chunk) for piece in job.pieces))
            stored = self._put(job.prefix, object_name(self._config.rank), image)
            header_size, header_digest = len(header), digest_of(header)
            header.release()
        groups = groups_of(job.pieces)
        entry = CheckpointObject(
            **stored.model_dump(),
            header_size=header_size,
            header_digest=header_digest,
            index=self._put(job.prefix, index_name(self._config.rank), memoryview(index.to_bytes())),
            boxes=tuple(dict.fromkeys(group.box for group in groups)),
        )
        self._gathering.leave(job.prefix, CheckpointPart(rank=self._config.rank, object=entry, groups=groups))

    def _put(self, prefix: str, name: str, data: memoryview) -> ObjectEntry:
        """Upload, and read back."""
        key = f"{prefix}/{name}"
        for left in reversed(range(_UPLOADS)):
            info = self._store.upload(key, [data])
            try:
                read_back(self._store, key, data)
                break
            except Corrupt:
                if not left:
                    raise
        assert info.digest is not None, "the store records the digests of what it is given"
        return ObjectEntry(key=name, size=info.size, digest=info.digest)

    def _publish(self, job: SaveJob) -> str:
        """Rank 0 writes the manifest when all parts are there; the others wait for it. Returns its digest."""
        if self._config.rank:
            return self._gathering.await_manifest(job.prefix)
        manifest = self._gathering.merge(job.prefix, job.draft)
        fence.hold(self._store, self._config.run, self._config.attempt)
        self._gathering.commit(job.prefix, manifest)
        mark(self._store, job.prefix, "Verified", manifest.digest(), by="writer", now=datetime.now(UTC))
        retain(self._store, self._config.run, self._config.attempt, job.retention)
        return manifest.digest()

    def _image(self, size: int) -> memoryview:
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._config.descriptor, 0, prot=mmap.PROT_READ)
        return memoryview(self._map)[:size]
