"""Which nodes get our taint, which lose it, and whose word counts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from opt_api.training.status import HostStatus
from opt_operator.core.nodes import judge_node
from opt_operator.core.quarantine import taints
from opt_operator.core.views import NodeView

pytestmark = pytest.mark.unit

MINE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
RELEASE = "system/opt"


def node(number: int, *, owner: str = "", by: str = RELEASE, machine: int = 0) -> NodeView:
    found = [{"key": "opt-operator.io/quarantined", "value": owner, "effect": "NoSchedule"}] if owner else []
    meta: dict[str, Any] = {"name": f"n{number}"}
    if owner and by:
        meta["annotations"] = {"opt-operator.io/quarantined-by": by}
    spec = {"providerID": f"cloud://{machine or number}", "taints": found}
    return NodeView.model_validate({"metadata": meta, "spec": spec})


def host(number: int, state: str = "Quarantined", seen: bool = True) -> HostStatus:
    return HostStatus.model_validate({
        "name": f"h{number}", "state": state, "hardware": f"cloud://{number}", "node": f"n{number}" if seen else "",
    })  # fmt: skip


def changes(nodes: list[NodeView], suspected: dict[str, list[HostStatus]]) -> dict[str, str]:
    by_name = {one.metadata.name: one for one in nodes}
    return {taint.node.metadata.name: taint.owner for taint in taints(by_name, suspected, RELEASE)}


def test_the_node_of_a_quarantined_machine_is_tainted_once() -> None:
    assert changes([node(1), node(2)], {MINE: [host(1)]}) == {"n1": MINE}
    assert changes([node(1, owner=MINE), node(2)], {MINE: [host(1)]}) == {}
    assert changes([node(1), node(2)], {MINE: [host(1, "Suspect")]}) == {}


def test_a_node_on_which_the_training_was_never_seen_is_left_alone() -> None:
    """A coordinator is a training's own program; its word alone reaches nobody else."""
    assert changes([node(1)], {MINE: [host(1, seen=False)]}) == {}


def test_a_node_that_is_another_machine_now_is_left_alone() -> None:
    assert changes([node(1, machine=7)], {MINE: [host(1)]}) == {}
    assert changes([node(1, machine=7, owner=MINE)], {MINE: [host(1)]}) == {"n1": ""}


def test_the_taint_goes_with_the_suspicion_and_with_the_training() -> None:
    assert changes([node(1, owner=MINE)], {MINE: []}) == {"n1": ""}
    assert changes([node(1, owner=MINE)], {}) == {"n1": ""}


def test_two_may_suspect_one_machine() -> None:
    assert changes([node(1, owner=MINE)], {MINE: [host(1)], OTHER: [host(1)]}) == {}
    assert changes([node(1, owner=MINE)], {OTHER: [host(1)]}) == {"n1": ""}


@pytest.mark.parametrize(("owner", "by"), [("broken", RELEASE), (MINE, "elsewhere/opt"), (MINE, "")])
def test_what_a_person_or_another_operator_tainted_stays(owner: str, by: str) -> None:
    assert changes([node(1, owner=owner, by=by)], {}) == {}
    assert changes([node(1, owner=owner, by=by)], {MINE: [host(1)]}) == {}


def test_it_never_takes_the_whole_cluster_away() -> None:
    nodes = [node(number) for number in range(1, 51)]
    assert len(changes(nodes, {MINE: [host(number) for number in range(1, 51)]})) == 5
    assert len(changes(nodes[:5], {MINE: [host(number) for number in range(1, 6)]})) == 2


def test_what_one_training_suspects_moves_no_pod_of_another() -> None:
    assert judge_node(node(1, owner=MINE)).state == "Avoid"
    assert judge_node(node(1, owner="broken")).state == "Bad"
