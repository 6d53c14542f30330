"""What the divergence policy watches: one reading per step, folded into smoothed values and streaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.logbook import Cause
from opt_api.training.resilience import DivergencePolicy

HISTORY = 4096
"""Readings kept for the choice of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One step's numbers, as rank 0 reported them; None where the run has no such number."""

    step: int
    loss: float | None
    gradient_norm: float | None = None
    loss_scale: float | None = None
    activation_norm: float | None = None

    @classmethod
    def of(cls, beat: Heartbeat) -> Reading:
        """Of a heartbeat; a loss that is not finite travels as a flag, JSON having no word for it."""
        loss = beat.loss if beat.loss_finite else math.nan
        return cls(beat.step, loss, beat.gradient_norm, beat.loss_scale, beat.activation_norm)

    @property
    def overflowed(self) -> bool:
        """Whether the scaled gradients were not finite, so that the update was left out."""
        return self.loss_scale is not None and self.gradient_norm is None


@dataclass(frozen=True, slots=True)
class Trigger:
    """The reading that set the policy off."""

    cause: Cause
    step: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Folded readings.

    Attributes:
        loss: Exponentially weighted mean of the loss; None before the first.
        activation: The same of the activation norm.
        seen: Readings folded in.
        rising: Steps in a row for which the smoothed activation norm rose while the smoothed loss did not fall.
        last_step: Of the newest reading.
        activations: (step, activation norm) of the newest readings, oldest first.
        overflowed_at: Loss scale of the newest reading if it overflowed; None if it did not.
    """

    loss: float | None = None
    activation: float | None = None
    seen: int = 0
    rising: int = 0
    last_step: int = -1
    activations: tuple[tuple[int, float], ...] = ()
    overflowed_at: float | None = None


def observe(watch: Watch, reading: Reading, policy: DivergencePolicy) -> tuple[Watch, Trigger | None]:
    """Fold in a reading; the trigger it is, if it is one. A reading that came before is left aside.

    A reading that triggers is not folded in: a spike must not raise the mean that it is measured by.
    """
    if reading.step <= watch.last_step:
        return watch, None
    if policy.enabled:
        for name, check in CHECKS:
            if evidence := check(watch, reading, policy):
                return replace(watch, last_step=reading.step), Trigger(name, reading.step, evidence)
    return _folded(watch, reading, policy), None


def _not_finite(_: Watch, reading: Reading, __: DivergencePolicy) -> str:
    finite = reading.loss is None or math.isfinite(reading.loss)
    return "" if finite else f"the loss of step {reading.step} is not a finite number"


def _spike(watch: Watch, reading: Reading, policy: DivergencePolicy) -> str:
    if reading.loss is None or watch.loss is None or watch.seen < policy.loss_spike_span_steps:
        return ""
    limit = policy.loss_spike_ratio * watch.loss
    over = reading.loss > limit
    return f"loss {reading.loss:.4g}, above {policy.loss_spike_ratio:g} x its mean {watch.loss:.4g}" if over else ""


def _gradient(_: Watch, reading: Reading, policy: DivergencePolicy) -> str:
    if policy.max_gradient_norm is None or reading.gradient_norm is None:
        return ""
    over = reading.gradient_norm > policy.max_gradient_norm
    return f"gradient norm {reading.gradient_norm:.4g}, above the limit {policy.max_gradient_norm:g}" if over else ""


def _scale(_: Watch, reading: Reading, policy: DivergencePolicy) -> str:
    under = reading.loss_scale is not None and reading.loss_scale < policy.min_loss_scale
    return f"loss scale {reading.loss_scale:g}, below {policy.min_loss_scale:g}" if under else ""


def _floor(watch: Watch, reading: Reading, _: DivergencePolicy) -> str:
    """An overflow halves the scale, unless it is at its floor: then every further step may be left out, unseen."""
    stuck = reading.overflowed and watch.overflowed_at == reading.loss_scale
    return f"loss scale {reading.loss_scale:g} is at its floor, and the gradients overflow again" if stuck else ""


def _activation(watch: Watch, _: Reading, policy: DivergencePolicy) -> str:
    long = watch.rising >= policy.activation_norm_rise_steps
    return f"activation norm rose for {watch.rising} steps in a row while the loss did not fall" if long else ""


CHECKS: tuple[tuple[Cause, Callable[[Watch, Reading, DivergencePolicy], str]], ...] = (
    ("NonFinite", _not_finite),
    ("LossSpike", _spike),
    ("LossSpike", _gradient),
    ("LossScaleFloor", _scale),
    ("LossScaleFloor", _floor),
    ("ActivationNorm", _activation),
)
"""Triggers in order of gravity; a check gives its evidence, or nothing. The rise of activation norms counts only
while the loss does not fall, because they rise in a healthy run's first thousands of steps too."""


def _folded(watch: Watch, reading: Reading, policy: DivergencePolicy) -> Watch:
    loss = _mean(watch.loss, reading.loss, policy.loss_spike_span_steps)
    activation = _mean(watch.activation, reading.activation_norm, policy.loss_spike_span_steps)
    rose = watch.activation is not None and activation is not None and activation > watch.activation
    fell = watch.loss is not None and loss is not None and loss < watch.loss
    activations = watch.activations
    if reading.activation_norm is not None:
        activations = (*activations, (reading.step, reading.activation_norm))[-HISTORY:]
    rising = watch.rising + 1 if rose and not fell else 0
    overflowed_at = reading.loss_scale if reading.overflowed else None
    return Watch(loss, activation, watch.seen + 1, rising, reading.step, activations, overflowed_at)


def _mean(before: float | None, value: float | None, span: int) -> float | None:
    """Exponentially weighted mean with the weight 2 / (span + 1) for the newest value."""
    if value is None or before is None:
        return value if before is None else before
    return before + (value - before) * 2.0 / (span + 1)
