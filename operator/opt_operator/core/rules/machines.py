"""Which machines of the cluster a training's pods may be on."""

from __future__ import annotations

from opt_operator.core import names
from opt_operator.core.rules.verdict import Case
from opt_operator.core.views import NodeView, Taint


def meant(case: Case) -> tuple[NodeView, ...]:
    """Nodes that are for this training, whatever is the matter with them now."""
    wanted = case.training.spec.pods.node_selector
    return tuple(
        node
        for node in (case.snapshot.nodes or {}).values()
        if wanted.items() <= node.metadata.labels.items() and not any(map(_keeps_out, node.spec.taints))
    )


def room(case: Case) -> bool:
    """Whether the cluster has machines enough for each host of the gang to have its own; the ledger counts machines.

    A machine that is lost, cordoned or quarantined counts: it comes back, and until then hosts do not share one.
    """
    return len(meant(case)) >= case.plan.layout.hosts


def avoid(case: Case) -> frozenset[str]:
    """Nodes that are broken, out of reach, or whose machine is quarantined, whatever it is called now."""
    snapshot = case.snapshot
    unreached = snapshot.coordinator.spec.node_name if snapshot.coordinator and snapshot.unreached_s else ""
    banned = [h.hardware for h in snapshot.status.hosts if h.state in ("Quarantined", "Retired")]
    return frozenset(
        name
        for name, node in (snapshot.nodes or {}).items()
        if name == unreached
        or snapshot.verdicts[name].state == "Bad"
        or any(names.is_on(hardware, node.hardware) for hardware in banned)
    )


def free_of(case: Case, taken: frozenset[str]) -> tuple[str, ...]:
    """Nodes where a pod may go now, other than those."""
    out = avoid(case) | taken
    well = (node.metadata.name for node in meant(case) if node.verdict.state == "Good")
    return tuple(sorted(name for name in well if name not in out))


def _keeps_out(taint: Taint) -> bool:
    """Whether a taint says for whom a node is, and not what is the matter with it now."""
    passing = taint.key.startswith("node.kubernetes.io/") or taint.key == names.QUARANTINED
    return taint.effect in ("NoSchedule", "NoExecute") and not passing
