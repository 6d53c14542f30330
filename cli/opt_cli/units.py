"""Numbers with units a person reads."""

from __future__ import annotations

_LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"))


def number(value: float) -> str:
    """`174.6 B`, `2.1 M`, `812`: three to four digits and a short-scale letter."""
    for unit, letter in _LARGE:
        if value >= unit:
            return f"{value / unit:.4g} {letter}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in the binary unit that suits, with two decimals: `43.95 GiB`."""
    for unit, letters in ((1 << 40, "TiB"), (1 << 30, "GiB")):
        if value >= unit:
            return f"{value / unit:,.2f} {letters}"
    return f"{value / (1 << 20):,.2f} MiB"


def flops(value: float) -> str:
    """FLOPs in scientific form."""
    return f"{value:.3g} FLOP"


def rate(value: float) -> str:
    """`312 TFLOP/s`."""
    for unit, letter in _SI:
        if value >= unit:
            return f"{value / unit:.4g} {letter}FLOP/s"
    return f"{value:.3g} FLOP/s"


def percent(share: float) -> str:
    """`37.1 %`, `0.027 %`: two digits below ten percent."""
    value = 100 * share
    if 0 < value < 0.001:
        return "under 0.001 %"
    return f"{value:.2g} %" if value < 10 else f"{value:.1f} %"


def days(hours: float) -> str:
    """The unit that suits: seconds, minutes, hours or days."""
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"


def count(value: float) -> str:
    """`813,655`; with two decimals below ten."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def energy(megawatt_hours: float) -> str:
    """MWh, or kWh below one."""
    return f"{megawatt_hours:,.1f} MWh" if megawatt_hours >= 1 else f"{megawatt_hours * 1e3:.3g} kWh"


def mass(tonnes: float) -> str:
    """Tonnes, or kilograms below one."""
    return f"{tonnes:,.1f} t" if tonnes >= 1 else f"{tonnes * 1e3:.3g} kg"
