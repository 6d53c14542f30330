"""The warm parent that workers are forked from."""

from __future__ import annotations

import gc
import os

import pytest

from opt_runtime.worker.nursery import keep_for_good

pytestmark = pytest.mark.unit


def test_a_forked_childs_garbage_collector_passes_over_what_its_parent_had() -> None:
    try:
        keep_for_good()
        assert _in_a_child(lambda: len(gc.get_objects()) < gc.get_freeze_count() / 10)
    finally:
        gc.unfreeze()
    assert _in_a_child(lambda: gc.get_freeze_count() == 0)


def _in_a_child(holds: object) -> bool:
    assert callable(holds)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if holds() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
