"""Bar charts as inline SVG: horizontal for names, vertical for an ordered axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

WIDTH, ROW, LABEL, VALUE = 640, 26, 190, 90
HEIGHT, FOOT = 180, 34


def number(value: float) -> str:
    """A count with separators; large ones with a unit."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f}"


def bars(values: Mapping[str, float], title: str) -> str:
    """Horizontal bars in the order given; their lengths are in proportion to the values."""
    if not values:
        return "<p class=none>none</p>"
    most = max(*values.values(), 1e-12)
    room = WIDTH - LABEL - VALUE
    rows = []
    for at, (name, value) in enumerate(values.items()):
        y, length = at * ROW, max(1.0, room * value / most) if value else 0.0
        rows.append(
            f'<text x="{LABEL - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LABEL}" y="{y + 4}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>'
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 17}" class="value">{number(value)}</text>'
        )
    return _svg(len(values) * ROW + 4, title, "".join(rows))


def columns(values: Mapping[int, int], title: str, axis: str) -> str:
    """Vertical bars over powers of two, empty ones between included; heights are square roots of the counts."""
    if not values:
        return "<p class=none>none</p>"
    names = range(min(values), max(values) + 1)
    most = math.sqrt(max(values.values()))
    step = min(64.0, (WIDTH - 20) / len(names))
    shapes = []
    for at, name in enumerate(names):
        count = values.get(name, 0)
        height = (HEIGHT - FOOT - 18) * math.sqrt(count) / most
        x, y = 10 + at * step, HEIGHT - FOOT - height
        middle = x + step / 2
        shapes.append(
            f'<rect x="{x + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" height="{height:.1f}" rx="2">'
            f"<title>{2**name:,} to {2 ** (name + 1) - 1:,}: {count:,}</title></rect>"
            f'<text x="{middle:.1f}" y="{HEIGHT - FOOT + 15}" text-anchor="middle">{_power(name)}</text>'
        )
        if count:
            shapes.append(f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle" class="value">{count:,}</text>')
    shapes.append(f'<text x="12" y="{HEIGHT - 2}" class="value">{escape(axis)}</text>')
    return _svg(HEIGHT + 4, title, "".join(shapes))


def _power(exponent: int) -> str:
    value = 2**exponent
    return next((f"{value >> bits}{unit}" for unit, bits in (("M", 20), ("k", 10)) if value >> bits), str(value))


def _svg(height: float, title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
