"""The loss series of a tiny model under a fixed seed and one thread, as recorded; a change of numerics shows here.

Kernels differ between processors and torch versions, so it is bit-exact where both are those of the recording, and
within 1e-4 elsewhere. `PYTHONPATH=tests python tests/trainer/test_golden.py` records anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from support.layout_run import run_plan
from support.plans import tiny_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "losses" / "tiny.json"
STEPS = 20


def series() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = run_plan(0, tiny_plan(model={"dropout": 0.1, "attentionDropout": 0.1}), STEPS)
    finally:
        torch.set_num_threads(threads)
    where = {"torch": torch.__version__, "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {processor()}"}
    return {**where, "losses": [loss.hex() for loss in run.losses], "norms": [norm.hex() for norm in run.norms]}


def processor() -> str:
    """Vendor, family and model: libraries choose their kernels by these, too, where the instructions are the same."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return " ".join(told.get(name, "").strip("\t: ") for name in ("vendor_id", "cpu family", "model"))


@pytest.mark.unit
def test_the_series_is_the_recorded_one() -> None:
    recorded, found = json.loads(GOLDEN.read_text()), series()
    if (recorded["torch"], recorded["cpu"]) == (found["torch"], found["cpu"]):
        assert found == recorded
    for name in ("losses", "norms"):
        assert list(map(float.fromhex, found[name])) == pytest.approx(
            list(map(float.fromhex, recorded[name])), rel=1e-4
        )


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(series(), indent=1) + "\n")
