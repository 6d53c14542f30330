"""One step's numbers: what the loop measured and what follows from it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from opt_api.documents.plan import Plan
from opt_api.estimate.compute import work
from opt_api.estimate.devices import DEVICES
from opt_trainer.state import StepRecord


@dataclass(frozen=True, slots=True)
class Costs:
    """FLOPs of a token and of the machine.

    Attributes:
        model: Per token, forward and backward, without recomputation (PaLM, arXiv 2204.02311, appendix B).
        hardware: Per token, with recomputation.
        peak: FLOP/s of the whole gang by the makers' data sheets; None where the device does not compute in the format.
    """

    model: float
    hardware: float
    peak: float | None


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One line of the record.

    Attributes:
        model_flops_utilisation: MFU: model FLOPs over peak; None without a peak.
        hardware_flops_utilisation: HFU: the same with recomputed FLOPs counted.
        memory_bytes: Peak of the device's allocator on CUDA; resident memory of the process on the CPU.
        seconds: Seconds in each section since the last step was reported.
    """

    step: int
    tokens: int
    epoch_seconds: float
    loss: float
    learning_rate: float
    gradient_norm: float
    parameter_norm: float
    activation_norm: float
    loss_scale: float | None
    overflow: bool
    skipped: bool
    tokens_per_second: float
    model_flops_utilisation: float | None
    hardware_flops_utilisation: float | None
    step_seconds: float
    compute_seconds: float | None
    memory_bytes: int
    applied_change: int
    seconds: Mapping[str, float]
    own_gradient_norm: float | None = None
    own_parameter_norm: float | None = None

    def finite(self) -> dict[str, object]:
        """For JSON, which has no NaN: numbers that are not finite become None."""
        return {name: _finite(value) for name, value in asdict(self).items()}


def costs_of(plan: Plan, threads: int) -> Costs:
    """Costs of a plan's token; a CPU worker's peak is that of its threads."""
    done, layout = work(plan), plan.layout
    per_worker = DEVICES[layout.device_model].peak.get(plan.precision.compute)
    width = threads if layout.device == "cpu" else 1
    peak = per_worker * width * layout.world_size if per_worker is not None else None
    return Costs(done.model_flops / done.tokens, done.hardware_flops / done.tokens, peak)


def metrics_of(
    record: StepRecord, costs: Costs, seconds: Mapping[str, float], memory_bytes: int, now: float
) -> StepMetrics:
    """The line for a finished step.

    Args:
        record: From the loop.
        costs: From the plan.
        seconds: Per section since the last line.
        memory_bytes: In use.
        now: Seconds since the epoch.
    """
    rate = record.step_tokens / record.step_seconds if record.step_seconds > 0 else 0.0
    return StepMetrics(
        step=record.step,
        tokens=record.tokens,
        epoch_seconds=now,
        loss=record.loss,
        learning_rate=record.learning_rate,
        gradient_norm=record.gradient_norm,
        parameter_norm=record.parameter_norm,
        activation_norm=record.activation_norm,
        loss_scale=record.loss_scale,
        overflow=record.overflow,
        skipped=record.step_tokens == 0,
        tokens_per_second=rate,
        model_flops_utilisation=rate * costs.model / costs.peak if costs.peak else None,
        hardware_flops_utilisation=rate * costs.hardware / costs.peak if costs.peak else None,
        step_seconds=record.step_seconds,
        compute_seconds=record.compute_seconds,
        memory_bytes=memory_bytes,
        applied_change=record.applied_change,
        seconds=dict(seconds),
        own_gradient_norm=record.own_gradient_norm,
        own_parameter_norm=record.own_parameter_norm,
    )


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
