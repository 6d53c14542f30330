"""A manifest that vouches for itself: any changed byte of it is found, whatever the store records."""

from __future__ import annotations

from pydantic import ValidationError

from opt_api.documents.manifests import CheckpointManifest
from opt_trainer.checkpoint.errors import BadCheckpoint


def seal(manifest: CheckpointManifest) -> CheckpointManifest:
    """The manifest with its seal."""
    bare = manifest.model_copy(update={"seal": None})
    return bare.model_copy(update={"seal": bare.digest()})


def open_sealed(data: bytes, where: str) -> CheckpointManifest:
    """Read a sealed manifest.

    Raises:
        BadCheckpoint: It is no manifest, not in canonical form, or its seal is not its own.
    """
    try:
        manifest = CheckpointManifest.from_bytes(data)
    except ValidationError as problem:
        raise BadCheckpoint(f"manifest {where}: it is none, or of an unknown version: {problem}") from problem
    if manifest.to_bytes() != data:
        raise BadCheckpoint(f"manifest {where}: its bytes are not the canonical form of what they say")
    wanted = seal(manifest).seal
    if manifest.seal != wanted:
        raise BadCheckpoint(f"manifest {where}: its seal is {manifest.seal}, its content has {wanted}")
    return manifest
