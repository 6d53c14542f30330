"""Work and time of a run, before anything runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.plan import LayoutPlan, Plan
from opt_api.estimate.devices import DEVICES
from opt_api.estimate.memory import ceil_div
from opt_api.quantity import parse_quantity
from opt_api.types import Fraction, LongCount, Text

Amount = Annotated[float, Field(ge=0)]
"""FLOPs and hours of any size: estimates are read, they are no input."""

RESTART_SECONDS = 180.0
"""Assumed: from a fault to the next productive step with a spare host (detect, swap, load). Measured once it runs."""


class Work(Model):
    """What has to be computed."""

    steps: LongCount
    tokens: Amount
    model_flops: Amount
    """Forward and backward of every token (PaLM, arXiv 2204.02311, appendix B)."""
    hardware_flops: Amount
    """What the devices really do, recomputed activations included."""


class Duration(Model):
    """How long it takes on the named device."""

    peak_flops: Amount
    """Of one worker, in the compute format."""
    utilisation: Fraction
    """Share of the peak that is reached, recomputation counted (HFU)."""
    utilisation_source: Text
    model_utilisation: Fraction
    """The same without recomputation (MFU)."""
    balance: Fraction
    """Sequences computed over sequences that fit in the time of the largest share; 1 when the batch divides evenly."""
    step_seconds: Amount
    device_hours: Amount
    """Busy device hours of the whole run: no imbalance, no fault."""
    productive_hours: Amount
    """Wall hours of all steps, imbalance included."""
    expected_ettr: Fraction
    """Productive time over wall time with the expected saves and faults."""
    wall_hours: Amount
    restart_seconds: Amount
    hours_between_faults: Amount


def workers_cores(layout: LayoutPlan, pod_cpu: str) -> float:
    """Cores of one CPU worker: its part of the pod's request."""
    return float(parse_quantity(pod_cpu)) / layout.devices_per_host


def work(plan: Plan) -> Work:
    """Steps, tokens and FLOPs of the whole run."""
    tokens = plan.recipe.total_steps * plan.tokens_per_step
    a, mode = plan.architecture, plan.layout.activation_checkpointing
    model = a.model_flops_per_token(plan.sequence_length)
    whole = a.hardware_flops_per_token(plan.sequence_length, recompute=True)
    recomputed = {"none": 0.0, "selective": ceil_div(a.layers, 2) / a.layers, "full": 1.0}[mode]
    hardware = model + recomputed * (whole - model)
    return Work(
        steps=plan.recipe.total_steps,
        tokens=tokens,
        model_flops=float(model * tokens),
        hardware_flops=hardware * tokens,
    )


def duration(plan: Plan, done: Work, pod_cpu: str) -> Duration:
    """Time from the device's peak, its utilisation, the largest share and the expected faults."""
    layout, facts = plan.layout, DEVICES[plan.layout.device_model]
    cores = workers_cores(layout, pod_cpu) if layout.device == "cpu" else 1.0
    peak = facts.peak[plan.precision.compute] * cores
    largest = ceil_div(plan.recipe.batch_sequences, layout.data_parallel)
    balance = plan.recipe.batch_sequences / (largest * layout.data_parallel)
    device_seconds = done.hardware_flops / (peak * facts.utilisation)
    productive = device_seconds / layout.world_size / balance
    ettr = expected_ettr(plan, productive / done.steps)
    return Duration(
        peak_flops=peak,
        utilisation=facts.utilisation,
        utilisation_source=facts.source,
        model_utilisation=facts.utilisation * done.model_flops / done.hardware_flops,
        balance=balance,
        step_seconds=productive / done.steps,
        device_hours=device_seconds / 3600,
        productive_hours=productive / 3600,
        expected_ettr=ettr,
        wall_hours=productive / 3600 / ettr,
        restart_seconds=RESTART_SECONDS,
        hours_between_faults=plan.checkpointing.assumed_hours_between_faults,
    )


def utilisation(plan: Plan, pod_cpu: str, tokens_per_second: float) -> float:
    """MFU: what the model needs for these tokens over what the devices of the whole gang could do at their peak."""
    layout = plan.layout
    cores = workers_cores(layout, pod_cpu) if layout.device == "cpu" else 1.0
    peak = DEVICES[layout.device_model].peak[plan.precision.compute] * cores * layout.world_size
    return tokens_per_second * plan.architecture.model_flops_per_token(plan.sequence_length) / peak


def expected_ettr(plan: Plan, step_seconds: float) -> float:
    """Productive over wall time: 1 / (1 + C/T + (T/2 + R)/M).

    C is the stall of a save, T the time between saves, M the mean time between faults, R a restart. With T by Young
    and Daly this is 1 / (1 + sqrt(2C/M) + R/M) (Daly, FGCS 22(3), 2006). Saves to the store count alone: the memory
    tier loses less.
    """
    c = plan.checkpointing
    between_saves = c.interval_seconds or (c.interval_steps or 1) * step_seconds
    between_faults = c.assumed_hours_between_faults * 3600
    lost = (between_saves / 2 + RESTART_SECONDS) / between_faults
    return 1 / (1 + c.assumed_stall_seconds / between_saves + lost)
