"""A queue that was asked for and is not there: nothing is made before there is one."""

from __future__ import annotations

from opt_operator.core.builders.queueing import KUEUE, VOLCANO, system_of
from opt_operator.core.conditions import said
from opt_operator.core.rules.verdict import LATER_S, Case, Verdict


def queue(case: Case) -> Verdict | None:
    """Wait for Kueue or Volcano where a queue is named; None where that is no question."""
    spec = case.training.spec.queueing
    begun = any(not pod.ended for pod in case.snapshot.hosts) or case.snapshot.status.phase == "Evaluating"
    if spec.queue_name is None or begun or system_of(spec, case.snapshot.apis) != "none":
        return None
    message = (
        f"queueing.queueName: found {spec.queue_name}, but the cluster has neither Kueue ({KUEUE}) nor Volcano "
        f"({VOLCANO}): install one of them, or leave queueName out"
    )
    conditions = {"Degraded": said(holds=True, reason="NoQueue", message=message)}
    return Verdict("Queued", "NoQueue", message, conditions=conditions, requeue_after=LATER_S)  # type: ignore[arg-type]
