"""The pipe to the writer process, and what is known of the saves under way."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import Outcome, SaveJob, WriterConfig

_COMMAND = (sys.executable, "-m", "opt_trainer.checkpoint.writer")


class WriterLink:
    """Starts the writer, sends it jobs, collects outcomes. One save is under way at a time.

    A writer that died is started anew with the next save; the save it died with has failed.

    Args:
        config: First line to the writer.
        at_once: Start the writer now; else with the first save.
    """

    def __init__(self, config: WriterConfig, *, at_once: bool = True) -> None:
        self._config = config
        self._change = threading.Condition()
        self._pending: int | None = None
        self._failure, self._last_stage = "", "Complete"
        self._outcomes: list[Outcome] = []
        self.durable: Outcome | None = None
        self.fenced = ""
        self._process = self._start() if at_once else None

    @property
    def pending(self) -> int | None:
        """Step of the save that is not durable yet, None if there is none."""
        with self._change:
            return self._pending

    def announce(self, step: int, *, export: bool) -> None:
        """A save begins; waits for the one before it. With an export it is over when that is."""
        with self._change:
            self._change.wait_for(lambda: self._pending is None)
        if self._process is not None and self._process.poll() is not None:
            self._end_input()
            self._reader.join()
            self._process = None
        self._process = self._process or self._start()
        with self._change:
            self._pending, self._failure = step, ""
            self._last_stage = "Exported" if export else "Complete"

    def send(self, job: SaveJob) -> None:
        """Hand over the staged image."""
        try:
            self._write(job.model_dump_json().encode() + b"\n")
        except OSError as problem:
            self.give_up(f"the writer process does not take jobs: {problem}")

    def give_up(self, message: str) -> None:
        """The save under way has failed on this side."""
        step = self.pending or 0
        self._note(Outcome(step=step, stage="Failed", message=f"checkpoint of step {step}: {message}"))

    def take_outcomes(self) -> list[Outcome]:
        """Outcomes since the last call."""
        with self._change:
            taken, self._outcomes = self._outcomes, []
        return taken

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the save under way; return the step of the newest durable one, None if time ran out.

        Raises:
            SaveFailed: It failed.
        """
        with self._change:
            if not self._change.wait_for(lambda: self._pending is None, timeout_s):
                return None
            if self._failure:
                raise SaveFailed(self._failure)
            return self.durable.step if self.durable else None

    def close(self, timeout_s: float) -> None:
        """Let the writer finish, within the bound, and end it."""
        if self._process is None:
            return
        deadline = time.monotonic() + timeout_s
        self._end_input()
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _end_input(self) -> None:
        with suppress(OSError):  # what a dead writer did not take is lost; the pipe is closed all the same
            self._stdin.close()

    @property
    def pid(self) -> int:
        """Process id of the writer, which must have been started."""
        assert self._process is not None
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(self._config.descriptor,)
        )
        assert process.stdin is not None
        self._stdin: IO[bytes] = process.stdin
        self._write(self._config.model_dump_json().encode() + b"\n")
        self._reader = threading.Thread(target=self._read, args=(process,), name="checkpoint-link", daemon=True)
        self._reader.start()
        return process

    def _write(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                self._note(Outcome.model_validate_json(line))
        process.wait()
        if self.pending is not None:
            self.give_up("the writer process ended before it was done; its last words are on standard error")

    def _note(self, outcome: Outcome) -> None:
        with self._change:
            self._outcomes.append(outcome)
            if outcome.stage == "Complete":
                self.durable = outcome
            if outcome.stage == "Fenced":
                self.fenced = outcome.message
            if outcome.stage in {self._last_stage, "Failed", "Fenced"} and outcome.step == self._pending:
                self._pending = None
                self._failure = "" if outcome.stage == self._last_stage else outcome.message
            self._change.notify_all()
