"""What the status of a training says of its hosts."""

from __future__ import annotations

from typing import Any

import pytest

from opt_operator.core.status import _spares
from opt_operator.core.views import CoordinatorReport

pytestmark = pytest.mark.unit


def report(phase: str, gang: int, *states: str) -> CoordinatorReport:
    agents: list[dict[str, Any]] = [{"host": f"h{at}", "state": state} for at, state in enumerate(states)]
    workers = [{"rank": rank, "host": f"h{rank}"} for rank in range(gang)]
    return CoordinatorReport.model_validate({"phase": phase, "agents": agents, "workers": workers})


@pytest.mark.parametrize(
    ("found", "spares"),
    [
        (report("running", 2, "InUse", "InUse", "Spare"), 1),
        (report("running", 2, "InUse", "InUse", "Spare", "BurnIn"), 1),
        (report("completed", 0, "Spare", "Spare", "Spare"), 1),
        (report("paused", 0, "Spare"), 0),
    ],
)
def test_spares_are_hosts_beyond_the_gang_that_runs_or_would_be_next(found: CoordinatorReport, spares: int) -> None:
    assert _spares(found, 2) == spares
