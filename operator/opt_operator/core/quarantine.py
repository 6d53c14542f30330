"""Which nodes carry our taint: of machines that a training has quarantined, on nodes where it was seen by us."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from opt_api.training.status import HostStatus
from opt_operator.core import names
from opt_operator.core.nodes import UID
from opt_operator.core.views import NodeView

SHARE, AT_LEAST = 0.1, 2
"""Circuit breaker: we taint this share of the nodes at most, or so many; beyond that, machines are not at fault.

Each training goes on to avoid by name what it has quarantined.
"""


@dataclass(frozen=True, slots=True)
class Taint:
    """A node whose taint is to change.

    Attributes:
        owner: Uid of the training that suspects the machine; empty to take our taint away.
    """

    node: NodeView
    owner: str


def taints(
    nodes: Mapping[str, NodeView], suspected: Mapping[str, Iterable[HostStatus]], release: str
) -> tuple[Taint, ...]:
    """What is to change now.

    Args:
        nodes: All, by name.
        suspected: Every training's hosts by its uid. A training that is gone has no say any more.
        release: Which operator we are: the taints of another one in the same cluster are not ours to take away.
    """
    wanted = _wanted(nodes, suspected)
    carried = {name: owner for name, node in nodes.items() if (owner := owner_of(node, release))}
    released = [Taint(nodes[name], "") for name, owner in carried.items() if owner not in wanted.get(name, ())]
    room = max(AT_LEAST, int(SHARE * len(nodes))) - len(carried) + len(released)
    fresh = [
        Taint(nodes[name], owners[0])
        for name, owners in sorted(wanted.items())
        if name not in carried and not any(taint.key == names.QUARANTINED for taint in nodes[name].spec.taints)
    ]
    return (*released, *fresh[: max(room, 0)])


def owner_of(node: NodeView, release: str) -> str:
    """The training whose suspicion a node carries; empty for none. A person's taint has another value and stays."""
    if node.metadata.annotations.get(names.QUARANTINED_BY) != release:
        return ""
    found = (taint.value for taint in node.spec.taints if taint.key == names.QUARANTINED)
    return next((value for value in found if re.fullmatch(UID, value)), "")


def _wanted(nodes: Mapping[str, NodeView], suspected: Mapping[str, Iterable[HostStatus]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for owner, hosts in suspected.items():
        for host in hosts:
            node = nodes.get(host.node)
            if host.state in ("Quarantined", "Retired") and node is not None and node.hardware == host.hardware:
                found.setdefault(host.node, []).append(owner)
    return found
