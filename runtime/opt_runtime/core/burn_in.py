"""Whether a host may train, from what it reached under load beside its peers: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from opt_api.training.resilience import HostChecks

UNITS = {"matmul": (1e9, "GFLOP/s"), "memory": (1e9, "GB/s"), "pair": (1e6, "MB/s")}
FEWEST_PEERS = 1


@dataclass(frozen=True, slots=True)
class Reached:
    """One host's numbers under load.

    Attributes:
        matmul: FLOP/s.
        memory: Bytes copied per second.
        disk_bytes_free: On its scratch disk.
        pair: Bytes per second of a collective with another host; None when no other was there.
        shared: The host shares its machine with others of the run, so that its speeds say nothing of the machine.
        failure: Why the load could not be finished; empty when it was.
    """

    matmul: float
    memory: float
    disk_bytes_free: int
    pair: float | None = None
    shared: bool = False
    failure: str = ""


def refusal(reached: Reached, peers: Sequence[Reached], policy: HostChecks) -> str:
    """Why a host may not train; empty when it may. Speeds are held against the median of the other hosts' speeds."""
    if reached.failure:
        return f"failed under load: {reached.failure}"
    if reached.disk_bytes_free < policy.min_disk_bytes_free:
        return f"disk: {reached.disk_bytes_free:,} bytes free, {policy.min_disk_bytes_free:,} are needed"
    if reached.shared:
        return ""
    least = {"matmul": policy.min_matmul_ratio, "memory": policy.min_memory_ratio, "pair": policy.min_bandwidth_ratio}
    slow = (_slower(name, ratio, reached, peers) for name, ratio in least.items())
    return "; ".join(word for word in slow if word)


def _slower(name: str, ratio: float, reached: Reached, peers: Sequence[Reached]) -> str:
    known = [value for peer in peers if not peer.shared and (value := getattr(peer, name)) is not None]
    mine = getattr(reached, name)
    if mine is None or len(known) < FEWEST_PEERS:
        return ""
    usual = median(known)
    if mine >= ratio * usual:
        return ""
    size, unit = UNITS[name]
    return f"{name}: {mine / size:.3g} {unit}, below {ratio:g} x its peers' median {usual / size:.3g} {unit}"
