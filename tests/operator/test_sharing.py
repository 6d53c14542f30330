"""Whether hosts may share a machine, and what the ledger knows it by where they have to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from opt_operator.core import names
from opt_operator.core.rules import machines
from opt_operator.core.rules.surroundings import _place_on
from opt_operator.core.views import NodeView, PodView

pytestmark = pytest.mark.unit

LOST = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
QUARANTINED = {"key": names.QUARANTINED, "effect": "NoSchedule"}
OTHERS = {"key": "team", "value": "theirs", "effect": "NoSchedule"}


def node(*taints: dict[str, str]) -> NodeView:
    return NodeView.model_validate({"metadata": {"name": "n"}, "spec": {"taints": list(taints)}})


def room(nodes: list[NodeView] | None) -> bool:
    case: Any = SimpleNamespace(
        snapshot=SimpleNamespace(nodes=None if nodes is None else dict(enumerate(nodes))),
        training=SimpleNamespace(spec=SimpleNamespace(pods=SimpleNamespace(node_selector={}))),
        plan=SimpleNamespace(layout=SimpleNamespace(hosts=2)),
    )
    return machines.room(case)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node(), node()], True),
        ([node(), node(LOST)], True),
        ([node(), node(CORDONED)], True),
        ([node(), node(QUARANTINED)], True),
        ([node(), node(OTHERS)], False),
        ([node()], False),
        (None, False),
    ],
)
def test_hosts_share_machines_only_where_there_never_were_enough(nodes: list[NodeView] | None, expected: bool) -> None:
    """Two on one while a node is down: one machine with two agents, that each would take for the other's end."""
    assert room(nodes) == expected


def host(slot: int, where: str, phase: str = "Running") -> PodView:
    labels = {"opt-operator.io/role": "gang", "opt-operator.io/slot": str(slot)}
    made = {"metadata": {"name": f"h{slot}", "labels": labels}, "spec": {"nodeName": where}, "status": {"phase": phase}}
    return PodView.model_validate(made)


def test_hosts_that_share_a_machine_are_told_apart() -> None:
    hosts = (host(0, "n"), host(1, "n"), host(2, "m"), host(3, "m", "Failed"))
    assert [_place_on(f"cloud://{pod.spec.node_name}", pod, hosts) for pod in hosts[:3]] == [
        "cloud://n#0", "cloud://n#1", "cloud://m",
    ]  # fmt: skip


def test_a_place_on_a_machine_is_that_machine_to_whoever_looks_for_it() -> None:
    place = names.place_on("cloud://n-1", 3)
    assert names.is_on(place, "cloud://n-1")
    assert names.is_on("cloud://n-1", "cloud://n-1")
    assert not names.is_on(place, "cloud://n")
