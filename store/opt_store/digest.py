"""Digests, written as ``sha256:<64 hex digits>``, and checksums, written as ``xxh3-128:<32 hex digits>``.

SHA-256, because a digest in a manifest also guards against tampering; OpenSSL's is the fastest of the cryptographic
hashes at hand where the processor has SHA extensions (docs/decisions/0021). What the store itself records of an object
guards against damage only: who can replace the content can replace the record. For that a checksum does as well, at a
twentieth of the cost (docs/decisions/0025).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import xxhash

from opt_store.errors import Corrupt

PREFIX, CHECKSUM_PREFIX = "sha256:", "xxh3-128:"
_FORM = re.compile(r"sha256:[0-9a-f]{64}")
_CHECKSUM_FORM = re.compile(r"xxh3-128:[0-9a-f]{32}")
_BLOCK = 1 << 20

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: Buffer, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Give the digest so far as hex."""


def hasher() -> Hasher:
    """Return a fresh running SHA-256; it lets other threads run while it works on large buffers."""
    return hashlib.sha256()


def finish(running: Hasher) -> str:
    """Return the digest of everything `running` has seen, in the written form."""
    return PREFIX + running.hexdigest()


def summer() -> Hasher:
    """Return a fresh running XXH3 of 128 bits; it, too, lets other threads run."""
    return xxhash.xxh3_128()


def finish_checksum(running: Hasher) -> str:
    """Return the checksum of everything `running` has seen, in the written form."""
    return CHECKSUM_PREFIX + running.hexdigest()


def checksum_of(*buffers: Buffer) -> str:
    """Return the checksum of the buffers, one after the other."""
    running = summer()
    for buffer in buffers:
        running.update(buffer)
    return finish_checksum(running)


def digest_of(*buffers: Buffer) -> str:
    """Return the digest of the buffers, one after the other."""
    running = hasher()
    for buffer in buffers:
        running.update(buffer)
    return finish(running)


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's content."""
    running = hasher()
    block = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            running.update(block[:count])
    return finish(running)


def check_form(digest: str) -> str:
    """Return `digest` unchanged.

    Raises:
        ValueError: It is not of the form ``sha256:<64 hex digits>``.
    """
    if not is_digest(digest):
        raise ValueError(f"digest {digest!r}: must be 'sha256:' and 64 lower-case hex digits")
    return digest


def is_digest(text: str | None) -> bool:
    """Tell whether `text` is a digest in the written form."""
    return text is not None and _FORM.fullmatch(text) is not None


def is_checksum(text: str | None) -> bool:
    """Tell whether `text` is a checksum in the written form."""
    return text is not None and _CHECKSUM_FORM.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Check:
    """What a content that is being read is held against.

    Attributes:
        digest: The digest that the store recorded, if any.
        checksum: The checksum that the store recorded, if any.
        expect: The digest that the caller knows from elsewhere, if any.
        running: What has been seen of the content: its digest if one is expected or nothing else is recorded.
    """

    digest: str | None
    checksum: str | None
    expect: str | None
    running: Hasher

    @classmethod
    def of(cls, digest: str | None, checksum: str | None, expect: str | None) -> "Check":
        """Choose the cheapest check that is as good as what is recorded."""
        cheap = expect is None and checksum is not None
        return cls(digest, checksum if cheap else None, expect, summer() if cheap else hasher())

    def verify(self, where: str) -> None:
        """Compare at the end of the content.

        Raises:
            Corrupt: It is another content.
        """
        if self.checksum is None:
            verify(where, finish(self.running), self.digest, self.expect)
        elif (found := finish_checksum(self.running)) != self.checksum:
            raise Corrupt(_differs(where, "checksum", found, self.checksum))


def verify(where: str, found: str, *recorded: str | None) -> None:
    """Compare the digest of bytes just read with each recorded one; None means nothing was recorded.

    Raises:
        Corrupt: One differs.
    """
    for digest in recorded:
        if digest is not None and found != check_form(digest):
            raise Corrupt(_differs(where, "digest", found, digest))


def _differs(where: str, what: str, found: str, recorded: str) -> str:
    return (
        f"{where}: content has {what} {found}, recorded is {recorded}; the bytes were thrown away: "
        "restore the object from another copy or write it again"
    )
