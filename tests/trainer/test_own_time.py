"""A rank's own time counts work and a crowded host, and not the wait for a peer."""

from __future__ import annotations

import threading
import time

import pytest

from opt_trainer.loop.own_time import OwnTime


@pytest.mark.integration
def test_work_is_counted_and_sleep_is_not() -> None:
    own = OwnTime("cpu")
    threading.Event().wait(2.0)
    slept = own.taken()
    used = time.thread_time()
    while time.thread_time() < used + 0.2:
        pass
    worked = own.taken()
    assert slept is not None
    assert worked is not None
    assert slept < 1.0, "the sleep of 2 s was counted"
    assert worked - slept > 0.19
    assert OwnTime("cuda").taken() is None
