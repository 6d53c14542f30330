"""A node lost under a training on real nodes: ours, and JobSet's controller in the same cluster with the same fault."""

from __future__ import annotations

from common import Case


def lost_node(quick: bool) -> list[Case]:
    return []
