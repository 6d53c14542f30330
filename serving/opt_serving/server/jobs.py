"""Between the engine's thread and the server's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from pathlib import Path

from opt_serving.engine import Engine, Sequence
from opt_serving.engine.engine import Progress
from opt_serving.text.tokenizer import Tokenizer


@dataclass(eq=False)
class Served:
    """One model as it is served.

    Attributes:
        engine: Runs it.
        tokenizer: None where the directory has none: then prompts are token ids.
        root: Where the weights came from.
        revision: Names the weights: a digest, or a checkpoint's step.
        created: Unix time of its loading.
    """

    engine: Engine
    tokenizer: Tokenizer | None
    root: str
    created: int
    revision: str | None = None
    folder: Path | None = None


class Inbox:
    """Brings what the engine's thread says to the requests that wait in the event loop: one wake-up a pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._boxes: dict[Sequence, asyncio.Queue[Progress]] = {}

    def deliver(self, news: list[Progress]) -> None:
        """Called by the engine."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._sort, news)

    def open(self, sequence: Sequence, box: asyncio.Queue[Progress]) -> None:
        """Put a sequence's news into a box."""
        self._boxes[sequence] = box

    def shut(self, sequence: Sequence) -> None:
        """Drop a sequence's news."""
        self._boxes.pop(sequence, None)

    def _sort(self, news: list[Progress]) -> None:
        for progress in news:
            box = self._boxes.get(progress.sequence)
            if box is not None:
                box.put_nowait(progress)


@dataclass(eq=False)
class Job:
    """The sequences of one request."""

    engine: Engine
    inbox: Inbox
    sequences: Several[Sequence]
    _box: asyncio.Queue[Progress] = field(default_factory=asyncio.Queue)
    _open: set[Sequence] = field(init=False)

    def __post_init__(self) -> None:
        """All of them are waited for."""
        self._open = set(self.sequences)

    def start(self) -> None:
        """Submit all of them.

        Raises:
            opt_serving.engine.Refused: One can never be served; none was submitted.
        """
        for sequence in self.sequences:
            self.engine.check(sequence)
        for sequence in self.sequences:
            self.inbox.open(sequence, self._box)
            self.engine.submit(sequence, self.inbox.deliver)

    async def news(self) -> AsyncGenerator[Progress]:
        """Everything until the last one has ended or was dropped; what has not ended by then is cancelled."""
        try:
            while self._open:
                progress = await self._box.get()
                if progress.sequence not in self._open:
                    continue
                if progress.finish:
                    self._open.discard(progress.sequence)
                yield progress
        finally:
            for sequence in self.sequences:
                self.drop(sequence)
                self.inbox.shut(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Wait for a sequence no more, and free its slot with the next pass.

        The engine may be ahead of those who read: what it has brought already is not news of an answer that has ended.
        """
        self._open.discard(sequence)
        if sequence.finish is None:
            self.engine.cancel(sequence)
