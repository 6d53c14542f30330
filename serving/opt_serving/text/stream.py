"""Text that grows by tokens, cut at stop sequences."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Takes the bytes of one token after another and gives text that can no longer change.

    A character whose bytes are not all there, and text that may be the beginning of a stop sequence, are held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def take(self, piece: bytes, *, last: bool = False) -> str:
        """Add a token's bytes; returns what is sure now. Nothing more comes after a stop sequence."""
        if self.stopped:
            return ""
        self._held += self._decode(piece, last)
        at = min((found for stop in self._stops if (found := self._held.find(stop)) >= 0), default=-1)
        if at >= 0:
            self.stopped = True
            sure, self._held = self._held[:at], ""
            return sure
        keep = 0 if last else self._beginning()
        sure, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return sure

    def _beginning(self) -> int:
        """Characters at the end that a stop sequence may begin with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for count in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-count:]
            if any(stop.startswith(tail) for stop in self._stops):
                return count
        return 0
