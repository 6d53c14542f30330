"""Digests, written as ``sha256:<64 hex digits>``.

SHA-256 and not a checksum, because a digest in a manifest also guards against tampering; OpenSSL's is the fastest of
the cryptographic hashes at hand where the processor has SHA extensions (docs/decisions/0021).
"""

import hashlib
import re
from pathlib import Path
from typing import Protocol

from opt_store.errors import Corrupt

PREFIX = "sha256:"
_FORM = re.compile(r"sha256:[0-9a-f]{64}")
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


def verify(where: str, found: str, *recorded: str | None) -> None:
    """Compare the digest of bytes just read with each recorded one; None means nothing was recorded.

    Raises:
        Corrupt: One differs.
    """
    for digest in recorded:
        if digest is not None and found != check_form(digest):
            raise Corrupt(
                f"{where}: content has digest {found}, recorded is {digest}; the bytes were thrown away: "
                "restore the object from another copy or write it again"
            )
