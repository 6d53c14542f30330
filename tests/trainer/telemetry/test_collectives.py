"""A rank that others wait for has begun fewer collectives, and says so while it stands still."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opt_trainer.telemetry.collectives import begun
from support.gloo import run_gang
from support.late_rank import late

UNCOUNTED = """
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from opt_trainer.telemetry.collectives import begun
dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
print(begun())
"""


@pytest.mark.unit
def test_there_are_none_without_a_gang() -> None:
    assert begun() == 0


@pytest.mark.integration
def test_a_backend_that_counts_nothing_stops_no_heartbeat() -> None:
    done = subprocess.run([sys.executable, "-c", UNCOUNTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


@pytest.mark.integration
def test_the_rank_that_others_wait_for_has_begun_fewer(tmp_path: Path) -> None:
    waiting, late_one = run_gang(2, late, str(tmp_path / "seen"))
    assert waiting == late_one
    assert waiting[1] == waiting[0] + 1
    assert waiting[0] >= 4
