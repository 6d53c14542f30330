"""The engine: one thread that owns the model, takes sequences and gives tokens."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from opt_api.architecture import Architecture
from opt_serving.compute.passes import Computer, ComputerLost, Pass
from opt_serving.engine.pages import PagePool
from opt_serving.engine.requests import Finish, Refused, Sequence, TokenOut
from opt_serving.engine.sampler import choose, scored
from opt_serving.engine.scheduler import Scheduler, Share, pages_of

_log = structlog.get_logger("opt_serving.engine")


@dataclass(frozen=True, slots=True)
class Progress:
    """What one pass brought one sequence: a token, an end, or both."""

    sequence: Sequence
    token: TokenOut | None
    finish: Finish | None


Deliver = Callable[[list[Progress]], None]
"""Called in the engine's thread after each pass; must not wait."""


@dataclass(frozen=True)
class Load:
    """How busy an engine is."""

    running: int
    waiting: int
    pages_used: int
    pages: int
    prompt_tokens_looked_for: int
    prompt_tokens_found: int


class Engine:
    """Takes sequences from any thread; every one that was submitted ends with exactly one `finish`.

    Args:
        computer: The model.
        pages: Of its keys and values.
        slots, longest, chunk, chunk_s: See `Scheduler`.
    """

    def __init__(self, computer: Computer, *, pages: int, slots: int, longest: int, chunk: int, chunk_s: float) -> None:
        self._computer = computer
        self.longest = longest
        self.shape: Architecture = computer.shape
        self._scheduler = Scheduler(PagePool(pages), slots, longest, chunk, chunk_s)
        self._orders: queue.SimpleQueue[tuple[Sequence, Deliver] | Sequence | None] = queue.SimpleQueue()
        self._deliver: dict[Sequence, Deliver] = {}
        self._submitted = self._ended = 0
        self._counting = threading.Lock()
        self._closing = False
        self.passes = 0
        self.lost = ""
        """Why it cannot compute any more; every sequence ends with `error` from then on."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """How it computes, for people."""
        return self._computer.name

    def check(self, sequence: Sequence) -> None:
        """Whether this engine can ever serve a sequence.

        Raises:
            Refused: It cannot.
        """
        wrong = next((t for t in sequence.prompt if not 0 <= t < self.shape.vocabulary_size), None)
        if not sequence.prompt:
            raise Refused("prompt", "found no tokens; at least one is needed")
        if wrong is not None:
            raise Refused("prompt", f"found token id {wrong}; allowed are 0 to {self.shape.vocabulary_size - 1}")
        if len(sequence.prompt) > self.longest:
            raise Refused("prompt", f"found {len(sequence.prompt)} tokens; this model takes at most {self.longest}")
        if len(sequence.prompt) + sequence.sampling.max_tokens > self.longest + 1:
            room = self.longest + 1 - len(sequence.prompt)
            raise Refused(
                "max_tokens", f"found {sequence.sampling.max_tokens}; a prompt of {len(sequence.prompt)} tokens "
                f"leaves room for {room} of the model's {self.longest}"
            )  # fmt: skip
        if pages_of(sequence) > self._scheduler.pool.count:
            raise Refused(
                "max_tokens", f"prompt and answer need {pages_of(sequence)} pages of keys and values, "
                f"this server has {self._scheduler.pool.count}; ask for fewer tokens"
            )  # fmt: skip

    def submit(self, sequence: Sequence, deliver: Deliver) -> None:
        """Compute a sequence; `deliver` gets everything of it.

        Raises:
            Refused: See `check`.
            RuntimeError: The engine is closed.
        """
        self.check(sequence)
        if self._closing:
            raise RuntimeError("the engine is closed")
        with self._counting:
            self._submitted += 1
        self._orders.put((sequence, deliver))

    def cancel(self, sequence: Sequence) -> None:
        """Give a sequence up; it ends with `abort` unless it has ended."""
        self._orders.put(sequence)

    def load(self) -> Load:
        """How busy it is now; a glance from another thread."""
        scheduler = self._scheduler
        used = scheduler.pool.count - scheduler.pool.available
        waiting = len(scheduler.waiting) + self._orders.qsize()
        return Load(len(scheduler.running), waiting, used, scheduler.pool.count, scheduler.looked_for, scheduler.found)

    @property
    def idle(self) -> bool:
        """Whether all that was submitted has ended."""
        return self._submitted == self._ended

    def close(self) -> None:
        """End every sequence with `abort`, end the thread, let go of memory."""
        self._closing = True
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._take_orders():
            if not self._deliver:
                continue
            try:
                self._end_overdue()
                self._scheduler.admit()
                self._step()
            except ComputerLost as fault:
                self.lost = str(fault)
                _log.error("engine lost", reason=self.lost)
                self._end_all("error", self.lost)
            except Exception as fault:  # noqa: BLE001 - whatever it was, every client is told and the server lives on
                _log.exception("pass failed")
                self._end_all("error", f"{type(fault).__name__}: {fault}")
        self._end_all("abort", "")
        self._computer.close()

    def _take_orders(self) -> bool:
        """Take what has come in; wait for it while there is nothing to do. False at the end."""
        while True:
            while not self._deliver and self._orders.empty() and self._computer.prepare():
                pass
            try:
                order = self._orders.get(block=not self._deliver)
            except queue.Empty:
                return True
            if order is None:
                return False
            if isinstance(order, Sequence):
                if order in self._deliver:
                    self._end([(order, "abort")])
            else:
                sequence, deliver = order
                self._deliver[sequence] = deliver
                self._scheduler.waiting.append(sequence)

    def _step(self) -> None:
        shares = self._scheduler.plan()
        if not shares:
            time.sleep(0.001)  # all wait for pages or for each other
            return
        self._start(shares)
        begun = time.monotonic()
        work = _pass_of(shares, self._scheduler.tables_SP)
        logits_RV = self._computer.run(work)
        self._scheduler.took(shares, time.monotonic() - begun)
        self.passes += 1
        last = self._score_prompts(shares, logits_RV)
        for share in shares:
            share.sequence.computed = share.end
            if share.end == len(share.sequence.prompt):
                self._scheduler.prompt_done(share.sequence)
        ready = [share.sequence for share in shares if share.end == share.sequence.length]
        chosen_RV = logits_RV[last] if len(last) < len(work.rows_R) else logits_RV
        self._tell(ready, choose(chosen_RV, ready, self._computer.largest))

    def _start(self, shares: Iterable[Share]) -> None:
        now = time.monotonic()
        for share in shares:
            if share.sequence.started is None:
                share.sequence.started = now

    def _score_prompts(self, shares: Iterable[Share], logits_RV: NDArray[np.float32]) -> list[int]:
        """Log probabilities of the prompts' tokens; returns the rows that a next token is chosen from."""
        row, last = 0, []
        for share in shares:
            sequence, rows = share.sequence, _rows_of(share)
            wanted = sequence.sampling.prompt_logprobs
            if wanted is not None and share.start < len(sequence.prompt):
                self._score(sequence, share, logits_RV[row : row + rows], wanted)
            row += rows
            if share.end == sequence.length:
                last.append(row - 1)
        return last

    @staticmethod
    def _score(sequence: Sequence, share: Share, logits_RV: NDArray[np.float32], wanted: int) -> None:
        if share.start == 0:
            sequence.prompt_out.append(TokenOut(sequence.prompt[0]))
        targets = sequence.prompt[share.start + 1 : share.end + 1]
        sequence.prompt_out += scored(logits_RV[: len(targets)], targets, wanted)

    def _tell(self, sequences: list[Sequence], tokens: list[TokenOut]) -> None:
        now = time.monotonic()
        news: dict[Deliver, list[Progress]] = {}
        for sequence, token in zip(sequences, tokens, strict=True):
            if sequence.first_token is None:
                sequence.first_token = now
            finish = _take(sequence, token)
            deliver = self._deliver[sequence]
            kept = finish == "stop" or sequence.sampling.max_tokens == 0
            news.setdefault(deliver, []).append(Progress(sequence, None if kept else token, finish))
            if finish:
                self._forget(sequence, finish)
        for deliver, progress in news.items():
            deliver(progress)

    def _forget(self, sequence: Sequence, finish: Finish) -> None:
        self._scheduler.remove(sequence)
        sequence.finish = finish
        self._deliver.pop(sequence)
        self._ended += 1

    def _end(self, ends: Iterable[tuple[Sequence, Finish]]) -> None:
        for sequence, finish in ends:
            deliver = self._deliver[sequence]
            self._forget(sequence, finish)
            deliver([Progress(sequence, None, finish)])

    def _end_overdue(self) -> None:
        now = time.monotonic()
        self._end([(s, "deadline") for s in list(self._deliver) if s.deadline <= now])

    def _end_all(self, finish: Finish, error: str) -> None:
        for sequence in list(self._deliver):
            sequence.error = error
            sequence.computed = 0  # a page of a failed pass is never found again
            self._end([(sequence, finish)])


