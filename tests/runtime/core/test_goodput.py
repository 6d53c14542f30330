"""The goodput ledger: whatever happens, the classes add up to the wall time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_runtime.core.goodput import CLASSES, GoodputLedger, class_of

pytestmark = pytest.mark.unit

EVENT = st.tuples(
    st.floats(0, 1000), st.sampled_from(("h0", "h1", "h2")), st.one_of(st.sampled_from(CLASSES), st.just("leave"))
)


@given(st.lists(EVENT, max_size=80), st.floats(0, 1000))
def test_classes_add_up_to_the_wall_time(events: list[tuple[float, str, str]], rest: float) -> None:
    ledger, now, walls = GoodputLedger(), 0.0, 0.0
    present: set[str] = set()
    for wait, host, what in events:
        walls += wait * len(present)
        now += wait
        if what == "leave":
            ledger.leave(host, now)
            present.discard(host)
        else:
            ledger.switch(host, what, now)
            present.add(host)
    walls += rest * len(present)
    now += rest
    assert math.isclose(sum(ledger.totals(now).values()), walls, rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(ledger.wall(now), walls, rel_tol=1e-9, abs_tol=1e-6)


@given(st.lists(st.tuples(st.floats(-50, 50), st.sampled_from(CLASSES)), max_size=30))
def test_a_clock_that_steps_back_makes_no_negative_seconds(events: list[tuple[float, str]]) -> None:
    ledger, now = GoodputLedger(), 100.0
    for step, name in events:
        now += step
        ledger.switch("h", name, now)
        totals = ledger.totals(now)
        assert min(totals.values()) >= 0
        assert math.isclose(sum(totals.values()), ledger.wall(now), abs_tol=1e-6)


def test_each_class_gets_its_own_seconds() -> None:
    ledger = GoodputLedger()
    ledger.join("spare", 0)
    for at, name in ((0, "init"), (2, "productive"), (7, "detect"), (8, "redone"), (9, "productive")):
        ledger.switch("h", name, at)
    ledger.leave("spare", 4)
    found = {name: s for name, s in ledger.totals(10).items() if s}
    assert found == {"init": 2, "productive": 6, "detect": 1, "redone": 1, "idle_spare": 4}
    assert ledger.ettr(10) == 0.6


def test_steps_done_before_are_redone() -> None:
    assert class_of("step", 4, highest_step=5) == "redone"
    assert class_of("step", 5, highest_step=5) == "productive"
    assert class_of("save", 4, highest_step=5) == "save_stall"


def test_a_new_coordinator_carries_the_old_ones_seconds_over() -> None:
    old, new = GoodputLedger(), GoodputLedger()
    old.switch("h", "productive", 0)
    new.carry(old.state(5), now=100)
    new.switch("h", "productive", 100)
    assert new.totals(103)["productive"] == 8
    assert new.wall(103) == 8
    with pytest.raises(ValueError, match="allowed are productive"):
        new.carry({"lunch": 1.0}, 0)
