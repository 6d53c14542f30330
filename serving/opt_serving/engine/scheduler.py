"""Who gets a slot, and which tokens the next pass computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from opt_serving.engine.pages import PagePool, page_keys
from opt_serving.engine.requests import Sequence
from opt_serving.settings import PAGE

_FEW = 64
"""Tokens of prompts that go into a pass however slow they are; and so many that a pass tells how fast they are."""


@dataclass(frozen=True)
class Share:
    """What one sequence computes in a pass: its tokens from `start` to `end`."""

    sequence: Sequence
    start: int
    end: int


class Scheduler:
    """Sequences that wait and sequences that run, with their pages. First come, first served.

    A sequence gets its slot with all the pages it can come to need, so nothing that runs is ever put back.

    Args:
        pool: The pages.
        slots: Sequences that may run at once.
        longest: Tokens of a sequence.
        chunk: Tokens of prompts in a pass.
        chunk_s: While others decode, no more tokens of prompts than take this long.
    """

    def __init__(self, pool: PagePool, slots: int, longest: int, chunk: int, chunk_s: float) -> None:
        self.pool = pool
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.tables_SP = np.zeros((slots, -(-longest // PAGE)), np.int32)
        self._slots = list(range(slots - 1, -1, -1))
        self._chunk, self._chunk_s = chunk, chunk_s
        self._token_s = 0.0
        self.looked_for = self.found = 0
        """Tokens of prompts that were looked for among the pages, and that were there."""

    def admit(self) -> list[Sequence]:
        """Give slots and pages to those that wait, in order, as far as they go round."""
        admitted = []
        while self.waiting and self._slots and self._allowed(self.waiting[0]) and self._place(self.waiting[0]):
            admitted.append(self.waiting.popleft())
            self.running.append(admitted[-1])
        return admitted

    def plan(self) -> list[Share]:
        """One token of each sequence that decodes; then prompts, oldest first, up to a chunk.

        While others decode, a chunk is no more than what `chunk_s` is enough for, as far as `took` knows: the next
        token of each that decodes waits for it.
        """
        decoding = [Share(s, s.computed, s.computed + 1) for s in self.running if s.prefilled]
        return [*decoding, *self._prompts(self._budget(alone=not decoding))]

    def took(self, shares: Iterable[Share], seconds: float) -> None:
        """How long a pass took; of those that are mostly prompts, the last one tells what a token of a prompt costs."""
        sizes = [share.end - share.start for share in shares]
        if sum(size for size in sizes if size > 1) >= max(_FEW, sum(sizes) // 2):
            self._token_s = seconds / sum(sizes)

    def _budget(self, *, alone: bool) -> int:
        if alone or not self._token_s:
            return self._chunk
        return min(self._chunk, max(_FEW, int(self._chunk_s / self._token_s)))

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and its pages back; full ones can be found by the next."""
        if sequence.slot < 0:
            if sequence in self.waiting:
                self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._slots.append(sequence.slot)
        full = sequence.computed // PAGE
        tokens = [*sequence.prompt, *sequence.generated]
        for page, key in zip(sequence.pages, page_keys(tokens, full), strict=False):
            self.pool.name(page, key)
        self.pool.give_back(sequence.pages)
        sequence.slot, sequence.pages = -1, []

    def prompt_done(self, sequence: Sequence) -> None:
        """Let the prompt's full pages be found while the sequence still runs."""
        full = len(sequence.prompt) // PAGE
        for page, key in zip(sequence.pages, page_keys(sequence.prompt, full), strict=False):
            self.pool.name(page, key)

    def _prompts(self, budget: int) -> Iterator[Share]:
        for sequence in self.running:
            if sequence.prefilled or budget <= 0:
                continue
            end = min(len(sequence.prompt), sequence.computed + budget)
            yield Share(sequence, sequence.computed, end)
            budget -= end - sequence.computed

    def _allowed(self, sequence: Sequence) -> bool:
        other = sequence.after
        return other is None or other.prefilled or other.finish is not None

    def _place(self, sequence: Sequence) -> bool:
        known = self._known(sequence)
        total = pages_of(sequence)
        pages = self.pool.take(known, total - len(known))
        if pages is None:
            return False
        sequence.slot, sequence.pages = self._slots.pop(), pages
        sequence.computed = sequence.reused = len(known) * PAGE
        self.looked_for += len(sequence.prompt)
        self.found += sequence.reused
        self.tables_SP[sequence.slot, :total] = pages
        return True

    def _known(self, sequence: Sequence) -> list[int]:
        """Pages with the prompt's beginning; the last token is always computed, and all where each is to be scored."""
        if sequence.sampling.prompt_logprobs is not None:
            return []
        return self.pool.find(page_keys(sequence.prompt, (len(sequence.prompt) - 1) // PAGE))


def pages_of(sequence: Sequence) -> int:
    """Pages that a sequence can come to need; its last token is never computed."""
    tokens = len(sequence.prompt) + max(0, sequence.sampling.max_tokens - 1)
    return -(-tokens // PAGE)
