"""The data order: a pure function of (seed, step), whatever the number of workers.

Batch s (s = 1, 2, ...) is positions [(s-1) B, s B) of the endless sequence "epoch 0, epoch 1, ...", each epoch a
permutation of all training blocks. A rank's share is a slice of the batch. A skipped batch keeps its step number: the
step counts and nothing is trained, so no other step's batch moves (docs/data-order.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from opt_api.documents.plan import spread
from opt_api.training.data import BatchRange
from opt_trainer.data.permutation import Permutation


@dataclass(frozen=True, slots=True)
class DataOrder:
    """Which blocks each step trains on.

    Attributes:
        blocks_total: Training blocks of the data set.
        batch: Blocks (sequences) of one optimiser step over all workers.
        seed: Names the order.
        skip: Steps whose batches are left out.
    """

    blocks_total: int
    batch: int
    seed: int
    skip: tuple[BatchRange, ...] = ()

    def __post_init__(self) -> None:
        if self.blocks_total < 1 or self.batch < 1:
            raise ValueError(
                f"data order: found {self.blocks_total} blocks and a batch of {self.batch}; both must be at least 1"
            )

    def skipped(self, step: int) -> bool:
        """Whether the step's batch is left out: the step counts, nothing is computed, the weights stay."""
        return any(entry.first <= step <= entry.last for entry in self.skip)

    def blocks(self, step: int) -> tuple[int, ...]:
        """Blocks of the whole batch of a step, in batch order."""
        return self.share(step, 0, 1)

    def share(self, step: int, rank: int, ranks: int) -> tuple[int, ...]:
        """Blocks of the batch that fall to one of `ranks` data-parallel ranks; the shares join to the batch in order.

        Raises:
            ValueError: There is no such step or rank.
        """
        if step < 1 or not 0 <= rank < ranks:
            raise ValueError(f"data order: step {step} (first is 1), rank {rank} of {ranks}: there is no such share")
        first = (step - 1) * self.batch
        mine = spread(range(first, first + self.batch), ranks)[rank]
        positions = np.arange(mine.start, mine.stop, dtype=np.uint64)
        return tuple(self._at(positions).tolist())

    def epoch(self, step: int) -> float:
        """Epochs that are over when the step is done."""
        return step * self.batch / self.blocks_total

    def _at(self, positions: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        size = np.uint64(self.blocks_total)
        epochs, points = positions // size, positions % size
        out = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = _permutation(self.blocks_total, self.seed, int(epoch))(points[here])
        return out


@lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> Permutation:
    return Permutation(size, seed, epoch)
