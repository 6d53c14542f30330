"""Coordinators that are well and yet to be replaced: by what they were told at their start, or by where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from opt_operator.core import names
from opt_operator.core.diagnosis import Finding
from opt_operator.core.plans import change
from opt_operator.core.rules.machines import free_of
from opt_operator.core.rules.verdict import Case

SETTLED = timedelta(seconds=60)
"""So old is a coordinator that is moved: what was just made, or just lost, is left to come to rest."""
STEPPING = ("data", "step", "save", "eval")


def judged(case: Case, coordinator: Finding, hosts: Iterable[Finding]) -> Finding:
    """What is said of a coordinator, once the spec and the machines of its gang are looked at, too."""
    if coordinator.policy.fills and _outdated(case, coordinator):
        words = f"pod {coordinator.name} was started with limits or intervals that are no longer the spec's"
        return replace(coordinator, symptom="Outdated", words=words)
    if coordinator.symptom == "Ready" and _at_rest(case, coordinator, hosts) and (words := _exposed(case, coordinator)):
        return replace(coordinator, symptom="Exposed", words=words)
    return coordinator


def made_in(case: Case) -> str:
    """The gang's attempt a coordinator is made in: for a gang it is moved once at most."""
    report = case.snapshot.report
    return str(report.attempt if report else 0)


def _outdated(case: Case, finding: Finding) -> bool:
    digest = finding.pod.metadata.annotations.get(names.PLAN)
    old = case.snapshot.plan_of(digest) if digest else None
    return old is not None and change(old, case.plan) == "coordinator"


def _at_rest(case: Case, finding: Finding, hosts: Iterable[Finding]) -> bool:
    """Whether nothing would suffer from some seconds without a coordinator: the gang steps, its spares are ready."""
    report, made = case.snapshot.report, finding.pod.metadata.creation_timestamp
    if report is None or report.phase != "running" or made is None or case.snapshot.now - made < SETTLED:
        return False
    steps = all(worker.section in STEPPING and not worker.ended for worker in report.workers)
    return steps and all(host.symptom == "Ready" for host in hosts if not host.pod.ended)


def _exposed(case: Case, finding: Finding) -> str:
    """Why it had better be elsewhere; empty where it is well placed, or was made for this gang and came here again."""
    report, node = case.snapshot.report, finding.pod.spec.node_name
    assert report is not None
    if finding.pod.metadata.annotations.get(names.MADE_IN, "0") == str(report.attempt):
        return ""
    gang = frozenset(pod.spec.node_name for pod in case.snapshot.hosts if pod.metadata.name in report.gang)
    if node not in gang or not (free := free_of(case, gang)):
        return ""
    return f"pod {finding.name} is on node {node}, which would take a host of the gang with it; {free[0]} is free"
