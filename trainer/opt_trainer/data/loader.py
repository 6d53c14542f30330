"""One rank's batches, read ahead by a thread. Resuming is setting the step: there is no other state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from opt_api.documents.plan import spread
from opt_trainer.data.dataset import Dataset
from opt_trainer.data.order import DataOrder
from opt_trainer.data.prefetch import Prefetch
from opt_trainer.data.shards import Progress
from opt_trainer.state import Batch

STEPS_FETCHED = 4
"""Steps whose shards are fetched before the first one."""


class BlockLoader:
    """A `Loader`: rank `rank` of `ranks` data-parallel ranks; tensor-parallel peers share a rank number.

    Args:
        dataset: Where the blocks are.
        order: Which blocks each step sees.
        rank: Data-parallel rank.
        ranks: Data-parallel ranks; need not divide the batch.
        depth: Batches read ahead.
    """

    def __init__(self, dataset: Dataset, order: DataOrder, rank: int, ranks: int, depth: int = 2) -> None:
        self._order, self._rank, self._ranks, self._depth = order, rank, ranks, depth
        self._dataset = dataset
        self._train, self._held_out = dataset.train(), dataset.validation()
        self._prefetch: Prefetch | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._ahead: deque[Future[Batch]] = deque()
        self._next_step = 1

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that have held-out blocks."""
        return tuple(self._held_out)

    def fetch(self, step: int, progress: Progress | None = None) -> None:
        """Bring the shards of the next steps to this host; all others follow while it trains.

        Held-out shards come first among those: once all are here, neither a step nor an evaluation needs the store.

        Args:
            step: The first one.
            progress: Told of bytes.

        Raises:
            opt_store.StoreError, opt_trainer.errors.BadHost, opt_trainer.errors.BadSpec: See `ShardCache.path`.
        """
        steps = range(step, step + STEPS_FETCHED)
        blocks = dict.fromkeys(b for s in steps for b in self._order.share(s, self._rank, self._ranks))
        self._train.fetch(list(blocks), progress)
        shards = sorted(self._dataset.manifest.shards, key=lambda s: s.split == "train")
        self._prefetch = Prefetch(self._dataset.cache, shards)

    def seek(self, step: int) -> None:
        """See `Loader.seek`."""
        while self._ahead:
            self._ahead.popleft().cancel()
        self._next_step = step
        for _ in range(self._depth):
            self._read_ahead()

    def next(self) -> Batch:
        """See `Loader.next`."""
        if not self._ahead:
            self.seek(self._next_step)
        batch = self._ahead.popleft().result()
        self._read_ahead()
        return batch

    def validation(self, source: str, batch_sequences: int, max_batches: int) -> Iterator[torch.Tensor]:
        """See `Loader.validation`. A rank's share of a short last batch may have no rows."""
        blocks = self._held_out[source]
        for first in range(0, min(len(blocks), batch_sequences * max_batches), batch_sequences):
            batch = range(first, min(first + batch_sequences, len(blocks)))
            mine = spread(batch, self._ranks)[self._rank]
            yield torch.from_numpy(blocks.read(mine))

    def close(self) -> None:
        """See `Loader.close`."""
        if self._prefetch:
            self._prefetch.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def _read_ahead(self) -> None:
        self._ahead.append(self._pool.submit(self._read, self._next_step))
        self._next_step += 1

    def _read(self, step: int) -> Batch:
        blocks = self._order.share(step, self._rank, self._ranks)
        return Batch(step, torch.from_numpy(self._train.read(blocks)), blocks)
