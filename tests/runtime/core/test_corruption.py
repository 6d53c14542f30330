"""Replicas that disagree: who is named, when, and where the run goes back to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opt_runtime.core.actions import StartAttempt
from opt_runtime.core.corruption import Norms, disagreement
from opt_runtime.core.decide import decide
from opt_runtime.core.divergence import CheckpointView
from opt_runtime.core.snapshot import GangSnapshot
from support.gang_views import gang

pytestmark = pytest.mark.unit


def norms(*values: float) -> dict[int, Norms]:
    return {rank: Norms(1.0, value) for rank, value in enumerate(values)}


def test_equal_replicas_agree_and_shards_are_not_compared() -> None:
    assert disagreement(5, norms(3.0, 3.0, 3.0), 3) is None
    assert disagreement(5, norms(3.0, 4.0, 3.0, 4.0), 2) is None
    assert disagreement(5, norms(3.0, 4.0), 1) is None


def test_the_minority_is_named_and_of_two_nobody_is() -> None:
    found = disagreement(5, norms(3.0, 3.5, 3.0), 3)
    assert (found.ranks, found.named) == ((1,), True)
    assert "rank 1: 3.5" in found.evidence
    assert disagreement(5, norms(3.0, 4.0, 3.0, 4.1), 2).ranks == (1, 3)
    assert not disagreement(5, norms(3.0, 3.5), 2).named


def test_another_gradient_is_a_disagreement_too() -> None:
    odd = {0: Norms(1.0, 3.0), 1: Norms(1.1, 3.0), 2: Norms(1.0, 3.0)}
    assert disagreement(5, odd, 3).ranks == (1,)
    assert disagreement(5, {0: Norms(None, 3.0), 1: Norms(1.0, 3.0)}, 2) is None


def begun(snapshot: GangSnapshot) -> StartAttempt:
    return next(action for action in decide(snapshot).actions if isinstance(action, StartAttempt))


def test_memory_is_not_trusted_and_checkpoints_since_are_left_behind() -> None:
    views = tuple(CheckpointView(step) for step in (4, 8, 9))
    tie = disagreement(10, norms(3.0, 3.5), 2)
    found = begun(gang(disagreement=tie, checkpoints=views))
    assert (found.cause, found.rung, found.restore.step, found.poison_after) == ("SilentCorruption", 3, 8, 8)
    assert found.restore.sources == {}
    assert found.hosts == ("h0", "h1")


def test_a_named_machine_is_replaced() -> None:
    named = disagreement(10, norms(3.0, 3.5, 3.0), 3)
    found = begun(gang(hosts=3, spares=1, disagreement=named, checkpoints=(CheckpointView(4),)))
    assert (found.hosts, found.culprits) == (("h0", "h3", "h2"), ("h1",))
    assert begun(replace(gang(disagreement=disagreement(10, norms(3.0, 3.5), 2)))).restore.step is None
