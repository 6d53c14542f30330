"""Documents that vouch for themselves: any changed byte is found, whatever the store records."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from opt_api.documents.base import SealedDocument
from opt_api.documents.manifests import CheckpointManifest, CheckpointMark
from opt_trainer.checkpoint.errors import BadCheckpoint

Sealed = TypeVar("Sealed", bound=SealedDocument)


def open_sealed(data: bytes, where: str) -> CheckpointManifest:
    """Read a sealed manifest.

    Raises:
        BadCheckpoint: It is no manifest, not in canonical form, or its seal is not its own.
    """
    return _open(CheckpointManifest, data, f"manifest {where}")


def open_mark(data: bytes, where: str) -> CheckpointMark:
    """Read a sealed mark; raises as `open_sealed`."""
    return _open(CheckpointMark, data, f"mark {where}")


def _open(kind: type[Sealed], data: bytes, what: str) -> Sealed:
    try:
        document = kind.from_bytes(data)
    except ValidationError as problem:
        raise BadCheckpoint(f"{what}: it is none, or of an unknown version: {problem}") from problem
    if document.to_bytes() != data:
        raise BadCheckpoint(f"{what}: its bytes are not the canonical form of what they say")
    wanted = document.sealed().seal
    if document.seal != wanted:
        raise BadCheckpoint(f"{what}: its seal is {document.seal}, its content has {wanted}")
    return document
