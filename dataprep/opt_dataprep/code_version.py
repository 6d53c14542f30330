"""Which code makes the results: part of the identity of every part."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import version
from pathlib import Path

SHAPING_LIBRARIES = ("numpy", "pyarrow", "tiktoken", "tokenizers", "xxhash")
"""Their versions can change bytes that are written, so a new version is a new data set."""


@functools.cache
def code_versions() -> dict[str, str]:
    """Versions of the distribution and of the shaping libraries, and a digest of this package's sources."""
    return {
        "opt-operator": version("opt-operator"),
        "sources": _sources_digest(),
        **{name: version(name) for name in SHAPING_LIBRARIES},
    }


def _sources_digest() -> str:
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
