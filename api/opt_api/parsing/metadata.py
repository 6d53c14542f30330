"""The head that every Kubernetes object shares: we keep what we read of it, and refuse what the API server refuses."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from opt_api.problems import Location, Problem, field_path

FIELDS = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
    "generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences",
    "resourceVersion", "selfLink", "uid",
)  # fmt: skip
"""Fields of ObjectMeta (Kubernetes API reference, meta/v1)."""


def metadata_problems(metadata: Any) -> list[tuple[Location, Problem]]:
    """Unknown fields of the metadata."""
    if not isinstance(metadata, dict):
        return []
    return [_unknown(name) for name in metadata if name not in FIELDS]


def _unknown(name: str) -> tuple[Location, Problem]:
    location = ("metadata", name)
    close = get_close_matches(name, FIELDS, n=1)
    hint = f"did you mean {close[0]}?" if close else ""
    return location, Problem(field_path(location), "an unknown field", f"one of {', '.join(FIELDS)}", hint)
