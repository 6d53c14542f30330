"""A run on a CUDA device that is killed and started again is bit-equal to one that was never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_api.documents.plan import PrecisionPlan
from opt_api.training.optimisation import LossScale
from support.killed_runs import check_bit_equal, killed_again_and_again, never_stopped
from support.runs import RunFolder, plan_for
from support.warm import Warm

pytestmark = pytest.mark.gpu
KILLS = 2


@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
def test_a_killed_run_is_bit_equal_to_one_never_stopped(tmp_path: Path, compute: str) -> None:
    scale = LossScale(initial=1024.0) if compute == "float16" else None
    plan = plan_for(steps=300, parallelism={"device": "cuda", "deviceModel": "h100-80gb"})
    plan = plan.model_copy(update={"precision": PrecisionPlan(compute=compute, loss_scale=scale)})  # type: ignore[arg-type]
    with Warm() as warm:
        whole = never_stopped(warm, tmp_path / "whole", plan)
        broken = RunFolder(tmp_path / "broken")
        killed_again_and_again(warm, broken, plan, KILLS, seed=1)
    check_bit_equal(whole, broken, workers=1)
