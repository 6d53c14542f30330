# ruff: noqa: N815 - names carry their shape
"""One pass of the engine, and what runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import Architecture


@dataclass(frozen=True)
class Pass:
    """Tokens of several sequences; those of one sequence side by side and in order.

    Attributes:
        tokens_N: Ids, int64.
        positions_N: Position of each token in its sequence, int64.
        slots_N: Row of the page table of each token's sequence, int64.
        tables_SP: Pages of each sequence, int32; shared with the engine, which changes it between passes.
        rows_R: Which tokens' logits are wanted, int64.
    """

    tokens_N: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    slots_N: NDArray[np.int64]
    tables_SP: NDArray[np.int32]
    rows_R: NDArray[np.int64]


class ComputerLost(RuntimeError):  # noqa: N818
    """A computer that cannot compute any more, with the reason; its engine is of no further use."""


class Computer(Protocol):
    """The model with its cache of keys and values."""

    @property
    def shape(self) -> Architecture:
        """What it computes."""

    @property
    def name(self) -> str:
        """How it computes, for people: `compiled kernels (avx512-bf16)`."""

    def run(self, work: Pass) -> NDArray[np.float32]:
        """Store keys and values of every token; return logits [R, V], good until the next pass.

        Raises:
            ComputerLost: No later pass can succeed either.
        """

    def largest(self, logits_RV: NDArray[np.float32]) -> list[int]:
        """The id of each row's largest logit, the first of equal ones."""

    def prepare(self) -> bool:
        """A few milliseconds of work that later passes then need not do; False where there is none left."""

    def close(self) -> None:
        """Let go of memory."""
