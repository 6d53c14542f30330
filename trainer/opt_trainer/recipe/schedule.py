"""Learning rate by steps: linear warm-up, then linear decay to a share of the peak (arXiv 2205.01068, section 2.2)."""

from __future__ import annotations

from opt_api.documents.plan import Plan


def learning_rate(plan: Plan, step: int, peak: float) -> float:
    """Rate of step `step`, the first being 1; `peak` may have been changed while running, the rest is the plan's."""
    recipe = plan.recipe
    if step <= recipe.warmup_steps:
        return peak * step / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.total_steps - recipe.warmup_steps)
    return peak * (1 - (1 - plan.min_learning_rate_ratio) * min(1.0, done))
