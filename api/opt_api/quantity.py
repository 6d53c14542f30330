"""Kubernetes resource quantities as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_PATTERN = re.compile(r"^([0-9]+(?:\.[0-9]{1,3})?)([a-zA-Z]*)$")


def parse_quantity(text: str) -> Decimal:
    """Value of a quantity such as `1500m`, `2Gi` or `0.5`.

    Raises:
        ValueError: not a quantity.
    """
    match = _PATTERN.match(text)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a resource quantity such as 2, 500m, 4Gi")
    return Decimal(match[1]) * _UNITS[match[2]]


def bytes_of(text: str) -> int:
    """Bytes of a memory quantity, rounded down."""
    return int(parse_quantity(text))


def binary_quantity(size: int) -> str:
    """The smallest whole number of Mi (below 1 Gi) or Gi that holds `size` bytes."""
    unit, suffix = ((1 << 20), "Mi") if size < 1 << 30 else ((1 << 30), "Gi")
    return f"{-(-size // unit)}{suffix}"
