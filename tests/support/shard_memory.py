"""One worker's part of a large plan, built alone: prints its numbers, the model's, and how much the process grew.

torch's `fake` process group gives the gang's mesh without the gang: building needs places, not messages.
"""

from __future__ import annotations

import json
import resource
import sys

import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from opt_api.documents.plan import Plan
from opt_trainer.parallelism.build import build, initial_values


def main() -> None:
    """Plan on standard input; arguments: rank, and whether to set the values."""
    plan, rank = Plan.from_bytes(sys.stdin.buffer.read()), int(sys.argv[1])
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=plan.layout.world_size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = build(plan, rank)
    if sys.argv[2] == "values":
        initial_values(worker, plan.recipe.seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    here = sum(part.master.numel() for part in worker.parts)
    shapes = [list(part.whole) for part in worker.parts]
    print(json.dumps({"here": here, "grown": grown, "shapes": shapes, "norm": float(worker.parts[0].master.norm())}))


if __name__ == "__main__":
    main()
