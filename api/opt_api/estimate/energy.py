"""Energy and carbon, on the paper's basis and on a stated one.

E = devices x hours x watts x PUE; C = E x intensity (Patterson et al., arXiv 2104.10350, section 2.5). The OPT paper's
75 t stand on rated power, ideal duration, no PUE and a grid of 231 g/kWh, so its figure cannot be compared with others
as it is; both are given.
"""

from __future__ import annotations

from opt_api.base import Model
from opt_api.documents.plan import Plan
from opt_api.estimate.compute import Amount, Duration
from opt_api.estimate.devices import DEVICES
from opt_api.types import ShortText, Text

PAPER_PUE = 1.0
PAPER_GRAMS = 231.0
"""75 t over 324 MWh (1,024 A100 x 33 days x 400 W): what arXiv 2205.01068, section 6, implies."""


class Footprint(Model):
    """One energy figure with everything it assumes."""

    device_hours: Amount
    host_hours: Amount
    device_watts: Amount
    watts_source: ShortText
    host_watts: Amount
    pue: Amount
    grams_co2_per_kwh: Amount
    boundary: Text
    megawatt_hours: Amount
    """PUE included."""
    tonnes_co2: Amount


class Energy(Model):
    """The same run on two bases."""

    paper_compatible: Footprint
    restated: Footprint


def energy(plan: Plan, time: Duration, cores: float) -> Energy:
    """Both figures; `cores` is the cores of one CPU worker, 1 for a GPU."""
    rated = DEVICES[plan.layout.device_model].watts * (cores if plan.layout.device == "cpu" else 1.0)
    return Energy(paper_compatible=_paper(rated, time), restated=_restated(plan, rated, time))


def _paper(rated: float, time: Duration) -> Footprint:
    return _footprint(
        device_hours=time.device_hours,
        host_hours=0.0,
        device_watts=rated,
        watts_source="rated power of the device",
        host_watts=0.0,
        pue=PAPER_PUE,
        grams=PAPER_GRAMS,
        boundary="busy devices only: no faults, no spares, no hosts, no building",
    )


def _restated(plan: Plan, rated: float, time: Duration) -> Footprint:
    assumed, hosts = plan.energy, plan.layout.hosts + plan.resilience.spares
    host_hours = hosts * time.wall_hours
    return _footprint(
        device_hours=host_hours * plan.layout.devices_per_host,
        host_hours=host_hours,
        device_watts=assumed.device_watts or rated,
        watts_source="spec.energy.deviceWatts" if assumed.device_watts else "rated power of the device",
        host_watts=assumed.host_watts,
        pue=assumed.pue,
        grams=assumed.grams_co2_per_kwh,
        boundary="every device held for the whole wall time, spares and expected faults included; nothing embodied",
    )


def _footprint(
    *,
    device_hours: float,
    host_hours: float,
    device_watts: float,
    watts_source: str,
    host_watts: float,
    pue: float,
    grams: float,
    boundary: str,
) -> Footprint:
    megawatt_hours = (device_hours * device_watts + host_hours * host_watts) * pue / 1e6
    return Footprint(
        device_hours=device_hours,
        host_hours=host_hours,
        device_watts=device_watts,
        watts_source=watts_source,
        host_watts=host_watts,
        pue=pue,
        grams_co2_per_kwh=grams,
        boundary=boundary,
        megawatt_hours=megawatt_hours,
        tonnes_co2=megawatt_hours * grams / 1e3,
    )
