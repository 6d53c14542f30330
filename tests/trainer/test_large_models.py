"""Plans up to 175B are built a part at a time: no worker ever holds, or makes, more than its own part."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from opt_api.architecture import PRESETS
from opt_api.documents.plan import Plan
from opt_model.exchange.names import shapes_of
from opt_model.opt import OPT
from support.plans import tiny_plan

PROGRAM = Path(__file__).parents[1] / "support" / "shard_memory.py"
SLACK = 200 << 20
"""Modules, meshes and the blocks in which initial values are drawn."""


def plan_of(preset: str, replicate: int, shard: int, tensor: int) -> Plan:
    """A CPU plan of a preset's architecture; resolved small, then given the size, which no machine here would hold."""
    plan = tiny_plan()
    layout = plan.layout.model_copy(
        update={
            "hosts": replicate * shard,
            "devices_per_host": tensor,
            "replicate": replicate,
            "shard": shard,
            "tensor_parallel": tensor,
        }
    )
    return plan.model_copy(update={"architecture": PRESETS[preset].architecture, "layout": layout})


def built(plan: Plan, rank: int, values: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(rank), values]
    done = subprocess.run(command, input=plan.to_bytes(), capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.unit
@pytest.mark.parametrize("preset", ["opt-1.3b", "opt-30b", "opt-175b"])
def test_modules_on_the_meta_device_take_no_memory(preset: str) -> None:
    shape = PRESETS[preset].architecture
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.device("meta"):
        model = OPT(shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters()
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == shapes_of(shape)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < SLACK


@pytest.mark.integration
def test_a_worker_of_opt_1_3b_makes_its_sixteenth_and_no_more() -> None:
    plan = plan_of("opt-1.3b", replicate=1, shard=16, tensor=1)
    found = built(plan, 3, "values")
    part = plan.architecture.parameters() / 16
    assert found["here"] == pytest.approx(part, rel=0.02)
    assert found["grown"] < 4 * part + SLACK, "more than the part was made; the whole would be 5.3 GB"
    rows = PRESETS["opt-1.3b"].architecture.vocabulary_size / 16
    assert found["norm"] == pytest.approx(0.006 * math.sqrt(rows * 2048), rel=0.01), (
        "values are not those of the recipe"
    )


@pytest.mark.integration
def test_a_worker_of_opt_175b_on_992_devices_holds_its_part_only() -> None:
    """124 data-parallel groups of 8, as in the paper; one of them, of the world's 992."""
    plan = plan_of("opt-175b", replicate=1, shard=124, tensor=8)
    found = built(plan, 991 - 8, "none")
    assert [tuple(shape) for shape in found["shapes"]] == list(shapes_of(plan.architecture).values())
    assert found["here"] <= 1.05 * plan.architecture.parameters() / 992
    assert found["grown"] < 4 * found["here"] + 4 * SLACK
