"""What readers yield."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as it lies in its object.

    Attributes:
        slice: Number of the slice in its part; the part's own numbering, so that parts do not depend on each other.
        position: Where it begins: byte offset in the (decompressed) object for JSONL and text, else the row number.
        length: Its size there in bytes; for rows, the size of the text in UTF-8.
        content: Bytes, not yet decoded, or text where the format has decoded it.
    """

    slice: int
    position: int
    length: int
    content: bytes | str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that cannot be had from its frame; it is counted under `reason`."""

    slice: int
    position: int
    length: int
    reason: str
    sample: bytes = b""


def Oversized(number: int, position: int, length: int, sample: bytes = b"") -> Rejected:  # noqa: N802 - a kind of Rejected
    """A document longer than the rule `max_document_bytes`, never held in memory as a whole."""
    return Rejected(number, position, length, "max_document_bytes", sample)
