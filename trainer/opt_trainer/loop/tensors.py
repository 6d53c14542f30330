"""Everything of a worker that a checkpoint holds, by the names it has there."""

from __future__ import annotations

from opt_model.exchange.names import to_hugging_face
from opt_trainer.parallelism.build import WorkerModel
from opt_trainer.recipe.optimiser import Optimiser
from opt_trainer.state import LocalTensor


def saved_tensors(worker: WorkerModel, optimiser: Optimiser) -> list[LocalTensor]:
    """Weights in float32 under Hugging Face's names, Adam's moments, and its count of updates; aliased, not copied."""
    found: list[LocalTensor] = []
    for part, first, second in zip(worker.parts, optimiser.moments.first, optimiser.moments.second, strict=True):
        theirs = to_hugging_face(part.name)
        short = theirs.removeprefix("model.")
        for name, tensor in ((theirs, part.master), (f"exp_avg.{short}", first), (f"exp_avg_sq.{short}", second)):
            found.append(LocalTensor(name, tensor, part.whole, part.box.offset, part.box.owner))
    found.append(LocalTensor("adam.updates", optimiser.moments.updates, (1,), (0,), worker.place.rank == 0))
    return found
