"""From one revision to the next: surge, canary, shift, bake; and back."""

from __future__ import annotations

from collections.abc import Callable

from opt_api.serving.status import RollStatus, ServedCheckpoint
from opt_operator.core.serving.case import Case, Update
from opt_operator.core.serving.look import KEPT_REJECTED, unreachable
from opt_operator.core.serving.rollout import Stage, at_fault
from opt_operator.core.views import PodView

PATIENCE_S = 1800.0
"""A candidate of which no replica is ready after so long goes back."""
CRASHES = 3
"""Restarts of one replica after which it is no accident."""


def roll(case: Case) -> Update:
    """What changes in the status."""
    status = case.status
    if status.served is None:
        return _first(case)
    if status.candidate is None:
        return _settled(case, status.served)
    if status.candidate.revision == status.served.revision:
        return {"candidate": None, "roll": None}
    if _differs(case, status.candidate):
        return {"candidate": case.as_served(status.candidate), "roll": None}
    if case.wanted == 0:
        return _promoted(case, status.candidate, status.served) | {"roll": None}
    if status.roll is None:
        return _stage(case, "Surge")
    if fault := _fault(case, status.candidate):
        return _back(case, status.candidate, fault)
    return STEPS[status.roll.stage](case, status.candidate)


def _differs(case: Case, checkpoint: ServedCheckpoint) -> bool:
    """Whether the specification now says to serve it otherwise; not known while its storage is not."""
    return not unreachable(case) and case.revision(checkpoint) != checkpoint.revision


def _first(case: Case) -> Update:
    """Nothing is served: the first that passed is, as soon as it can."""
    found = case.status.candidate
    return {"served": case.as_served(found), "candidate": None, "roll": None} if found else {}


def _settled(case: Case, served: ServedCheckpoint) -> Update:
    """All have what is served. Another way of serving the same is a roll too."""
    stage = case.status.roll.stage if case.status.roll else None
    if stage == "Bake" and (fault := _fault(case, served)) and case.status.previous:
        return _back(case, served, fault)
    if stage == "Bake":
        return {"roll": None} if _waited(case) >= case.spec.rollout.canary_seconds else {}
    if stage == "Back":
        return {"roll": None} if case.snapshot.ready(str(served.revision)) >= case.wanted else {}
    if stage is not None:
        return {"roll": None}
    if not _differs(case, served):
        return {}
    return {"candidate": case.as_served(served), **_stage(case, "Surge")}


def _surge(case: Case, candidate: ServedCheckpoint) -> Update:
    if not case.snapshot.ready(str(candidate.revision)):
        if _waited(case) < PATIENCE_S:
            return {}
        return _back(case, candidate, f"no replica of it was ready within {PATIENCE_S:.0f} s")
    return _stage(case, "Canary" if case.spec.rollout.canary_percent else "Shift")


def _canary(case: Case, candidate: ServedCheckpoint) -> Update:
    return _stage(case, "Shift") if _waited(case) >= case.spec.rollout.canary_seconds else {}


def _shift(case: Case, candidate: ServedCheckpoint) -> Update:
    if case.snapshot.ready(str(candidate.revision)) < case.wanted:
        return {}
    assert case.status.served is not None
    return _promoted(case, candidate, case.status.served)


def _promoted(case: Case, candidate: ServedCheckpoint, before: ServedCheckpoint) -> Update:
    older = [c for c in case.status.previous if c.revision not in (candidate.revision, before.revision)]
    kept = (before, *older)[: case.spec.rollout.history]
    return {"served": candidate, "candidate": None, "previous": kept, **_stage(case, "Bake")}


def _back(case: Case, bad: ServedCheckpoint, why: str) -> Update:
    """What served before serves again; the same checkpoint is not tried again."""
    status = case.status
    assert status.served is not None
    update: Update = {"candidate": None, **_stage(case, "Back")}
    good = status.served
    if bad.revision == status.served.revision:
        good, *older = status.previous
        update |= {"served": good, "previous": tuple(older)}
    update["rejected_message"] = f"step {bad.step}, revision {bad.revision}: {why}"
    if bad.digest is not None and bad.digest != good.digest:
        kept = [d for d in status.rejected if d != bad.digest]
        update["rejected"] = (*kept, bad.digest)[-KEPT_REJECTED:]
    return update


def _fault(case: Case, checkpoint: ServedCheckpoint) -> str:
    """Why a revision must go; empty while nothing speaks against it."""
    revision = str(checkpoint.revision)
    counts = [r.revisions[revision] for r in case.snapshot.gateways.values() if revision in r.revisions]
    ended = next((words for pod in case.snapshot.of_revision(revision) if (words := crashed(pod))), "")
    return at_fault(counts, case.spec.rollout.max_error_ratio) or ended


def crashed(pod: PodView) -> str:
    """Which container of a pod ended again and again, and its last words; empty if none did."""
    for one in pod.statuses:
        if one.restart_count >= CRASHES and not one.ready:
            end = one.last_end
            said = f": {end.message[-800:]}" if end else ""
            return f"pod {pod.metadata.name}: container {one.name} ended {one.restart_count} times{said}"
    return ""


def _stage(case: Case, stage: Stage) -> Update:
    return {"roll": RollStatus(stage=stage, since=case.snapshot.now)}


def _waited(case: Case) -> float:
    assert case.status.roll is not None
    return (case.snapshot.now - case.status.roll.since).total_seconds()


STEPS: dict[str, Callable[[Case, ServedCheckpoint], Update]] = {
    "Surge": _surge,
    "Canary": _canary,
    "Shift": _shift,
    "Bake": lambda case, _: _stage(case, "Surge"),
    "Back": lambda case, _: _stage(case, "Surge"),
}
"""What each stage waits for. A candidate that comes while another roll ends begins its own."""
