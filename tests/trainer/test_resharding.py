"""A checkpoint of any layout loads into any other: real gangs of 1, 2 and 4 workers, every pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.plan import Plan
from support.gloo import run_gang
from support.plans import tiny_plan
from support.reshard_run import load_each, save_each

POST = {"normPosition": "post", "embeddingSize": 16}


def plan_of(workers: int, **layout: Any) -> Plan:
    return tiny_plan(parallelism={"devicesPerHost": workers, **layout})


LAYOUTS: dict[int, dict[str, Plan]] = {
    1: {"alone": plan_of(1)},
    2: {
        "fsdp2": plan_of(2),
        "replicate2": plan_of(2, shard=1),
        "tensor2": plan_of(2, tensorParallel=2),
        "fairscale2": plan_of(2, tensorParallel=2, engine="fairscale"),
    },
    4: {
        "fsdp4": plan_of(4),
        "hybrid": plan_of(4, shard=2),
        "tensor4": plan_of(4, tensorParallel=4),
        "tensor-fsdp": plan_of(4, tensorParallel=2),
        "tensor-replicate": plan_of(4, tensorParallel=2, shard=1),
        "fairscale-fsdp": plan_of(4, tensorParallel=2, engine="fairscale"),
    },
}


@pytest.mark.parametrize("model", [
    pytest.param({}, id="pre-norm", marks=pytest.mark.integration),
    pytest.param(POST, id="post-norm", marks=pytest.mark.long),
])  # fmt: skip
def test_every_layout_loads_every_other(tmp_path: Path, model: dict[str, Any]) -> None:
    shape = tiny_plan(model=model).architecture
    bytes_of = {
        workers: {name: p.model_copy(update={"architecture": shape}).to_bytes() for name, p in plans.items()}
        for workers, plans in LAYOUTS.items()
    }
    for workers, plans in bytes_of.items():
        run_gang(workers, save_each, tmp_path, plans)
    runs = [name for plans in bytes_of.values() for name in plans]
    for workers, plans in bytes_of.items():
        for rank, wrong in enumerate(run_gang(workers, load_each, tmp_path, plans, runs)):
            assert not wrong, f"rank {rank} of {workers}: {wrong}"
