"""From a decision to what each host is told: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import RunningValues
from opt_runtime.core.actions import Restore, StartAttempt
from opt_runtime.memory.units import Division
from opt_runtime.messages import Orders, PlacedRank


@dataclass(frozen=True, slots=True)
class Peer:
    """Another host, as a keeper of copies."""

    name: str
    address: str
    domain: str = ""


def partner_of(host: str, gang: Sequence[str], peers: Mapping[str, Peer], division: Division) -> str:
    """Who keeps a host's copies: the next host of the gang, in another failure domain where there is one, else a spare.

    The next one round the ring, so that every host keeps one other's copies. Nobody, where a host of the gang in
    another failure domain keeps the same units for itself.
    """
    at = gang.index(host)
    mine = peers[host].domain if host in peers else ""
    twins = [name for place, name in enumerate(gang) if place != at and division.alike(at, place) and name in peers]
    if any(not mine or peers[name].domain != mine for name in twins):
        return ""
    ring = [*gang[at + 1 :], *gang[:at], *sorted(set(peers) - set(gang))]
    known = [name for name in ring if name in peers]
    elsewhere = [name for name in known if not mine or peers[name].domain != mine]
    return next(iter(elsewhere or known), "")


def gang_orders(
    start: StartAttempt,
    trajectory: int,
    division: Division,
    peers: Mapping[str, Peer],
    rendezvous: str,
    values: RunningValues | None,
    changes: tuple[LiveChange, ...],
    number: int,
) -> dict[str, Orders]:
    """Orders of every host of the new gang, by name."""
    return {
        host: Orders(
            number=number,
            state="run",
            attempt=start.number,
            trajectory=trajectory,
            ranks=_ranks(host, index, division.per_host, start.restore, peers),
            world_size=division.per_host * len(start.hosts),
            pieces=division.pieces,
            rendezvous=rendezvous,
            restore_step=start.restore.step,
            from_memory=bool(start.restore.sources),
            partner=_address(partner_of(host, start.hosts, peers, division), peers),
            stacks=start.stacks,
            values=values,
            changes=changes,
        )
        for index, host in enumerate(start.hosts)
    }


def _ranks(host: str, index: int, per_host: int, restore: Restore, peers: Mapping[str, Peer]) -> tuple[PlacedRank, ...]:
    ranks = range(index * per_host, (index + 1) * per_host)
    return tuple(PlacedRank(rank=rank, sources=_sources(host, restore, rank, peers)) for rank in ranks)


def _sources(host: str, restore: Restore, rank: int, peers: Mapping[str, Peer]) -> tuple[str, ...]:
    """Addresses of the others that hold a rank's state."""
    named = (_address(name, peers) for name in restore.sources.get(rank, ()) if name != host)
    return tuple(filter(None, named))


def _address(name: str, peers: Mapping[str, Peer]) -> str:
    return peers[name].address if name in peers else ""
