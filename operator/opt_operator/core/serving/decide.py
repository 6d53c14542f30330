"""`decide` for a served model."""

from __future__ import annotations

from opt_operator.core.actions import Decision
from opt_operator.core.serving.snapshot import ServeSnapshot


def decide(snapshot: ServeSnapshot) -> Decision:
    """Nothing yet."""
    return Decision("gone", requeue_after=600.0)
