"""A telemetry that writes each step's numbers to a file at once, exactly, for comparing runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from opt_api.training.resilience import Section
from opt_trainer.checkpoint.job import Outcome
from opt_trainer.state import StepRecord


class Recorder:
    """Lines of JSON; floats in hexadecimal, so that equal means bit-equal."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    @contextmanager
    def section(self, name: Section) -> Iterator[None]:
        yield

    def at_step(self, step: int) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        numbers = {name: getattr(record, name).hex() for name in ("loss", "gradient_norm", "parameter_norm")}
        rate, change = record.learning_rate, record.applied_change
        self._line(step=record.step, tokens=record.tokens, learning_rate=rate, change=change, **numbers)

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        self._line(validation=step, losses=dict(losses))

    def saved(self, step: int, stall_seconds: float) -> None:
        self._line(saved=step)

    def outcome(self, outcome: Outcome) -> None:
        self._line(outcome=outcome.stage, of=outcome.step, message=outcome.message)

    def progress(self, done: int, total: int) -> None:
        self._line(done=done, total=total)

    def close(self) -> None:
        self._file.close()

    def _line(self, **values: object) -> None:
        self._file.write(json.dumps(values) + "\n")


def lines_of(path: Path) -> list[dict[str, object]]:
    """All whole lines; a killed process may leave half a line."""
    lines = path.read_text().split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines[:-1]]


def losses_of(path: Path) -> dict[int, str]:
    """The last loss recorded for each step, in hexadecimal."""
    return {int(str(line["step"])): str(line["loss"]) for line in lines_of(path) if "step" in line}
