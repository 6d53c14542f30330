"""What the operator counts about itself and shows of each training. No pod names among the labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from opt_api.estimate.compute import utilisation
from opt_api.training.status import Phase
from opt_operator.core.snapshot import Snapshot

REGISTRY = CollectorRegistry()
_ONE = ("namespace", "training")

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
PHASE = Gauge(
    "opt_training_phase", "1 for the phase a training is in; no series for the others.", [*_ONE, "phase"],
    registry=REGISTRY,
)  # fmt: skip
NUMBERS = {
    "step": Gauge("opt_training_step", "Optimiser steps done.", _ONE, registry=REGISTRY),
    "loss": Gauge("opt_training_loss", "Training loss at that step.", _ONE, registry=REGISTRY),
    "tokens": Gauge("opt_training_tokens_per_second", "Speed of the gang.", _ONE, registry=REGISTRY),
    "mfu": Gauge("opt_training_mfu", "Model FLOPs over the peak of the gang's devices.", _ONE, registry=REGISTRY),
    "steps_lost": Gauge("opt_training_steps_lost", "Steps done again after faults.", _ONE, registry=REGISTRY),
    "restarts": Gauge("opt_training_restarts", "Attempts after the first.", _ONE, registry=REGISTRY),
    "spares": Gauge("opt_training_spares", "Checked hosts held ready.", _ONE, registry=REGISTRY),
    "ettr": Gauge("opt_training_ettr", "Productive time over wall time.", _ONE, registry=REGISTRY),
    "nodes_ready": Gauge("opt_training_hosts_ready", "Hosts ready.", _ONE, registry=REGISTRY),
    "nodes_wanted": Gauge("opt_training_hosts_wanted", "Hosts of a full gang.", _ONE, registry=REGISTRY),
    "checkpoint_age": Gauge("opt_training_checkpoint_age_seconds", "Age of the newest Verified checkpoint.", _ONE,
                            registry=REGISTRY),
}  # fmt: skip
_PHASES: dict[tuple[str, str], Phase | None] = {}
GOODPUT = Gauge("opt_training_host_seconds", "Seconds of all hosts by class.", [*_ONE, "class"], registry=REGISTRY)


def serve(port: int) -> None:
    """Answer `/metrics` from a thread of its own."""
    start_http_server(port, registry=REGISTRY)


def show(snapshot: Snapshot) -> None:
    """A training's numbers as they are now."""
    where, status, report = (snapshot.key.namespace, snapshot.key.name), snapshot.status, snapshot.report
    if snapshot.resource is None:
        forget(*where)
        return
    _show_phase(where, status.phase)
    age = (snapshot.now - status.checkpoint.time).total_seconds() if status.checkpoint else None
    nodes = status.nodes
    values = {
        "step": report.step if report else status.step,
        "loss": report.loss if report else None,
        "tokens": report.tokens_per_second if report else None,
        "mfu": _mfu(snapshot, report.tokens_per_second) if report else None,
        "steps_lost": report.steps_lost if report else None,
        "restarts": status.restarts,
        "spares": status.spares,
        "ettr": report.ettr if report else None,
        "nodes_ready": nodes.ready if nodes else None,
        "nodes_wanted": nodes.wanted if nodes else None,
        "checkpoint_age": age,
    }
    for name, value in values.items():
        if value is not None:
            NUMBERS[name].labels(*where).set(value)
    for kind, seconds in (report.goodput if report else {}).items():
        GOODPUT.labels(*where, kind).set(seconds)


def _show_phase(where: tuple[str, str], phase: Phase | None) -> None:
    if (before := _PHASES.get(where)) != phase:
        if before is not None:
            PHASE.remove(*where, before)
        if phase is not None:
            PHASE.labels(*where, phase).set(1)
        _PHASES[where] = phase


def _mfu(snapshot: Snapshot, tokens_per_second: float | None) -> float | None:
    """None where the speed or the plan is not known."""
    if tokens_per_second is None or snapshot.plan is None or snapshot.training is None:
        return None
    return utilisation(snapshot.plan, snapshot.training.spec.pods.resources.cpu, tokens_per_second)


def forget(namespace: str, name: str) -> None:
    """A training is gone: so are its numbers."""
    gone = {"namespace": namespace, "training": name}
    _PHASES.pop((namespace, name), None)
    for metric in (PHASE, GOODPUT, *NUMBERS.values()):
        metric.remove_by_labels(gone)
