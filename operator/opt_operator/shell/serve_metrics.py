"""What the operator shows of each served model. No pod names among the labels."""

from __future__ import annotations

from prometheus_client import Gauge

from opt_operator.core.serving.phases import PHASES
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.shell.metrics import REGISTRY

_ONE = ("namespace", "serve")
PHASE = Gauge("opt_serve_phase", "1 for the phase a served model is in.", [*_ONE, "phase"], registry=REGISTRY)
NUMBERS = {
    "step": Gauge("opt_serve_step", "Step of the checkpoint being served.", _ONE, registry=REGISTRY),
    "age": Gauge("opt_serve_checkpoint_age_seconds", "Age of that checkpoint.", _ONE, registry=REGISTRY),
    "wanted": Gauge("opt_serve_replicas_wanted", "Replicas asked for.", _ONE, registry=REGISTRY),
    "ready": Gauge("opt_serve_replicas_ready", "Replicas that answer.", _ONE, registry=REGISTRY),
    "demand": Gauge("opt_serve_requests_in_flight", "Requests in flight and held.", _ONE, registry=REGISTRY),
    "rejected": Gauge("opt_serve_checkpoints_rejected", "Checkpoints that failed the gate or were rolled back.", _ONE,
                      registry=REGISTRY),
}  # fmt: skip


def show_serve(snapshot: ServeSnapshot) -> None:
    """A served model's numbers as they are now."""
    where, status = (snapshot.key.namespace, snapshot.key.name), snapshot.status
    if snapshot.resource is None:
        gone = dict(zip(_ONE, where, strict=True))
        for metric in (PHASE, *NUMBERS.values()):
            metric.remove_by_labels(gone)
        return
    for phase in PHASES:
        PHASE.labels(*where, phase).set(phase == status.phase)
    served = status.served
    values = {
        "step": served.step if served else None,
        "age": (snapshot.now - served.time).total_seconds() if served and served.time else None,
        "wanted": status.wanted_replicas,
        "ready": status.ready_replicas,
        "demand": snapshot.demand,
        "rejected": len(status.rejected),
    }
    for name, value in values.items():
        if value is not None:
            NUMBERS[name].labels(*where).set(value)
