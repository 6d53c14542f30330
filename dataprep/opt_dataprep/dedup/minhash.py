"""Sketches for near-duplicates: which implementation makes them is part of a plan."""


def minhash_version() -> str:
    """Name and version of the implementation at hand."""
    return "none"
