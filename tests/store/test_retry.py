"""What is tried again, how often, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_store import NotFound, StoreSettings, Unavailable
from opt_store.s3.faults import DamagedError
from opt_store.s3.retry import again, wait_before

pytestmark = pytest.mark.unit
QUICK = StoreSettings(backoff_s=0.001, backoff_limit_s=0.001, attempts=4)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_waits_are_bounded_and_drawn(attempt: int, draw: float):
    settings = StoreSettings(backoff_s=0.2, backoff_limit_s=10)
    wait = wait_before(min(attempt, 1000), settings, draw)
    assert 0 <= wait <= 10
    assert wait <= 0.2 * 2.0 ** (min(attempt, 1000) - 1)
    assert wait_before(3, settings, draw) == pytest.approx(draw * 0.8)


def failing(times: int, fault: Exception):
    seen: list[int] = []

    def act(attempt: int) -> str:
        seen.append(attempt)
        if len(seen) <= times:
            raise fault
        return "done"

    return act, seen


def test_a_passing_fault_is_tried_again():
    act, seen = failing(3, DamagedError("x"))
    assert again("it", QUICK, act) == "done"
    assert seen == [0, 1, 2, 3]


def test_attempts_run_out():
    act, seen = failing(99, DamagedError("half a body"))
    with pytest.raises(Unavailable, match=r"it: DamagedError: half a body \(4 attempts\); ") as caught:
        again("it", QUICK, act)
    assert len(seen) == 4
    assert caught.value.transient
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("fault", [NotFound("gone"), ValueError("a bug"), KeyError("a bug")])
def test_other_faults_pass_at_once(fault: Exception):
    act, seen = failing(99, fault)
    with pytest.raises(type(fault)):
        again("it", QUICK, act)
    assert seen == [0]
