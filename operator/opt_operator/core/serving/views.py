"""What gateways say of themselves: the fields we decide on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opt_operator.core.views import View

EndpointState = Literal["Ready", "Loading", "Draining", "Silent", "Unreached"]


class RevisionCount(View):
    """Requests of one revision, since the gateway started."""

    requests: int = 0
    """That got an answer or failed."""
    failures: int = 0
    """Of those, answers that are the replica's fault: 5xx, and broken streams."""
    in_flight: int = 0


class GatewayReport(View):
    """One gateway's status document."""

    generation: int = 0
    """Of the routes it goes by."""
    held: int = 0
    """Requests that wait for a replica."""
    in_flight: int = 0
    revisions: dict[str, RevisionCount] = Field(default_factory=dict)
    endpoints: dict[str, EndpointState] = Field(default_factory=dict)
    """By `address:port`."""
