"""How far recovery has to go: one table over what broke and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opt_runtime.core.causes import Scope

Rung = Literal[1, 2, 3, 4, 5]
Supply = Literal["full", "short", "none"]
"""Good hosts: enough for the full gang, enough for a smaller one that may train, or too few."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What is left.

    Attributes:
        memory: Every rank's state of one common step is in the memory of a living host.
        supply: Good hosts, spares included.
    """

    memory: bool
    supply: Supply


_BY_SCOPE: dict[Scope, dict[tuple[bool, Supply], Rung]] = {
    "worker": {
        (True, "full"): 1,
        (True, "short"): 1,  # a gang that is already smaller restarts in place all the same
        (True, "none"): 5,
        (False, "full"): 3,
        (False, "short"): 4,
        (False, "none"): 5,
    },
    "host": {
        (True, "full"): 2,
        (True, "short"): 4,
        (True, "none"): 5,
        (False, "full"): 3,
        (False, "short"): 4,
        (False, "none"): 5,
    },
    "gang": {
        (True, "full"): 3,
        (True, "short"): 4,
        (True, "none"): 5,
        (False, "full"): 3,
        (False, "short"): 4,
        (False, "none"): 5,
    },
    "human": {
        (True, "full"): 5,
        (True, "short"): 5,
        (True, "none"): 5,
        (False, "full"): 5,
        (False, "short"): 5,
        (False, "none"): 5,
    },
}

RUNGS: dict[tuple[Scope, bool, Supply], Rung] = {
    (scope, memory, supply): rung for scope, rows in _BY_SCOPE.items() for (memory, supply), rung in rows.items()
}


def rung_of(scope: Scope, resources: Resources) -> Rung:
    """The lowest rung that can help."""
    return RUNGS[scope, resources.memory, resources.supply]
