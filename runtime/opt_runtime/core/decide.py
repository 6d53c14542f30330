"""`decide`: one frozen snapshot in, actions out. Rules in order; the first that has something to say decides."""

from __future__ import annotations

from collections.abc import Callable

from opt_api.documents.logbook import Cause
from opt_runtime.core.actions import (
    Action,
    Complete,
    Decision,
    MarkHost,
    Pause,
    RememberFailure,
    Restore,
    StartAttempt,
    StopGang,
)
from opt_runtime.core.budget import Failure, check_budget
from opt_runtime.core.causes import TRAITS, Scope
from opt_runtime.core.detect import (
    STANDS_STILL,
    Finding,
    dispensable_hosts,
    find,
    lost_hosts,
    settling,
    silent_hosts,
    still_hosts,
)
from opt_runtime.core.diverged import on_divergence
from opt_runtime.core.hosts import HostEvent
from opt_runtime.core.placement import copies_lag, from_memory, good_hosts, place, size_of, supply
from opt_runtime.core.rungs import Resources, rung_of
from opt_runtime.core.snapshot import GangSnapshot

SOON_S = 0.1
"""How soon to look again while the evidence is still coming in."""
STACKS = 16
"""Ranks whose stacks are collected, at most."""


def decide(snapshot: GangSnapshot) -> Decision:
    """What to do now. Deciding twice on the same snapshot gives the same answer."""
    decisions = (rule(snapshot) for rule in RULES)
    return next((decision for decision in decisions if decision is not None), Decision())


def _finished(snapshot: GangSnapshot) -> Decision | None:
    return Decision(requeue_after=60.0) if snapshot.phase == "completed" else None


def _lost_spares(snapshot: GangSnapshot) -> Decision | None:
    """A spare that is gone is marked; nobody has to recover."""
    marks = [
        MarkHost(host.hardware, "Lost", "; ".join(words))
        for name, words in lost_hosts(snapshot).items()
        if name not in snapshot.gang
        and (host := snapshot.host(name))
        and snapshot.ledger.state(host.hardware) == "Spare"
    ]
    return Decision(tuple(marks), SOON_S) if marks else None


def _breaker(snapshot: GangSnapshot) -> Decision | None:
    evidence = snapshot.ledger.breaker_open(snapshot.policy.host_checks.max_quarantined_fraction)
    if not evidence or snapshot.phase == "paused":
        return None
    return Decision((Pause("CircuitBreaker", (evidence,)),))


def _start(snapshot: GangSnapshot) -> Decision | None:
    """The first attempt, and the one after a pause that waited for hosts or was a person's wish."""
    waiting = snapshot.phase == "paused" and snapshot.paused_for in ("SparesSpent", "Suspended")
    if snapshot.suspend or not (snapshot.phase == "none" or waiting):
        return None
    good = good_hosts(snapshot)
    size = size_of(snapshot, len(good))
    if size < (snapshot.wanted_hosts if snapshot.phase == "none" else 1):
        return Decision()
    cause: Cause = "Started" if snapshot.attempt == 0 else "Resumed"
    start = StartAttempt(snapshot.attempt + 1, good[:size], Restore(), 0, cause)
    return Decision((start,))


def _still(snapshot: GangSnapshot) -> Decision | None:
    return Decision(requeue_after=60.0) if snapshot.phase == "paused" else None


def _done(snapshot: GangSnapshot) -> Decision | None:
    """Every rank said so; or some did, the rest is on silent hosts, and the last checkpoint is there to prove it."""
    done = [w.rank for w in snapshot.workers if w.exit and w.exit.report and w.exit.report.cause == "Completed"]
    silent = silent_hosts(snapshot)
    unheard = [w.rank for w in snapshot.workers if w.host in silent and w.exit is None]
    whole = len(done) == len(snapshot.workers) > 0
    proved = len(done) + len(unheard) == len(snapshot.workers) and snapshot.final_saved
    return Decision((Complete(),)) if whole or (done and proved) else None


def _stopped(snapshot: GangSnapshot) -> Decision | None:
    """Every rank saved and stopped because it was asked to: for a person, or for a gang of other hosts.

    Ranks whose agent stands still stop and save with the others; what these say goes for them.
    """
    still = still_hosts(snapshot) if snapshot.stopping else ()
    heard = [worker for worker in snapshot.workers if worker.exit or worker.host not in still]
    ends = [worker.exit.report if worker.exit else None for worker in heard]
    if not ends or not all(end and end.cause in ("Stopped", "Completed") for end in ends):
        return None
    good = good_hosts(snapshot)
    size = size_of(snapshot, len(good))
    if snapshot.suspend or not size:
        return Decision((Pause("Suspended", ("every rank saved and stopped as asked",)),))
    words = f"the gang goes on with {size} hosts after {len(snapshot.gang)}"
    return Decision((StartAttempt(snapshot.attempt + 1, good[:size], Restore(), 0, "Resumed", (words,)),))


def _recover(snapshot: GangSnapshot) -> Decision | None:
    findings = find(snapshot)
    if not findings:
        return None
    if settling(snapshot, findings) or copies_lag(snapshot, findings[0].time):
        return Decision(requeue_after=SOON_S)
    root = findings[0]
    if root.cause == "Straggler" and supply(snapshot, len(good_hosts(snapshot, root.hosts))) != "full":
        return None  # a slow host is better than a smaller gang
    return _recovery(snapshot, root, findings)


