"""Somebody with `kubectl edit` and `kubectl delete` among the children of a training."""

from __future__ import annotations

from collections.abc import Callable

from support.opmodel.api import Object
from support.opmodel.world import NS, World

LABELS = "opt-operator.io/"


def _delete(kind: str, part: str) -> Callable[[World], None]:
    """Delete what is called so."""

    def act(world: World) -> None:
        for name in _names(world, kind, part):
            world.api.remove(kind, NS, name)

    return act


def _edit(kind: str, part: str, change: Callable[[Object], object]) -> Callable[[World], None]:
    """Change what is called so."""

    def act(world: World) -> None:
        for name in _names(world, kind, part):
            world.api.edit(kind, NS, name, lambda o: change(o) and None)

    return act


def _names(world: World, kind: str, part: str) -> list[str]:
    return [name for found, _, name in sorted(world.api.objects) if found == kind and part in name]


HANDS: tuple[Callable[[World], None], ...] = (
    _delete("Service", "coordinator"),
    _edit("NetworkPolicy", "hosts", lambda o: o["spec"].update(ingress=[{}], egress=[{}])),
    _delete("PodDisruptionBudget", "hosts"),
    _edit("Pod", "-h1", lambda o: o["metadata"]["labels"].update({f"{LABELS}role": "mine"})),
    _edit("Pod", "-h0", lambda o: o["metadata"]["labels"].update({f"{LABELS}attempt": "seven"})),
    _delete("ConfigMap", "plan"),
    _edit("ConfigMap", "why", lambda o: o.update(data={"decisions": "[1, {"})),
    _edit("Service", "hosts", lambda o: o["spec"].update(selector={"a": "b"})),
    _edit("Pod", "coordinator", lambda o: o["metadata"]["labels"].update({f"{LABELS}attempt": "-1"})),
    _edit("Job", "burn-in", lambda o: o["spec"].update(suspend=True)),
    _delete("Service", "hosts"),
)


def meddle(world: World, tick: int) -> None:
    """The next thing that a hand does."""
    HANDS[tick % len(HANDS)](world)
