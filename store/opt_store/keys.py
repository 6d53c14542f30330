"""Which keys an object may have: such that every S3 server and every file system can hold them alike."""

import unicodedata

from opt_store.errors import BadKey

MAX_KEY_BYTES = 900
"""S3 allows 1024 bytes in all; the rest is left to the prefix of the store."""
MAX_SEGMENT_BYTES = 240
"""Linux file systems allow 255 bytes a name; the rest is left to the suffix of a digest's file."""
RESERVED = ".opt-store"
"""Stores keep files of their own under this name, in the folder of each address that one was opened with."""


def check_key(key: str) -> str:
    """Return `key` unchanged.

    Raises:
        BadKey: It is not a relative, slash-separated path of plain names.
    """
    if problem := _problem(key):
        raise BadKey(f"key {key!r}: {problem}; allowed are names joined by '/', such as 'runs/a/manifest.json'")
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` unchanged; it may be empty, end in '/', or end in the middle of a name.

    Raises:
        BadKey: No allowed key could start with it.
    """
    if prefix:
        check_key(prefix + "x" if prefix.endswith("/") else prefix)
    return prefix


def _problem(key: str) -> str | None:
    segments = key.split("/")
    checks = (
        ("it is empty", not key),
        ("it starts or ends with '/', or has '//' in it", "" in segments),
        ("it has '.' or '..' as a name", "." in segments or ".." in segments),
        (f"{RESERVED!r} is reserved", RESERVED in segments),
        (f"it is longer than {MAX_KEY_BYTES} bytes", len(key.encode(errors="replace")) > MAX_KEY_BYTES),
        (
            f"a name is longer than {MAX_SEGMENT_BYTES} bytes",
            any(len(s.encode(errors="replace")) > MAX_SEGMENT_BYTES for s in segments),
        ),
        ("it has a control character, a lone surrogate or a backslash", any(_bad(c) for c in key)),
    )
    return next((text for text, failed in checks if failed), None)


def _bad(character: str) -> bool:
    return character == "\\" or unicodedata.category(character) in {"Cc", "Cs", "Cn", "Zl", "Zp"}
