"""Steps as a loop reports them."""

from __future__ import annotations

from opt_trainer.state import StepRecord


def record(**more) -> StepRecord:
    values = {
        "step": 7, "tokens": 448, "step_tokens": 64, "loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.5,
        "parameter_norm": 9.0, "activation_norm": 3.0, "step_seconds": 0.5,
    }  # fmt: skip
    return StepRecord(**(values | more))
