"""Everything that can be said of a plan before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from opt_api.base import Model
from opt_api.documents.plan import Plan
from opt_api.estimate.compute import Amount, Duration, Work, duration, work, workers_cores
from opt_api.estimate.energy import Energy, energy
from opt_api.estimate.layouts import case_of, copies_per_host, fit_of
from opt_api.estimate.memory import MASTER, MOMENTS, MemoryEstimate
from opt_api.estimate.spares import Spares, spares
from opt_api.quantity import binary_quantity, bytes_of
from opt_api.resources import OPTTraining
from opt_api.types import LongCount, LongWhole, Message


class Saves(Model):
    """What checkpoints ask of the object store."""

    bytes: LongWhole
    """Weights and both moments in float32, once over all hosts."""
    bytes_per_second: Amount
    """Mean rate over the interval, all hosts together."""


class Estimate(Model):
    """Memory, time, energy and spares of one plan, with what they assume."""

    parameters: LongCount
    memory: MemoryEstimate
    memory_needed: LongWhole
    memory_available: LongWhole
    """Bytes per device."""
    work: Work
    duration: Duration
    energy: Energy
    spares: Spares
    checkpoint: Saves
    notes: tuple[Message, ...] = ()
    """What a reader should know before starting it."""


def estimate(training: OPTTraining, plan: Plan) -> Estimate:
    """The estimate of a plan that was resolved from this training."""
    pods = training.spec.pods.resources
    fit = fit_of(plan.layout, case_of(plan, pods.memory))
    done = work(plan)
    time = duration(plan, done, pods.cpu)
    return Estimate(
        parameters=plan.architecture.parameters(),
        memory=fit.needed,
        memory_needed=fit.needed.total,
        memory_available=fit.available,
        work=done,
        duration=time,
        energy=energy(plan, time, workers_cores(plan.layout, pods.cpu)),
        spares=spares(plan.resilience),
        checkpoint=saves(plan, time),
        notes=tuple(_notes(training, plan)),
    )


def saves(plan: Plan, time: Duration) -> Saves:
    """Size of one checkpoint, and the rate at which the store must take it before the next is due."""
    c, size = plan.checkpointing, plan.architecture.parameters() * (MASTER + MOMENTS)
    return Saves(
        bytes=size, bytes_per_second=size / (c.interval_seconds or (c.interval_steps or 1) * time.step_seconds)
    )


def _notes(training: OPTTraining, plan: Plan) -> Iterator[str]:
    yield from _uneven(plan)
    yield from _memory_tier(training, plan)


def _uneven(plan: Plan) -> Iterator[str]:
    batch, workers = plan.recipe.batch_sequences, plan.layout.data_parallel
    small, larger = divmod(batch, workers)
    if larger:
        even = " or ".join(str(each * workers * plan.sequence_length) for each in (small, small + 1))
        yield (
            f"The batch of {batch} sequences does not divide by {workers} data-parallel workers: {larger} take "
            f"{small + 1} and {workers - larger} take {small}, weighted exactly; the larger share sets the pace. "
            f"Even batches nearby: optimisation.batchTokens {even}."
        )


def _memory_tier(training: OPTTraining, plan: Plan) -> Iterator[str]:
    if not plan.checkpointing.memory_tier:
        return
    needed = copies_per_host(plan.layout, plan.architecture)
    given = training.spec.pods.resources.shared_memory
    if needed > bytes_of(given):
        yield (
            f"The memory tier keeps {binary_quantity(needed)} of state on each host, but "
            f"pods.resources.sharedMemory is {given}: raise it, and pods.resources.memory with it, or set "
            "checkpointing.memoryTier to false."
        )
