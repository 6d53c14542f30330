"""The loss over the run as lines of characters: a curve of eighths of a block, with its axis and marks below."""

from __future__ import annotations

from collections.abc import Collection, Mapping

EIGHTHS = " ▁▂▃▄▅▆▇█"
MARK = "▲"
LABEL = 7
"""Columns of the numbers on the left."""


def chart(losses: Mapping[int, float], width: int, height: int, total: int, marks: Collection[int] = ()) -> list[str]:
    """The curve from step 0 to `total`, oldest left, `height` rows and two for the axis; nothing without losses.

    Each column is the mean loss of its steps. `marks` are steps at which something happened.
    """
    room = max(width - LABEL - 2, 10)
    columns = _columns(losses, room, total)
    known = [value for value in columns if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    span = high - low or 1.0
    heights = [None if value is None else (value - low) / span * (height * 8 - 1) + 1 for value in columns]
    rows = [
        f"{_label(row, height, low, high):>{LABEL}} ┤" + "".join(_cell(h, height - 1 - row) for h in heights)
        for row in range(height)
    ]
    line = "".join(MARK if _marked(at, room, total, marks) else "─" for at in range(room))
    steps = f"{'0':<{room // 2}}{total:>{room - room // 2}}"
    return [*rows, f"{'':>{LABEL}} └{line}", f"{'':>{LABEL}}  {steps}"]


def _columns(losses: Mapping[int, float], room: int, total: int) -> list[float | None]:
    found: list[list[float]] = [[] for _ in range(room)]
    for step, loss in losses.items():
        found[min((step - 1) * room // max(total, 1), room - 1)].append(loss)
    columns: list[float | None] = [sum(values) / len(values) if values else None for values in found]
    newest = max((at for at, value in enumerate(columns) if value is not None), default=-1)
    for at in range(1, newest):  # fewer steps than columns: a step is as wide as its columns
        columns[at] = columns[at] if columns[at] is not None else columns[at - 1]
    return columns


def _label(row: int, height: int, low: float, high: float) -> str:
    if row == 0:
        return f"{high:.3f}"
    return f"{low:.3f}" if row == height - 1 else ""


def _cell(filled: float | None, row: int) -> str:
    """One character; `row` counts from the bottom."""
    if filled is None:
        return " "
    return EIGHTHS[max(0, min(8, round(filled - row * 8)))]


def _marked(at: int, room: int, total: int, marks: Collection[int]) -> bool:
    return any(min(step * room // max(total, 1), room - 1) == at for step in marks)
