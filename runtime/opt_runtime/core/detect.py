"""What is wrong with a gang: findings from a snapshot, the likely root first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opt_api.documents.logbook import Cause
from opt_runtime.core.causes import TRAITS, cause_of_exit
from opt_runtime.core.patience import AGENT_PATIENCE_S, PARTNER_PATIENCE_S
from opt_runtime.core.snapshot import GangSnapshot, WorkerView

STANDS_STILL = f"its agent stands still, or cannot be heard here, for more than {AGENT_PATIENCE_S:.0f} s"
SETTLE_S = 0.5
"""Victims of a lost peer may report before the peer's own agent does; so long they are not believed to be the root."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, where, and how it is known."""

    cause: Cause
    evidence: tuple[str, ...]
    ranks: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    time: float = 0.0
    outside: bool = False
    """Somebody did it to the run: it says nothing of a loop, however often it happens."""


def find(snapshot: GangSnapshot) -> tuple[Finding, ...]:
    """All findings, the root first: by gravity of the cause, then by time."""
    found = [finding for detector in DETECTORS for finding in detector(snapshot)]
    return tuple(sorted(found, key=lambda finding: (TRAITS[finding.cause].rank, finding.time)))


def settling(snapshot: GangSnapshot, findings: tuple[Finding, ...]) -> bool:
    """Whether only victims have spoken so far, and the root may still be heard of."""
    if not findings or findings[0].cause != "Unknown":
        return False
    first = min(finding.time for finding in findings)
    unheard = [name for name in snapshot.gang if (host := snapshot.host(name)) and host.heard <= first]
    patience = snapshot.silence + SETTLE_S if unheard else SETTLE_S
    return snapshot.now - first < patience


def silent_hosts(snapshot: GangSnapshot) -> tuple[str, ...]:
    """Hosts that have not reported for long, whatever the reason."""
    return tuple(host.name for host in snapshot.hosts if snapshot.now - host.heard > snapshot.silence)


def lost_hosts(snapshot: GangSnapshot) -> dict[str, tuple[str, ...]]:
    """Silent hosts that a second source confirms as gone, with both words.

    Silence alone is not enough, as our own network may be at fault; a long one is for a host that does nothing.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in silent_hosts(snapshot):
        host = snapshot.host(name)
        if host and (second := host.gone or _second_word(snapshot, name)):
            since = f"for {snapshot.now - host.heard:.1f} s" if host.heard else "to this coordinator"
            found[name] = (f"host {name}: no report {since}", second)
    return found


def _second_word(snapshot: GangSnapshot, name: str) -> str:
    """Of a host of the gang its peers'; of another one a long silence; empty for none."""
    if name in snapshot.gang:
        return _peers_word(snapshot, name)
    return STANDS_STILL if name in dispensable_hosts(snapshot) else ""


def _peers_word(snapshot: GangSnapshot, name: str) -> str:
    """What ranks on other hosts say that only makes sense if this one is gone; empty for nothing."""
    others = [worker for worker in snapshot.workers if worker.host != name]
    cut = [w.rank for w in others if w.exit and w.exit.report and w.exit.report.cause == "LostPeer"]
    if cut:
        return f"ranks {_ranks(cut)} on other hosts lost their connection to a peer"
    stuck = [w.rank for w in others if w.exit is None and (_overdue(snapshot, w) or _waiting(snapshot, w))]
    return f"ranks {_ranks(stuck)} on other hosts make no progress" if stuck else ""


def still_hosts(snapshot: GangSnapshot) -> tuple[str, ...]:
    """Hosts whose agents have been silent for so long that they stand still."""
    last = snapshot.now - AGENT_PATIENCE_S
    return tuple(host.name for host in snapshot.hosts if 0 < max(host.heard, host.awaited) <= last)


def dispensable_hosts(snapshot: GangSnapshot) -> tuple[str, ...]:
    """Hosts that stand still and can be done without: few among all, and a spare is there for each of the gang."""
    still = still_hosts(snapshot)
    if not still:
        return ()
    silent = set(silent_hosts(snapshot))
    spares = [h for h in snapshot.hosts if h.name not in silent and snapshot.ledger.state(h.hardware) == "Spare"]
    enough = len(silent & set(snapshot.gang)) <= len(spares) and 2 * len(silent) < len(snapshot.hosts)
    return still if enough else ()


