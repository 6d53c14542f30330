"""Validation loss per source, over all workers, without dropout."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from opt_api.documents.plan import Plan
from opt_model.opt import LossSum
from opt_trainer.parallelism.build import WorkerModel
from opt_trainer.state import Loader


class Evaluation:
    """Measures; every worker calls it at the same step."""

    def __init__(self, plan: Plan, worker: WorkerModel, loader: Loader, sources: tuple[str, ...]) -> None:
        self._plan, self._worker, self._loader, self._sources = plan, worker, loader, sources
        self._device = torch.device(plan.layout.device)

    def due(self, step: int) -> bool:
        """At the plan's interval and at the end of the run."""
        return step % self._plan.evaluation.interval_steps == 0 or step == self._plan.recipe.total_steps

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Mean loss in nats per token, by source; a source without a held-out block is left out."""
        self._worker.model.eval()
        try:
            measured = {source: self._mean(self._batches(source)) for source in self._sources}
        finally:
            self._worker.model.train()
        return {source: loss for source, loss in measured.items() if loss is not None}

    def _batches(self, source: str) -> Iterator[Tensor]:
        size = self._plan.layout.micro_batch_sequences * self._worker.place.data_parallel
        return self._loader.validation(source, size, self._plan.evaluation.max_batches)

    def _mean(self, batches: Iterator[Tensor]) -> float | None:
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for rows in batches:
            found = self._worker.model(rows[:, :-1].to(self._device), rows[:, 1:].to(self._device))
            assert isinstance(found, LossSum)
            sums += torch.stack((found.loss.double(), torch.tensor(rows[:, 1:].numel(), device=self._device).double()))
        if self._worker.mesh is not None:
            dist.all_reduce(sums)
        loss, tokens = sums.tolist()
        return loss / tokens if tokens else None
