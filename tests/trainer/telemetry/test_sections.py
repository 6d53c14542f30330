"""Sections are timed once each, and their seconds add up."""

from __future__ import annotations

import pytest

from opt_trainer.telemetry.sections import SectionTimer

pytestmark = pytest.mark.unit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nested_sections_count_for_the_innermost_and_add_up():
    clock = Clock()
    timer = SectionTimer(clock=clock)
    clock.now += 1
    with timer.section("step"):
        clock.now += 2
        with timer.section("save"):
            clock.now += 4
            assert timer.current == ("save", 4.0)
        clock.now += 8
        assert timer.current == ("step", 14.0)
        taken = timer.take()
    assert taken == {"init": 1.0, "step": 10.0, "save": 4.0}
    clock.now += 16
    assert timer.take() == {"step": 0.0, "init": 16.0}


def test_a_section_that_raises_is_left():
    timer = SectionTimer()
    with pytest.raises(KeyError), timer.section("eval"):
        raise KeyError
    assert timer.current[0] == "init"


def test_every_change_is_told():
    told = []
    timer = SectionTimer(changed=lambda: told.append(timer.current[0]))
    with timer.section("load"), timer.section("data"):
        pass
    assert told == ["load", "data", "load", "init"]