def _waiting(snapshot: GangSnapshot, worker: WorkerView) -> bool:
    """Whether it has been in its section far longer than ever, though not so long that it counts as hung by itself."""
    usual = snapshot.usual.get(worker.section)
    least = snapshot.silence + PARTNER_PATIENCE_S
    return usual is not None and worker.seconds_in_section(snapshot.now) > max(usual, least)


def _exits(snapshot: GangSnapshot) -> list[Finding]:
    found = []
    for worker in snapshot.workers:
        if worker.exit is None:
            continue
        report = worker.exit.report
        cause = cause_of_exit(worker.exit.code, worker.exit.signal, report)
        if cause is not None:
            found.append(Finding(cause, _exit_words(worker), (worker.rank,), (worker.host,), worker.exit.at))
    return found


def _exit_words(worker: WorkerView) -> tuple[str, ...]:
    assert worker.exit is not None
    ended = worker.exit
    how = f"signal {ended.signal}" if ended.signal is not None else f"exit code {ended.code}"
    said = f": {ended.report.message}" if ended.report else ""
    words = (f"rank {worker.rank} on host {worker.host} ended by {how} at step {worker.step}{said}",)
    return (*words, ended.stack) if ended.stack else words


def _hosts(snapshot: GangSnapshot) -> list[Finding]:
    return [
        Finding("HostLost", evidence, _on(snapshot, name), (name,), snapshot.now)
        for name, evidence in lost_hosts(snapshot).items()
        if name in snapshot.gang
    ]


def _hangs(snapshot: GangSnapshot) -> list[Finding]:
    """The ranks that keep the others waiting: stopped ones, else of those over their deadline the least advanced."""
    living = [worker for worker in snapshot.workers if worker.exit is None]
    stopped = [worker for worker in living if worker.stopped]
    silent = silent_hosts(snapshot)
    overdue = [worker for worker in living if worker.host not in silent and _overdue(snapshot, worker)]
    behind = [worker for worker in overdue if worker.progress == min(other.progress for other in overdue)]
    how = "" if stopped else _behind_words(overdue)
    return [
        Finding("Hang", (_hang_words(snapshot, w) + how,), (w.rank,), (w.host,), snapshot.now, w.stopped)
        for w in stopped or behind
    ]


def _behind_words(overdue: list[WorkerView]) -> str:
    """How it is known that some only wait for others, where all are as many steps on."""
    found = sorted({worker.progress for worker in overdue})
    if len(found) < 2 or found[0][0] != found[-1][0]:
        return ""
    return f"; it has begun {found[0][1]} collectives, ranks that wait for it {found[-1][1]}"


def _overdue(snapshot: GangSnapshot, worker: WorkerView) -> bool:
    return worker.seconds_in_section(snapshot.now) > snapshot.deadlines[worker.section]


def _hang_words(snapshot: GangSnapshot, worker: WorkerView) -> str:
    where = f"rank {worker.rank} on host {worker.host}"
    if worker.stopped:
        return f"{where} is stopped (process state T) in section {worker.section} at step {worker.step}"
    spent, limit = worker.seconds_in_section(snapshot.now), snapshot.deadlines[worker.section]
    return f"{where} is in section {worker.section} of step {worker.step} for {spent:.1f} s; allowed are {limit:.1f} s"


def _slow(snapshot: GangSnapshot) -> list[Finding]:
    hosts = {worker.rank: worker.host for worker in snapshot.workers}
    return [
        Finding("Straggler", (f"host {hosts[rank]}: {words}",), (rank,), (hosts[rank],), snapshot.now)
        for rank, words in snapshot.stragglers.items()
        if rank in hosts
    ]


def _corrupt(snapshot: GangSnapshot) -> list[Finding]:
    found = snapshot.disagreement
    if found is None:
        return []
    hosts = {worker.rank: worker.host for worker in snapshot.workers}
    named = tuple(dict.fromkeys(hosts[rank] for rank in found.ranks if rank in hosts)) if found.named else ()
    return [Finding("SilentCorruption", (found.evidence,), found.ranks, named, snapshot.now)]


DETECTORS: tuple[Callable[[GangSnapshot], list[Finding]], ...] = (_exits, _hosts, _hangs, _slow, _corrupt)


def _on(snapshot: GangSnapshot, host: str) -> tuple[int, ...]:
    return tuple(worker.rank for worker in snapshot.workers if worker.host == host)


def _ranks(ranks: list[int]) -> str:
    return ", ".join(str(rank) for rank in sorted(ranks))
