"""Geometry of boxes: which part of a stored piece a rank needs, and where it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """`shape` at `offset` of a global tensor; a scalar has neither dimensions nor offset."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def within(self, other: Box) -> tuple[slice, ...]:
        """Index of this box in an array that holds `other`, of which it is a part."""
        return tuple(
            slice(mine - theirs, mine - theirs + length)
            for mine, theirs, length in zip(self.offset, other.offset, self.shape, strict=True)
        )

    def rows(self, first: int, last: int) -> Box:
        """Rows `first` to `last` (not included) of the box, counted from its own first row."""
        return Box((self.offset[0] + first, *self.offset[1:]), (last - first, *self.shape[1:]))


def intersect(a: Box, b: Box) -> Box | None:
    """The common part of two boxes of one tensor, None if it is empty."""
    starts = tuple(max(x, y) for x, y in zip(a.offset, b.offset, strict=True))
    ends = tuple(min(x + n, y + m) for x, n, y, m in zip(a.offset, a.shape, b.offset, b.shape, strict=True))
    shape = tuple(end - start for start, end in zip(starts, ends, strict=True))
    return None if any(length <= 0 for length in shape) else Box(starts, shape)


def covers_exactly(whole: tuple[int, ...], boxes: list[Box]) -> str | None:
    """Why the boxes do not cover a tensor of shape `whole` exactly once; None if they do."""
    held, wanted = sum(box.size for box in boxes), math.prod(whole)
    everything = Box((0,) * len(whole), whole)
    for box in boxes:
        if len(box.shape) != len(whole) or (box.size and intersect(box, everything) != box):
            return f"a piece of shape {box.shape} at {box.offset} reaches out of the shape {whole}"
    if held != wanted:
        return f"pieces hold {held} elements, the shape {whole} has {wanted}"
    ordered = sorted((b for b in boxes if b.size), key=lambda b: b.offset)
    for i, box in enumerate(ordered):
        for other in ordered[i + 1 :]:
            if box.shape and other.offset[0] >= box.offset[0] + box.shape[0]:
                break
            if intersect(box, other):
                return f"the pieces at {box.offset} and {other.offset} overlap"
    return None
