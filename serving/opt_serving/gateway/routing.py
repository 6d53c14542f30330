"""Which endpoint a request goes to: by weight, then where the fewest are. Pure but for the dice it is given."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

EndpointState = Literal["Ready", "Loading", "Draining", "Silent", "Unreached"]


@dataclass
class Endpoint:
    """One replica.

    Attributes:
        address: `host:port`.
        revision: Which it is of; None while it has not said.
        state: As it was last seen.
        in_flight: Requests of this gateway.
        failures: Probes in a row that nobody answered.
        unreached: The newest of them, in a row, that did not get as far as a machine.
        missed_at: When the first of those ended, of the monotonic clock.
        heard_at: When it last answered one.
        listed: Whether the routes name it; else DNS does.
    """

    address: str
    revision: str | None = None
    state: EndpointState = "Loading"
    in_flight: int = 0
    failures: int = 0
    unreached: int = 0
    missed_at: float = 0.0
    heard_at: float = 0.0
    listed: bool = False
    next_probe: float = field(default=0.0, repr=False)
    probing: bool = False


def choose(
    endpoints: Iterable[Endpoint], weights: dict[str, int], tried: Collection[str], dice: random.Random
) -> Endpoint | None:
    """A ready endpoint that was not tried yet; None for none.

    Revisions share requests by weight. Where none with a weight has a ready endpoint, one without answers rather than
    nobody.
    """
    ready: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.state == "Ready" and endpoint.revision in weights and endpoint.address not in tried:
            ready.setdefault(str(endpoint.revision), []).append(endpoint)
    if not ready:
        return None
    names = sorted(ready)
    shares = [weights[name] for name in names]
    revision = dice.choices(names, shares if any(shares) else None)[0]
    least = min(endpoint.in_flight for endpoint in ready[revision])
    return dice.choice([endpoint for endpoint in ready[revision] if endpoint.in_flight == least])
