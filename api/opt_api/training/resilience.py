"""What is done when something breaks: spares, budgets, deadlines, host checks and the divergence policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.types import Count, Fraction, LabelKey, LongWhole, Positive, Whole

Section = Literal["init", "load", "data", "step", "save", "eval", "shutdown"]
"""Everything a worker can hang in."""
SECTIONS: tuple[Section, ...] = ("init", "load", "data", "step", "save", "eval", "shutdown")

DivergenceAction = Literal["rollback", "lower-learning-rate", "lower-clip", "skip-batches"]

Seconds = Annotated[Count, Field(le=86_400)]


class SectionDeadlines(Model):
    """Lowest deadline per section, in seconds; in use is max(this, 5 x the observed p99)."""

    init: Seconds = 300
    load: Seconds = 1800
    data: Seconds = 120
    step: Seconds = 60
    save: Seconds = 600
    eval: Seconds = 600
    shutdown: Seconds = 120


class FailureBudget(Model):
    """Failures that are not the infrastructure's; the count starts anew when a checkpoint is Verified."""

    failures: Annotated[Count, Field(le=1000)] = 10
    window_seconds: Annotated[Count, Field(le=2_592_000)] = 86_400
    same_step_failures: Annotated[Count, Field(le=100)] = 3
    """The same failure at the same step this often is a crash loop and pauses the run."""


class HostChecks(Model):
    """Burn-in under load before a host joins, and what it must reach relative to the gang's median."""

    enabled: bool = True
    seconds: Annotated[Count, Field(le=3600)] = 30
    min_matmul_ratio: Fraction = 0.8
    min_bandwidth_ratio: Fraction = 0.7
    min_memory_ratio: Fraction = 0.7
    min_disk_bytes_free: LongWhole = 1_000_000_000
    straggler_ratio: Annotated[float, Field(gt=1, le=100)] = 1.3
    """A rank whose own compute time stays this far above its peers' median is named a straggler."""
    straggler_steps: Annotated[Count, Field(le=10_000)] = 20
    max_faults_per_day: Annotated[Count, Field(le=1000)] = 3
    """A machine that this many faults are blamed on within a day is quarantined."""
    max_quarantined_fraction: Fraction = 0.3
    """Circuit breaker: above this share the cause is not the hosts, and the run pauses."""


class DivergencePolicy(Model):
    """The paper's playbook as data (arXiv 2205.01068, section 2.5)."""

    enabled: bool = True
    loss_spike_ratio: Annotated[float, Field(gt=1, le=1000)] = 1.5
    """Loss above this multiple of its exponentially weighted mean is a spike."""
    loss_spike_span_steps: Annotated[Count, Field(le=100_000)] = 100
    max_gradient_norm: Positive | None = None
    min_loss_scale: Positive = 1.0
    """Below it the run counts as diverging, and a checkpoint is no place to return to."""
    activation_norm_rise_steps: Annotated[Count, Field(le=100_000)] = 200
    """The last layer's activation norm rising for this many steps is a trigger."""
    rerun_first: bool = True
    """Run the step once more from the same state, to tell hardware from data."""
    actions: Annotated[tuple[DivergenceAction, ...], Field(min_length=1, max_length=4)] = (
        "rollback",
        "lower-learning-rate",
    )
    """Taken together, in this order."""
    learning_rate_factor: Annotated[float, Field(gt=0, lt=1)] = 0.9
    clip_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    skip_steps: Annotated[Count, Field(le=10_000)] = 100
    """How many batches from the trigger on are skipped."""
    max_interventions: Annotated[Count, Field(le=1000)] = 5
    """After this many within the window the run pauses for a human."""
    window_steps: Annotated[Count, Field(le=10_000_000)] = 2000


class ResilienceSpec(Model):
    """All of it may change while the run goes on."""

    spares: Annotated[Whole, Field(le=1024)] = 0
    """Healthy, checked hosts held ready."""
    min_hosts: Annotated[Count, Field(le=16384)] | None = None
    """Smallest gang that still trains when no spare is left; the full gang when absent."""
    host_loss_per_day: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Expected losses over the whole gang, for the plan's spare estimate (OPT-175B: 2)."""
    spare_refill_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0
    """Time until a lost host is replaced in the pool, for the same estimate."""
    section_deadlines: SectionDeadlines = Field(default_factory=SectionDeadlines)
    budget: FailureBudget = Field(default_factory=FailureBudget)
    host_checks: HostChecks = Field(default_factory=HostChecks)
    divergence: DivergencePolicy = Field(default_factory=DivergencePolicy)
    failure_domain_label: LabelKey = "topology.kubernetes.io/zone"
    """Node label that says which hosts fail together; memory copies go across it where they can."""
