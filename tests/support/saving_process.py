"""A trainer that only saves: each step sets every tensor to its step, until it is killed.

`python saving_process.py FOLDER ATTEMPT RANK RANKS`: goes on from the newest checkpoint and prints each step begun.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ELEMENTS = 300_000


def main(folder: Path, attempt: int, rank: int, ranks: int) -> None:
    """Save for ever."""
    sys.path.insert(0, str(TESTS))
    import torch

    from opt_trainer.checkpoint.restore import CheckpointRestorer
    from opt_trainer.checkpoint.saver import CheckpointSaver
    from support.checkpoints import boxes, identity, loop_state, settings, store_in
    from support.plans import tiny_plan

    who = identity(rank, ranks, attempt)
    state = {"w": torch.zeros(ELEMENTS), "m": torch.zeros(7, 1000, dtype=torch.bfloat16)}
    mine = boxes(state, rank, ranks)
    restored = CheckpointRestorer(store_in(folder), who, tiny_plan().architecture).restore(mine)
    step = restored.state.step if restored else 0
    saver = CheckpointSaver(who, settings(folder, chunk_bytes=1 << 16, keep_last=3))
    while True:
        step += 1
        saver.before_update()
        for tensor in mine:
            tensor.tensor.fill_(step)
        print(step, flush=True)
        saver.save(mine, loop_state(step))
        saver.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
