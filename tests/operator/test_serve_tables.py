"""Policies of served models, row by row: phases, sizes, weights, errors, autoscaling."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from opt_api.serving.spec import AutoscalingSpec
from opt_api.serving.status import ScaleDown
from opt_operator.core.serving.autoscale import replicas
from opt_operator.core.serving.phases import MEANING, PHASES, TRANSITIONS, allowed
from opt_operator.core.serving.roll import STEPS, crashed
from opt_operator.core.serving.rollout import MIN_FAILURES, Stage, at_fault, sizes, weights
from opt_operator.core.serving.views import RevisionCount
from opt_operator.core.views import PodView

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STAGES: tuple[Any, ...] = get_args(Stage)


def test_every_phase_and_stage_has_its_row() -> None:
    assert set(TRANSITIONS) == set(PHASES) == set(MEANING)
    assert set(STEPS) == set(STAGES)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PHASES, PHASES)))
def test_each_pair_of_phases(before: Any, after: Any) -> None:
    may = allowed(before, after)
    if before == "Deleting":
        assert may == (after == "Deleting")
    if after == "Deleting":
        assert may
    if after == "Pending":
        assert may == (before in ("Pending", "Failed"))
    if before in ("Serving", "Asleep", "Loading") and after == "Rolling":
        assert may


@pytest.mark.parametrize(
    ("stage", "wanted", "surge", "ready", "split"),
    [
        ("Surge", 1, 1, 0, (1, 1)), ("Surge", 10, 4, 0, (10, 2)), ("Surge", 10, 1, 0, (10, 1)),
        ("Canary", 5, 1, 1, (5, 1)), ("Shift", 1, 1, 0, (1, 1)), ("Shift", 3, 1, 1, (2, 2)),
        ("Shift", 3, 1, 3, (1, 3)), ("Shift", 4, 4, 0, (4, 4)), ("Bake", 3, 1, 3, (1, 3)), ("Bake", 1, 1, 1, (1, 1)),
        ("Back", 3, 1, 1, (3, 0)), ("Shift", 0, 1, 0, (0, 0)),
    ],
)  # fmt: skip
def test_sizes(stage: Any, wanted: int, surge: int, ready: int, split: tuple[int, int]) -> None:
    found = sizes(stage, wanted, surge, ready, 20)
    assert (found.old, found.new) == split


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_has_too_few_or_too_many(stage: Any) -> None:
    for wanted, surge, canary in itertools.product(range(1, 8), range(1, 5), (0, 20, 100)):
        for ready in range(wanted + 1):
            found = sizes(stage, wanted, surge, ready, canary)
            assert found.old + found.new <= wanted + surge
            assert found.old + ready >= wanted
            share = weights(stage, wanted, ready, canary)
            assert share.old + share.new > 0
            if ready == 0 and stage in ("Surge", "Shift", "Back"):
                assert share.new == 0


def test_a_shift_comes_to_its_end() -> None:
    """However few the surge is: each replica that is ready makes room for the next."""
    for wanted, surge in itertools.product(range(1, 9), range(1, 4)):
        ready = 0
        for _ in range(2 * wanted):
            ready = sizes("Shift", wanted, surge, ready, 0).new
        assert ready == wanted


@pytest.mark.parametrize(
    ("requests", "failures", "bad"),
    [(0, 0, False), (2, 2, False), (100, 2, False), (100, 3, True), (1000, 20, False), (1000, 21, True)],
)
def test_when_a_revision_is_at_fault(requests: int, failures: int, bad: bool) -> None:
    half = RevisionCount(requests=requests - requests // 2, failures=failures)
    found = at_fault([half, RevisionCount(requests=requests // 2)], 0.02)
    assert bool(found) == bad
    assert MIN_FAILURES == 3


SPEC = AutoscalingSpec(min_replicas=0, max_replicas=4, target_in_flight=2, scale_down_delay_seconds=60)


@pytest.mark.parametrize(
    ("current", "demand", "since", "peak", "wanted", "waits"),
    [
        (1, 5, None, 0, 3, False),  # up at once
        (1, 100, None, 0, 4, False),  # to the bound
        (3, None, None, 0, 3, False),  # nobody knows
        (3, 2, None, 0, 3, True),  # down after a while
        (3, 2, 30, 2, 3, True),
        (3, 2, 60, 2, 2, False),  # to what was needed most
        (3, 0, 60, 0, 0, False),  # to none
        (0, 1, None, 0, 1, False),  # and back
        (0, 0, None, 0, 0, False),
        (9, 0, None, 0, 4, True),  # the bound is lower now
    ],
)
def test_autoscaling(current: int, demand: int | None, since: int | None, peak: int, wanted: int, waits: bool) -> None:
    lower = None if since is None else ScaleDown(since=NOW - timedelta(seconds=since), peak=peak)
    found, after = replicas(SPEC, current, demand, lower, NOW)
    assert (found, after is not None) == (wanted, waits)


END = {"terminated": {"exitCode": 1, "message": "the last words"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"restartCount": 3, "state": BACK_OFF, "lastState": END}, " ended 3 times: the last words"),
        ({"restartCount": 4, "state": END}, " ended 4 times: the last words"),
        ({"restartCount": 3, "state": {"running": {}}, "lastState": END, "ready": True}, ""),
        ({"restartCount": 2, "state": BACK_OFF, "lastState": END}, ""),
    ],
)
def test_a_replica_that_ends_again_and_again_is_told_with_its_last_words(status: Any, words: str) -> None:
    pod = PodView.model_validate(
        {"metadata": {"name": "r"}, "status": {"containerStatuses": [{"name": "s", **status}]}}
    )
    assert crashed(pod) == (f"pod r: container s{words}" if words else "")
