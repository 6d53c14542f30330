"""A worker's parts as rows for a compiled pass: a matrix as it is, and all vectors as one more matrix.

Calling what is compiled costs some 50 microseconds whatever it is given, and most parts of a model are vectors of a few
thousand numbers; these are gathered and, where they were changed, spread again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opt_trainer.parallelism.build import Part


@dataclass(frozen=True, slots=True)
class Rows:
    """How the parts become matrices of R rows and C columns.

    Attributes:
        groups: Numbers of the parts of each matrix; parts of which nothing is here are in none.
        columns: Of the matrix that is made of vectors: a divisor of each of their lengths.
        weights: By how much squares count, a float64 [R] for each matrix: one by the workers that hold the same.
    """

    groups: tuple[tuple[int, ...], ...]
    columns: int
    weights: tuple[Tensor, ...]

    def read(self, group: Sequence[int], tensors: Sequence[Tensor]) -> Tensor:
        """The matrix of a group, (R, C): the part itself where it is one, a copy of vectors."""
        if tensors[group[0]].dim() > 1:
            return tensors[group[0]]
        return torch.cat([tensors[number] for number in group]).view(-1, self.columns)

    def write(self, group: Sequence[int], tensors: Sequence[Tensor], values_RC: Tensor) -> None:
        """Put the values of a matrix that `read` made of vectors back where they came from."""
        parts = [tensors[number] for number in group]
        if parts[0].dim() == 1:
            torch._foreach_copy_(parts, list(torch.split(values_RC.view(-1), [len(part) for part in parts])))

    def share(self, squares: Sequence[Tensor]) -> Tensor:
        """This worker's share of a squared norm, float64 [], from those of all rows, [R], of each matrix.

        That of a whole matrix, [], does where the matrix is one part.
        """
        pairs = zip(squares, self.weights, strict=True)
        return torch.stack([torch.sum(square.double() * weight[: square.numel()]) for square, weight in pairs]).sum()


def rows_of(parts: Sequence[Part]) -> Rows:
    """The rows of a worker's parts."""
    masters = [part.master for part in parts]
    held = [number for number, master in enumerate(masters) if master.numel()]
    matrices = [(number,) for number in held if masters[number].dim() > 1]
    vectors = tuple(number for number in held if masters[number].dim() == 1)
    columns = math.gcd(*(len(masters[number]) for number in vectors))
    groups = (*matrices, vectors) if vectors else tuple(matrices)
    weights = (torch.cat([_weights(parts[number], columns) for number in group]) for group in groups)
    return Rows(groups, columns, tuple(weights))


def _weights(part: Part, columns: int) -> Tensor:
    height = len(part.master) if part.master.dim() > 1 else len(part.master) // columns
    return torch.full((height,), 1.0 / part.box.copies, dtype=torch.float64)
