"""How many replicas are wanted from now on."""

from __future__ import annotations

from opt_operator.core.serving.autoscale import replicas
from opt_operator.core.serving.case import Case, Update


def scale(case: Case) -> Update:
    """What changes in the status."""
    spec, status = case.spec, case.status
    if spec.autoscaling is None:
        wanted, lower = spec.replicas, None
    else:
        start = max(spec.autoscaling.min_replicas, 1)
        current = start if status.wanted_replicas is None else status.wanted_replicas
        demand = case.snapshot.demand if status.served is not None else None
        wanted, lower = replicas(spec.autoscaling, current, demand, status.scale_down, case.snapshot.now)
    found: Update = {"wanted_replicas": wanted, "scale_down": lower}
    return {name: value for name, value in found.items() if getattr(status, name) != value}