def _recovery(snapshot: GangSnapshot, root: Finding, findings: tuple[Finding, ...]) -> Decision:
    step = max((snapshot.reached, *(worker.step for worker in snapshot.workers)))
    if root.outside:
        return Decision((*_marks(snapshot, root, findings), _act(snapshot, root, findings)), SOON_S)
    remember = RememberFailure(root.cause, step)
    failures = (*snapshot.failures, Failure(snapshot.now, root.cause, step))
    verdict = check_budget(failures, snapshot.policy.budget, snapshot.now, snapshot.verified_at)
    if verdict:
        return Decision((remember, Pause(verdict.cause, (verdict.evidence, *root.evidence))))
    return Decision((remember, *_marks(snapshot, root, findings), _act(snapshot, root, findings)), SOON_S)


def _act(snapshot: GangSnapshot, root: Finding, findings: tuple[Finding, ...]) -> Action:
    """The lowest rung that can help, as an action."""
    scope = _scope(root)
    out = {name for f in findings if TRAITS[f.cause].scope == "host" and f.cause != "Straggler" for name in f.hosts}
    out |= set(root.hosts) if scope == "host" else set()
    gone = set(lost_hosts(snapshot))
    good = good_hosts(snapshot, out)
    spoilt = snapshot.disagreement is not None
    restore = from_memory(snapshot, gone) if _same_size(snapshot, len(good)) and not spoilt else None
    rung = rung_of(scope, Resources(restore is not None, supply(snapshot, len(good))))
    if rung == 5:
        cause = root.cause if scope == "human" else "SparesSpent"
        return Pause(cause, (*root.evidence, f"{len(good)} good hosts are left; {snapshot.min_hosts} are needed"))
    size = len(snapshot.gang) if rung in (1, 2) else size_of(snapshot, len(good))
    trusted = _last_trusted(snapshot)
    return StartAttempt(
        snapshot.attempt + 1,
        place(snapshot.gang, good, size),
        restore if rung in (1, 2) and restore else Restore(trusted),
        rung,
        root.cause,
        root.evidence,
        root.hosts,
        _stacks_of(root, findings),
        poison_after=max(snapshot.disagreement.step - 2, 0) if snapshot.disagreement else None,
    )


def _stacks_of(root: Finding, findings: tuple[Finding, ...]) -> tuple[int, ...]:
    """Ranks that hang with nobody to say which of them keeps the others waiting."""
    hung = (rank for f in findings if f.cause == "Hang" for rank in f.ranks)
    return tuple(sorted(hung))[:STACKS] if root.cause == "Hang" else ()


def _scope(root: Finding) -> Scope:
    """A host that nobody can name cannot be replaced: everything goes back."""
    scope = TRAITS[root.cause].scope
    return "gang" if scope == "host" and not root.hosts else scope


def _last_trusted(snapshot: GangSnapshot) -> int | None:
    """Step of the newest checkpoint from before replicas disagreed; None for the newest there is, or for none.

    Numbers of step n are those of the weights after step n - 1, which a checkpoint of that step may hold spoilt.
    """
    if snapshot.disagreement is None:
        return None
    before = snapshot.disagreement.step - 1
    return max((c.step for c in snapshot.checkpoints if not c.poisoned and c.step < before), default=None)


def _same_size(snapshot: GangSnapshot, good: int) -> bool:
    """Whether the next gang has as many ranks as this one: only then do memory copies fit."""
    return good >= len(snapshot.gang)


def _marks(snapshot: GangSnapshot, root: Finding, findings: tuple[Finding, ...]) -> tuple[MarkHost, ...]:
    """What the ledger of hosts is told: every lost host, and the machine that the root is blamed on."""
    marks: list[MarkHost] = []
    for finding in findings:
        if finding is not root and finding.cause != "HostLost":
            continue
        trait = TRAITS[finding.cause]
        event: HostEvent = "Lost" if finding.cause == "HostLost" else "Faulted"
        marks += [
            MarkHost(host.hardware, event, finding.evidence[0][:1000], fault=trait.blames_host)
            for name in finding.hosts
            if trait.scope == "host" and (host := snapshot.host(name))
        ]
    return tuple(marks)


def _suspend(snapshot: GangSnapshot) -> Decision | None:
    if not snapshot.suspend or snapshot.stopping:
        return None
    return Decision((StopGang("suspended by a person"),))


def _abandon(snapshot: GangSnapshot) -> Decision | None:
    """An agent of the gang stands still: its ranks save and stop with the others, and a spare takes its place."""
    name = next((name for name in dispensable_hosts(snapshot) if name in snapshot.gang), None)
    if name is None or snapshot.stopping:
        return None
    return Decision((StopGang(f"host {name}: {STANDS_STILL}; a spare takes its place"),))


def _grow(snapshot: GangSnapshot) -> Decision | None:
    """A smaller gang grows again once a checkpoint of its own is verified, so that growing redoes nothing."""
    good = good_hosts(snapshot)
    size, have = size_of(snapshot, len(good)), len(snapshot.gang)
    began = min((worker.started for worker in snapshot.workers), default=snapshot.now)
    if size <= have or snapshot.verified_at is None or snapshot.verified_at <= began:
        return None
    if snapshot.stopping:
        return None
    return Decision((StopGang(f"{len(good)} good hosts: the gang grows from {have} to {size}"),))


RULES: tuple[Callable[[GangSnapshot], Decision | None], ...] = (
    _finished,
    _lost_spares,
    _breaker,
    _start,
    _still,
    _done,
    _stopped,
    on_divergence,
    _recover,
    _suspend,
    _abandon,
    _grow,
)
