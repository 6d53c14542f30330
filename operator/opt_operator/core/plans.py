"""Which plan a gang runs by, and what a changed spec means for a gang that is running."""

from __future__ import annotations

from typing import Any, Literal

from opt_api.documents.plan import Plan
from opt_operator.core.snapshot import Snapshot

Path = tuple[str, ...]
Change = Literal["none", "live", "coordinator", "attempt"]
"""How much has to move: nothing; values that the coordinator hands to the gang; the coordinator; the gang."""

LIVE: tuple[Path, ...] = (
    ("recipe", "peakLearningRate"), ("recipe", "minLearningRate"), ("recipe", "clip"),
    ("precision", "lossScale", "floor"), ("skipBatches",), ("data", "skipBatches"),
)  # fmt: skip
"""What changes at a common step."""
STEPWISE: tuple[Path, ...] = (("resilience",), ("checkpointing",), ("energy",))
"""What a coordinator that is started anew takes up while the gang goes on."""


def change(before: Plan, after: Plan) -> Change:
    """The least that must move from one plan to the other."""
    if before is after or before.digest() == after.digest():
        return "none"
    if _without(before, LIVE) == _without(after, LIVE):
        return "live"
    known = (*LIVE, *STEPWISE)
    return "coordinator" if _without(before, known) == _without(after, known) else "attempt"


def live_values(plan: Plan) -> dict[str, Any]:
    """The running fields as the spec has them, by the names the coordinator knows; absent ones are left out."""
    scale = plan.precision.loss_scale
    return {
        "learningRate": plan.recipe.peak_learning_rate,
        "clip": plan.recipe.clip,
        **({"lossScaleFloor": scale.floor} if scale else {}),
        "skipBatches": [batch.wire() for batch in plan.skip_batches],
    }


FIELDS = {
    "learningRate": "optimisation.learningRate",
    "clip": "optimisation.clip",
    "lossScaleFloor": "precision.lossScale.floor",
    "skipBatches": "data.skipBatches",
}
"""What the coordinator calls a running value, and the field of the spec."""


def wishes(before: Plan, after: Plan, in_force: dict[str, Any]) -> dict[str, Any]:
    """Fields of the spec that a person changed since the plan in force and that the gang does not have yet.

    What the divergence policy changed and no person touched is left alone.
    """
    old, new = live_values(before), live_values(after)
    return {FIELDS[name]: new[name] for name in new if new[name] != old.get(name) and new[name] != in_force.get(name)}


def plan_in_force(snapshot: Snapshot) -> Plan | None:
    """The plan that status names, as long as there are hosts that run by it; else the spec's own."""
    digest = snapshot.status.plan_digest
    if digest and any(not pod.ended for pod in snapshot.hosts):
        kept = snapshot.plan_of(digest)
        if kept is not None:
            return kept
    return snapshot.plan


def _without(plan: Plan, paths: tuple[Path, ...]) -> dict[str, Any]:
    document = plan.wire()
    for path in paths:
        _drop(document, path)
    return document


def _drop(document: dict[str, Any], path: Path) -> None:
    inner: Any = document
    for name in path[:-1]:
        inner = inner.get(name) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        inner.pop(path[-1], None)
