"""What the operator shows of each served model. No pod names among the labels."""

from __future__ import annotations

from opt_operator.core.serving.phases import PHASES
from opt_operator.core.serving.snapshot import ServeSnapshot
from opt_operator.shell.metrics import REGISTRY
from opt_operator.shell.series import Series

SERVES = Series(
    "serve",
    {
        "opt_serve_phase": "1 for the phase a served model is in.",
        "opt_serve_step": "Step of the checkpoint being served.",
        "opt_serve_checkpoint_age_seconds": "Age of that checkpoint.",
        "opt_serve_replicas_wanted": "Replicas asked for.",
        "opt_serve_replicas_ready": "Replicas that answer.",
        "opt_serve_requests_in_flight": "Requests in flight and held.",
        "opt_serve_checkpoints_rejected": "Checkpoints that failed the gate or were rolled back.",
    },
    {"opt_serve_phase": "phase"},
)
REGISTRY.register(SERVES)


def show_serve(snapshot: ServeSnapshot) -> None:
    """A served model's numbers as they are now."""
    where, status = (snapshot.key.namespace, snapshot.key.name), snapshot.status
    if snapshot.resource is None:
        SERVES.forget(where)
        return
    served = status.served
    age = (snapshot.now - served.time).total_seconds() if served and served.time else None
    SERVES.show(
        where,
        {
            "opt_serve_phase": {phase: float(phase == status.phase) for phase in PHASES},
            "opt_serve_step": served.step if served else None,
            "opt_serve_checkpoint_age_seconds": age,
            "opt_serve_replicas_wanted": status.wanted_replicas,
            "opt_serve_replicas_ready": status.ready_replicas,
            "opt_serve_requests_in_flight": snapshot.demand,
            "opt_serve_checkpoints_rejected": len(status.rejected),
        },
    )
