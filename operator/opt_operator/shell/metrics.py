"""What the operator counts about itself and shows of each training. No pod names among the labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from opt_api.estimate.compute import utilisation
from opt_operator.core.snapshot import Snapshot
from opt_operator.core.views import CoordinatorReport
from opt_operator.shell.series import Series, Value

REGISTRY = CollectorRegistry()

RECONCILE = Histogram(
    "opt_operator_reconcile_seconds", "One look at one training, writes included.", ["result"], registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)  # fmt: skip
AT_ONCE = Gauge("opt_operator_looks_at_once", "Looks that may be made at once; few where the API server is slow.",
                registry=REGISTRY)  # fmt: skip
QUEUE_DEPTH = Gauge("opt_operator_queue_depth", "Trainings that wait for a look.", registry=REGISTRY)
QUEUE_AGE = Gauge("opt_operator_queue_age_seconds", "How long the first of them has waited.", registry=REGISTRY)
WATCH_SILENCE = Gauge(
    "opt_operator_watch_silence_seconds", "Since a watch last brought anything.", ["kind"], registry=REGISTRY
)
WRITES = Counter(
    "opt_operator_writes_total", "Writes to the API server.", ["verb", "kind", "result"], registry=REGISTRY
)
LEADER = Gauge("opt_operator_leader", "1 while this process holds the lease.", registry=REGISTRY)
LEASE_TRANSITIONS = Gauge("opt_operator_lease_transitions", "The fencing token: times the lease changed hands.",
                          registry=REGISTRY)  # fmt: skip
TRAININGS = Series(
    "training",
    {
        "opt_training_phase": "1 for the phase a training is in; no series for the others.",
        "opt_training_step": "Optimiser steps done.",
        "opt_training_loss": "Training loss at that step.",
        "opt_training_tokens_per_second": "Speed of the gang.",
        "opt_training_mfu": "Model FLOPs over the peak of the gang's devices.",
        "opt_training_steps_lost": "Steps done again after faults.",
        "opt_training_restarts": "Attempts after the first.",
        "opt_training_spares": "Checked hosts held ready.",
        "opt_training_ettr": "Productive time over wall time.",
        "opt_training_hosts_ready": "Hosts ready.",
        "opt_training_hosts_wanted": "Hosts of a full gang.",
        "opt_training_checkpoint_age_seconds": "Age of the newest Verified checkpoint.",
        "opt_training_host_seconds": "Seconds of all hosts by class.",
    },
    {"opt_training_phase": "phase", "opt_training_host_seconds": "class"},
)
REGISTRY.register(TRAININGS)


def serve(port: int) -> None:
    """Answer `/metrics` from a thread of its own."""
    start_http_server(port, registry=REGISTRY)


def show(snapshot: Snapshot) -> None:
    """A training's numbers as they are now."""
    where, status, report = (snapshot.key.namespace, snapshot.key.name), snapshot.status, snapshot.report
    if snapshot.resource is None:
        TRAININGS.forget(where)
        return
    age = (snapshot.now - status.checkpoint.time).total_seconds() if status.checkpoint else None
    nodes = status.nodes
    values: dict[str, Value] = {
        "opt_training_phase": {status.phase: 1.0} if status.phase else {},
        "opt_training_step": report.step if report else status.step,
        "opt_training_restarts": status.restarts,
        "opt_training_spares": status.spares,
        "opt_training_hosts_ready": nodes.ready if nodes else None,
        "opt_training_hosts_wanted": nodes.wanted if nodes else None,
        "opt_training_checkpoint_age_seconds": age,
    }
    TRAININGS.show(where, values | (_told(snapshot, report) if report else {}))


def _told(snapshot: Snapshot, report: CoordinatorReport) -> dict[str, Value]:
    """What the coordinator says."""
    return {
        "opt_training_loss": report.loss,
        "opt_training_tokens_per_second": report.tokens_per_second,
        "opt_training_mfu": _mfu(snapshot, report.tokens_per_second),
        "opt_training_steps_lost": report.steps_lost,
        "opt_training_ettr": report.ettr,
        "opt_training_host_seconds": report.goodput or None,
    }


def _mfu(snapshot: Snapshot, tokens_per_second: float | None) -> float | None:
    """None where the speed or the plan is not known."""
    if tokens_per_second is None or snapshot.plan is None or snapshot.training is None:
        return None
    return utilisation(snapshot.plan, snapshot.training.spec.pods.resources.cpu, tokens_per_second)
