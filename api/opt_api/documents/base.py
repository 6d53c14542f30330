"""What all documents share: a kind, a version, canonical bytes and a digest."""

from __future__ import annotations

from typing import ClassVar, Self

from opt_api.base import Model
from opt_api.canonical import canonical_json, digest
from opt_api.types import Digest


class Document(Model):
    """A versioned document. Subclasses fix `kind` and `version` as literals."""

    kind: str
    version: int

    file_name: ClassVar[str] = ""
    """Name of the document in the object store, where it has a fixed one."""

    def to_bytes(self) -> bytes:
        """Canonical JSON of the document."""
        return canonical_json(self.wire())

    def digest(self) -> str:
        """Digest of the canonical bytes."""
        return digest(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a document.

        Raises:
            pydantic.ValidationError: not this document, or not a version this code knows.
        """
        return cls.model_validate_json(data, strict=True)


class SealedDocument(Document):
    """A document that vouches for itself: any changed byte is found, whatever the store records."""

    seal: Digest | None = None
    """Digest of this document without this field."""

    def sealed(self) -> Self:
        """The document with its seal."""
        bare = self.model_copy(update={"seal": None})
        return bare.model_copy(update={"seal": bare.digest()})
