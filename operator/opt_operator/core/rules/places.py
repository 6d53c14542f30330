"""The places of a run: slot -1 is the coordinator's, 0 to n-1 the gang's and the spares'. Which are filled, by whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from opt_operator.core.actions import Delete
from opt_operator.core.diagnosis import Finding, findings
from opt_operator.core.rules.coordinators import judged
from opt_operator.core.rules.verdict import Case
from opt_operator.core.symptoms import Symptom

COORDINATOR = -1
OUT_OF_REACH: tuple[Symptom, ...] = ("NodeLost", "Unreached")
"""Nobody is there to end such a pod: it goes without grace, and its address with it."""


@dataclass(frozen=True)
class Places:
    """All pods of a run by place.

    Attributes:
        wanted: Slots there shall be, the coordinator's included.
        found: What is the matter with each pod, by slot, oldest attempt first.
    """

    case: Case
    wanted: tuple[int, ...]
    found: Mapping[int, tuple[Finding, ...]]

    @property
    def all(self) -> tuple[Finding, ...]:
        """Every finding."""
        return tuple(finding for slot in sorted(self.found) for finding in self.found[slot])

    @property
    def hosts(self) -> tuple[Finding, ...]:
        """Findings about hosts."""
        return tuple(finding for finding in self.all if finding.pod.slot >= 0)

    def holder(self, slot: int) -> Finding | None:
        """Who takes a place: the newest that does."""
        return next((f for f in reversed(self.found.get(slot, ())) if f.policy.fills), None)

    def empty(self) -> tuple[int, ...]:
        """Places that nobody takes."""
        return tuple(slot for slot in self.wanted if self.holder(slot) is None)

    def taken_number(self, slots: Iterable[int]) -> bool:
        """Whether a pod of the present attempt has already been in one of these places: its name is used up."""
        return any(f.attempt >= self.case.number for slot in slots for f in self.found.get(slot, ()))

    def reasons(self, slots: Iterable[int]) -> tuple[Finding, ...]:
        """Why places are empty: the newest pod that was there."""
        return tuple(self.found[slot][-1] for slot in slots if self.found.get(slot))


def places_of(case: Case) -> Places:
    """Look at every pod of a run once."""
    snapshot = case.snapshot
    found: dict[int, list[Finding]] = defaultdict(list)
    for finding in findings(snapshot, snapshot.hosts):
        found[finding.pod.slot].append(finding)
    hosts = [finding for slot in found.values() for finding in slot]
    found[COORDINATOR] = [judged(case, f, hosts) for f in findings(snapshot, snapshot.coordinators)]
    count = case.plan.layout.hosts + case.training.spec.resilience.spares
    return Places(case, (COORDINATOR, *range(count)), {k: tuple(v) for k, v in found.items()})


def removals(places: Places) -> tuple[Delete, ...]:
    """Pods that are to go now. All of it was written down before: none of them has the present attempt's number."""
    return (*_replaced(places), *_surplus(places), *_leaving(places))


def _replaced(places: Places) -> tuple[Delete, ...]:
    """The lost and the dead whose places are taken again; of the dead, the newest of each place stays to be read."""
    gone: list[Delete] = []
    for slot, found in places.found.items():
        ended = [f for f in found if f.pod.ended and not f.pod.going]
        old = [f for f in found if f.attempt < places.case.number and not f.pod.going]
        gone += [_delete(f, 0) for f in old if f.symptom in OUT_OF_REACH]
        gone += [_delete(f) for f in old if f in ended[:-1]]
        if slot == COORDINATOR:
            late = [f for f in old if not f.pod.ended and f.symptom not in OUT_OF_REACH and f is not found[-1]]
            gone += [_delete(replace(f, words=f"{found[-1].name} has taken the place of {f.name}")) for f in late]
    return tuple(gone)


def _surplus(places: Places) -> tuple[Delete, ...]:
    """Places that are wanted no more, and second pods of a place, once nobody of the gang is in them."""
    report = places.case.snapshot.report
    gang = report.gang if report else frozenset()
    extra = [f for f in places.hosts if f.pod.slot not in places.wanted and not f.pod.going and not f.pod.ended]
    for slot in places.wanted:
        fillers = [f for f in places.found.get(slot, ()) if slot != COORDINATOR and f.policy.fills]
        best = min(fillers, key=lambda f: (f.name not in gang, f.symptom != "Ready", f.attempt), default=None)
        extra += [f for f in fillers if f is not best and not f.pod.ended]
    return tuple(_delete(finding) for finding in extra if finding.name not in gang)


def _leaving(places: Places) -> tuple[Delete, ...]:
    """Hosts whose nodes go: one at a time, each after its successor is ready or while a spare is."""
    report, case = places.case.snapshot.report, places.case
    spare = report is not None and any(agent.state == "Spare" for agent in report.agents)
    for finding in places.hosts:
        if finding.policy.treatment != "replace-then-delete" or finding.pod.going:
            continue
        heir = places.holder(finding.pod.slot)
        in_gang = report is not None and finding.name in report.gang
        ready = heir is not None and heir.symptom == "Ready"
        idle = heir is not None and not in_gang
        if finding.attempt < case.number and (ready or idle or (spare and in_gang and heir is not None)):
            return (_delete(finding),)
    return ()


def _delete(finding: Finding, grace_s: int | None = None) -> Delete:
    return Delete("Pod", finding.name, finding.pod.metadata.uid, grace_s, finding.words)
