"""The recipe: AdamW, the schedule, clipping and the batch. Defaults are OPT's (arXiv 2205.01068, section 2.2)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from opt_api.architecture import LearningRateSource
from opt_api.base import Model, Rule, changes
from opt_api.types import Fraction, LongCount, LongWhole, Positive, Rate, Whole

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimisationSpec(Model):
    """Absent numbers come from the preset."""

    learning_rate: Rate | None = changes("step", default=None)
    """Peak learning rate; the preset's when absent."""
    learning_rate_source: LearningRateSource = "paper"
    """Whose learning rate and warm-up the preset gives: table 1, or the released code (they differ for 175B)."""
    min_learning_rate_ratio: Fraction = 0.1
    """Share of the peak at which the linear decay ends."""
    warmup_tokens: LongWhole | None = None
    """Length of the linear warm-up; the preset's updates when absent."""
    total_tokens: LongCount = 300_000_000_000
    """Tokens trained on, and the end of the decay."""
    batch_tokens: LongCount | None = None
    """Tokens of one optimiser step over all hosts; the preset's when absent."""
    beta1: Beta = 0.9
    beta2: Beta = 0.95
    epsilon: Positive = 1e-8
    weight_decay: Fraction = 0.1
    """Decay of every parameter, biases and layer norms included, as the released code does."""
    clip: Annotated[float, Field(gt=0, le=1e6)] = changes("step", default=1.0)
    """Largest gradient norm."""
    seed: Whole = 1
    """Seed of the initial weights and of dropout."""


class LossScale(Model):
    """Dynamic loss scale of fp16 (the released code's numbers)."""

    initial: Positive = 4.0
    window: Annotated[LongCount, Field(le=1_000_000)] = 256
    """Good steps before the scale doubles."""
    floor: Positive = changes("step", default=0.03125)
    """The scale never falls below this; steps that overflow at the floor are skipped and counted (2^-5)."""

    rules = (Rule("floor", "must not exceed initial", "self.floor <= self.initial", lambda s: s.floor <= s.initial),)
