"""From the optimisation section and the preset to the recipe's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from opt_api.architecture import PRESETS
from opt_api.documents.plan import RecipePlan
from opt_api.resolve.errors import Findings
from opt_api.training.spec import OPTTrainingSpec

WARMUP_TOKENS = 375_000_000
"""Warm-up of every published model but 175B (arXiv 2205.01068, section 2.2); used where no preset says otherwise."""


def nearest(numerator: int, denominator: int) -> int:
    """The quotient rounded to the nearest whole number, halves up; whole-number arithmetic throughout."""
    return (2 * numerator + denominator) // (2 * denominator)


@dataclass(frozen=True)
class _Basis:
    """The three numbers that a preset can supply."""

    learning_rate: float
    batch_tokens: int
    warmup_steps: int


def resolve_recipe(spec: OPTTrainingSpec, findings: Findings) -> RecipePlan | None:
    """The recipe, or None where it cannot be built and a finding says why."""
    basis = _basis(spec, findings)
    if basis is None:
        return None
    o, length = spec.optimisation, spec.data.sequence_length
    sequences, rest = divmod(basis.batch_tokens, length)
    if rest:
        _not_whole_sequences(basis.batch_tokens, length, findings)
    if o.total_tokens < basis.batch_tokens:
        findings.add("optimisation.totalTokens", o.total_tokens, f"at least one batch of {basis.batch_tokens} tokens")
        return None
    steps = nearest(o.total_tokens, basis.batch_tokens)
    if basis.warmup_steps >= steps:
        _warmup_too_long(basis, steps, findings)
    if findings:
        return None
    return RecipePlan(
        peak_learning_rate=basis.learning_rate,
        min_learning_rate=basis.learning_rate * o.min_learning_rate_ratio,
        warmup_steps=basis.warmup_steps,
        total_steps=steps,
        batch_sequences=sequences,
        beta1=o.beta1,
        beta2=o.beta2,
        epsilon=o.epsilon,
        weight_decay=o.weight_decay,
        clip=o.clip,
        seed=o.seed,
    )


def _basis(spec: OPTTrainingSpec, findings: Findings) -> _Basis | None:
    o, preset = spec.optimisation, PRESETS.get(spec.model.preset)
    rate = o.learning_rate or (preset.learning_rate(o.learning_rate_source) if preset else None)
    batch = o.batch_tokens or (preset.batch_tokens if preset else None)
    if rate is None:
        findings.add("optimisation.learningRate", "nothing", "a peak learning rate, as preset custom has none")
    if batch is None:
        findings.add("optimisation.batchTokens", "nothing", "the tokens of one batch, as preset custom has none")
    if rate is None or batch is None:
        return None
    if o.warmup_tokens is not None or preset is None:
        return _Basis(rate, batch, nearest(WARMUP_TOKENS if o.warmup_tokens is None else o.warmup_tokens, batch))
    return _Basis(rate, batch, preset.warmup_updates(o.learning_rate_source))


def _not_whole_sequences(batch: int, length: int, findings: Findings) -> None:
    below = batch // length * length
    near = f"{below} or {below + length}" if below else str(length)
    findings.add("optimisation.batchTokens", batch, f"a multiple of data.sequenceLength, {length}, such as {near}")


def _warmup_too_long(basis: _Basis, steps: int, findings: Findings) -> None:
    most = max(0, steps - 1) * basis.batch_tokens
    findings.add(
        "optimisation.warmupTokens",
        f"a warm-up of {basis.warmup_steps} steps",
        f"fewer than the run's {steps} steps",
        f"set at most {most} tokens, or raise optimisation.totalTokens",
    )
