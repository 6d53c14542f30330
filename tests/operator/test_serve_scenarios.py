"""Every scenario of a served model once, undisturbed, and then once more on the same snapshot."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from opt_operator.core.serving.decide import decide
from opt_operator.core.serving.snapshot import ServeSnapshot
from support.opmodel.serve_harness import SERVE, Perturbation, Process, play
from support.opmodel.serve_scenarios import SCENARIOS, end_of, run_of
from support.opmodel.serve_world import ServeWorld

pytestmark = pytest.mark.unit
ALWAYS_SERVED = ("create", "newer", "quick", "unfit", "erring", "late-error", "other-spec", "pinned", "replica-killed")


def played(name: str) -> ServeWorld:
    return play(run_of(name))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str) -> None:
    world = played(name)
    found = end_of(world)
    assert {key: found[key] for key in SCENARIOS[name].end} == SCENARIOS[name].end
    if name in ALWAYS_SERVED:
        assert not world.unserved


def settled(name: str) -> ServeSnapshot:
    world = played(name)

    async def look() -> Any:
        process = Process(world, Perturbation())
        await process.start()
        return process.loop._gatherer.snapshot(SERVE, 0.0, "")

    return cast("ServeSnapshot", asyncio.run(look()))


@pytest.mark.parametrize("name", ["create", "newer", "unfit", "asleep", "training-gone"])
def test_nothing_is_written_when_nothing_happens(name: str) -> None:
    decision = decide(settled(name))
    assert decision.actions == ()
    assert decision.status is None