def _take(sequence: Sequence, token: TokenOut) -> Finish | None:
    sampling = sequence.sampling
    if sampling.max_tokens == 0:
        return "length"
    if token.id in sampling.stop_ids:
        return "stop"
    sequence.generated.append(token.id)
    return "length" if len(sequence.generated) >= sampling.max_tokens else None


def _rows_of(share: Share) -> int:
    """Rows of logits that a share needs: one at its end, or each where the prompt is scored; none in between."""
    sequence = share.sequence
    if sequence.sampling.prompt_logprobs is not None and share.start < len(sequence.prompt):
        return share.end - share.start
    return int(share.end == sequence.length)


def _pass_of(shares: Iterable[Share], tables_SP: NDArray[np.int32]) -> Pass:
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    rows: list[int] = []
    for share in shares:
        sequence = share.sequence
        count = share.end - share.start
        tokens += [sequence.token(share.start)] if count == 1 else sequence.prompt[share.start : share.end]
        positions += range(share.start, share.end)
        slots += [sequence.slot] * count
        rows += range(len(tokens) - _rows_of(share), len(tokens))
    return Pass(_whole(tokens), _whole(positions), _whole(slots), tables_SP, _whole(rows))


def _whole(numbers: list[int]) -> NDArray[np.int64]:
    return np.asarray(numbers, np.int64)
