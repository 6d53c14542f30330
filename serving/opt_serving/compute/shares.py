"""Which part of a model a rank holds (Megatron-LM, arXiv 1909.08053, 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's: `rank` of `size`, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all of the model."""
        return self.size == 1

    def of(self, length: int) -> slice:
        """The part of a dimension; all are as long, but for the last."""
        each = -(-length // self.size)
        return slice(min(self.rank * each, length), min((self.rank + 1) * each, length))


WHOLE = Share()
