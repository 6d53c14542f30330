"""When to stop trying: the failure budget and the crash loop. There is no lifetime cap on restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opt_api.documents.logbook import Cause
from opt_api.training.resilience import FailureBudget
from opt_runtime.core.causes import TRAITS


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure that called for recovery; `time` in seconds on the clock of the snapshot."""

    time: float
    cause: Cause
    step: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the run must pause."""

    cause: Cause
    evidence: str


def check_budget(
    failures: Sequence[Failure], policy: FailureBudget, now: float, verified_at: float | None
) -> Verdict | None:
    """Tell whether the newest failures ask for a human.

    Args:
        failures: Oldest first, the one being decided on included.
        policy: Limits of the spec.
        now: On the failures' clock.
        verified_at: When the newest checkpoint was verified; what failed before it no longer counts.
    """
    fresh = [failure for failure in failures if verified_at is None or failure.time > verified_at]
    return _crash_loop(fresh, policy) or _spent(fresh, policy, now)


def _crash_loop(failures: Sequence[Failure], policy: FailureBudget) -> Verdict | None:
    """The newest failure, if the same happened at the same step often enough. Lost hosts are nobody's loop."""
    if not failures or TRAITS[failures[-1].cause].scope == "host":
        return None
    last = failures[-1]
    same = sum((failure.cause, failure.step) == (last.cause, last.step) for failure in failures)
    if same < policy.same_step_failures:
        return None
    return Verdict(
        "CrashLoop", f"{last.cause} at step {last.step}, {same} times; {policy.same_step_failures} are a loop"
    )


def _spent(failures: Sequence[Failure], policy: FailureBudget, now: float) -> Verdict | None:
    counted = [f for f in failures if now - f.time <= policy.window_seconds and not TRAITS[f.cause].infrastructure]
    if len(counted) <= policy.failures:
        return None
    causes = ", ".join(sorted({failure.cause for failure in counted}))
    return Verdict(
        "BudgetSpent",
        f"{len(counted)} failures ({causes}) within {policy.window_seconds} s and no verified checkpoint since; "
        f"{policy.failures} are allowed",
    )
