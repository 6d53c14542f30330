"""Where a run's documents lie in the object store. Keys are relative to the storage of the spec."""

from __future__ import annotations

import re

from opt_api.documents.manifests import AttemptFence, CheckpointManifest
from opt_api.documents.plan import Plan

_CHECKPOINT = re.compile(r"(?P<step>\d{12})-a(?P<attempt>\d{6})")


def run_prefix(run: str) -> str:
    """Everything of one run."""
    return f"runs/{run}"


def plan_key(run: str) -> str:
    """The plan that the run was begun with."""
    return f"{run_prefix(run)}/{Plan.file_name}"


def fence_key(run: str) -> str:
    """The newest attempt's number."""
    return f"{run_prefix(run)}/{AttemptFence.file_name}"


def checkpoints_prefix(run: str) -> str:
    """All checkpoints of a run; ends in a slash, ready to list."""
    return f"{run_prefix(run)}/checkpoints/"


def checkpoint_prefix(run: str, step: int, attempt: int) -> str:
    """One checkpoint. The attempt is in the name, so that no two attempts ever write to the same keys."""
    return f"{checkpoints_prefix(run)}{step:012d}-a{attempt:06d}"


def manifest_key(prefix: str) -> str:
    """The manifest of the checkpoint at `prefix`."""
    return f"{prefix}/{CheckpointManifest.file_name}"


def object_name(rank: int) -> str:
    """A rank's safetensors file, relative to its checkpoint."""
    return f"rank-{rank:06d}.safetensors"


def index_name(rank: int) -> str:
    """The `CheckpointIndex` of that file, relative to its checkpoint."""
    return f"rank-{rank:06d}.index.json"


def mark_key(prefix: str, mark: str) -> str:
    """One `CheckpointMark` of the checkpoint at `prefix`."""
    return f"{prefix}/marks/{mark}.json"


def served_key(prefix: str, serve: str) -> str:
    """Mark of a served model that needs the checkpoint at `prefix`: retention leaves it alone."""
    return f"{served_prefix(prefix)}{serve}.json"


def served_prefix(prefix: str) -> str:
    """How the keys of all such marks begin."""
    return f"{prefix}/marks/served-"


def export_prefix(prefix: str) -> str:
    """The consolidated Hugging Face directory beside the checkpoint at `prefix`."""
    return f"{prefix}/export"


def step_and_attempt(key: str) -> tuple[int, int] | None:
    """Step and attempt of the checkpoint that a key belongs to; None for other keys."""
    found = next((m for m in map(_CHECKPOINT.fullmatch, key.split("/")) if m), None)
    return (int(found["step"]), int(found["attempt"])) if found else None


def logbook_prefix(run: str) -> str:
    """All entries of a run's logbook; ends in a slash, ready to list."""
    return f"{run_prefix(run)}/logbook/"


def logbook_key(run: str, sequence: int) -> str:
    """One entry; written if absent, so that a repeated write is refused."""
    return f"{logbook_prefix(run)}{sequence:09d}.json"
