"""Heartbeats: at every change of section, at every step, and each second whatever the loop does."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from opt_api.documents.heartbeat import Heartbeat
from opt_api.training.resilience import Section
from opt_trainer.state import RunIdentity
from opt_trainer.telemetry.collectives import begun
from opt_trainer.telemetry.metrics import StepMetrics
from opt_trainer.telemetry.sections import SectionTimer

Send = Callable[[Heartbeat], None]


class Pulse:
    """Makes heartbeats and sends them; `send` must not wait."""

    def __init__(self, identity: RunIdentity, send: Send, done: int = 0, interval_s: float = 1.0) -> None:
        self._identity, self._send = identity, send
        self._host = socket.gethostname()
        self._sequence = 0
        self._done: tuple[int, StepMetrics | None] = (done, None)
        """Steps done and the numbers of the last one, set as one: replicas are held against each other by them."""
        self._bytes: tuple[Section, int, int] | None = None
        self._lock, self._stop = Lock(), Event()
        self.timer = SectionTimer(changed=self.beat)
        self._thread = Thread(target=self._run, args=(interval_s,), name="heartbeat", daemon=True)
        self._thread.start()

    def at_step(self, step: int) -> None:
        """A step begins: all before it are done."""
        _, newest = self._done
        self._done = (step - 1, newest if newest and newest.step == step - 1 else None)

    def progress(self, done: int, total: int) -> None:
        """Bytes of the current section's work; told with the next heartbeat, forgotten when the section ends."""
        self._bytes = (self.timer.current[0], done, total)

    def note(self, metrics: StepMetrics) -> None:
        """A step is done."""
        self._done = (metrics.step, metrics)
        self.beat()

    def beat(self) -> None:
        """Send one now."""
        with self._lock:
            self._sequence += 1
            self._send(self._heartbeat())

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()

    def _run(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.beat()

    def _heartbeat(self) -> Heartbeat:
        section, seconds = self.timer.current
        done, newest = self._done
        known: dict[str, object] = numbers_of(newest) if newest else {}
        if self._bytes is not None and self._bytes[0] == section:
            known |= {"done_bytes": self._bytes[1], "total_bytes": self._bytes[2]}
        return Heartbeat.model_validate(
            {
                "run": self._identity.run,
                "attempt": self._identity.attempt,
                "rank": self._identity.rank,
                "world_size": self._identity.world_size,
                "host": self._host,
                "pid": os.getpid(),
                "sequence": self._sequence,
                "section": section,
                "section_seconds": seconds,
                "step": done,
                "time": time.time(),
                "collectives": begun(),
                **known,
            }
        )


def numbers_of(metrics: StepMetrics) -> dict[str, object]:
    """A step's numbers as a heartbeat carries them; those that are not finite are left out, and the loss says so."""
    given = metrics.finite()
    names = (
        "loss", "loss_scale", "gradient_norm", "parameter_norm", "activation_norm", "learning_rate",
        "tokens_per_second", "step_seconds", "compute_seconds", "memory_bytes", "applied_change", "own_gradient_norm",
        "own_parameter_norm",
    )  # fmt: skip
    return {name: given[name] for name in names} | {"loss_finite": math.isfinite(metrics.loss)}
