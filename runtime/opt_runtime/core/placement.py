"""Which hosts the next attempt runs on, and where its state comes from."""

from __future__ import annotations

from collections.abc import Collection

from opt_runtime.core.actions import Restore
from opt_runtime.core.detect import silent_hosts
from opt_runtime.core.rungs import Supply
from opt_runtime.core.snapshot import GangSnapshot


def good_hosts(snapshot: GangSnapshot, without: Collection[str] = ()) -> tuple[str, ...]:
    """Hosts that may train: those of the gang first, in the order of their ranks, then spares by name.

    A host that is only silent stays out of new attempts; that kills nothing.
    """
    silent = {*silent_hosts(snapshot), *without}
    usable = {
        host.name
        for host in snapshot.hosts
        if host.name not in silent and snapshot.ledger.state(host.hardware) in ("Spare", "InUse")
    }
    gang = [name for name in snapshot.gang if name in usable]
    return (*gang, *sorted(usable - set(gang)))


def size_of(snapshot: GangSnapshot, good: int) -> int:
    """The largest gang that so many good hosts make: it divides the batch, and is neither too large nor too small."""
    sizes = (n for n in snapshot.allowed_sizes if snapshot.min_hosts <= n <= min(good, snapshot.wanted_hosts))
    return max(sizes, default=0)


def supply(snapshot: GangSnapshot, good: int) -> Supply:
    """What so many good hosts are enough for."""
    size = size_of(snapshot, good)
    return "full" if size == snapshot.wanted_hosts else "short" if size else "none"


def place(gang: tuple[str, ...], good: tuple[str, ...], size: int) -> tuple[str, ...]:
    """Hosts in the order of their ranks: who stays keeps its place, spares take the places of the lost."""
    if len(gang) != size:
        return good[:size]
    fresh = iter(name for name in good if name not in gang)
    return tuple(name if name in good else next(fresh) for name in gang)


def from_memory(snapshot: GangSnapshot, without: Collection[str] = (), step: int | None = None) -> Restore | None:
    """The newest step (or that one) of which every rank's state is in a living host's memory; None if there is none."""
    gone = {*silent_hosts(snapshot), *without}
    holders = [host for host in snapshot.hosts if host.name not in gone]
    steps: dict[int, set[int]] = {
        worker.rank: {s for host in holders for s in host.holds.get(worker.rank % snapshot.units, ())}
        for worker in snapshot.workers
    }
    common = set.intersection(*steps.values()) if steps else set()
    if step is not None:
        common &= {step}
    if not common:
        return None
    newest = max(common)
    homes = {worker.rank: worker.host for worker in snapshot.workers}
    sources = {rank: _sources(snapshot, rank, newest, homes[rank], gone) for rank in steps}
    return Restore(newest, sources)


def copies_lag(snapshot: GangSnapshot, since: float) -> bool:
    """Whether newer states than those known of must be in memory, and a host has yet to say so.

    No rank finishes a step before all have kept the one before it, so more than one step behind is old news. Hosts
    report at once when anything ends; whoever does not is silent soon and not waited for.
    """
    reached = max((worker.step for worker in snapshot.workers), default=0)
    silent, known = silent_hosts(snapshot), from_memory(snapshot)
    unheard = [name for name in snapshot.gang if (host := snapshot.host(name)) and host.heard < since]
    return known is not None and known.step is not None and known.step < reached - 1 and not set(unheard) <= set(silent)


def _sources(snapshot: GangSnapshot, rank: int, step: int, home: str, gone: Collection[str]) -> tuple[str, ...]:
    unit = rank % snapshot.units
    names = [h.name for h in snapshot.hosts if h.name not in gone and step in h.holds.get(unit, ())]
    return tuple(sorted(names, key=lambda name: (name != home, name)))
