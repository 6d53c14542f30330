"""What stands around the pods: made before them, put right when somebody changed it."""

from __future__ import annotations

from typing import Any

from opt_operator.core import names
from opt_operator.core.actions import Action, Apply, Concern, Object
from opt_operator.core.builders import pods
from opt_operator.core.builders import surroundings as build
from opt_operator.core.rules.places import COORDINATOR, Places
from opt_operator.core.rules.verdict import Case
from opt_operator.core.views import UNSAID, Child, PodView


def surroundings(case: Case, places: Places) -> tuple[Action, ...]:
    """Applies of whatever is missing or differs; identities and roles of hosts."""
    holder = places.holder(COORDINATOR)
    attempt = holder.attempt if holder else case.number
    wanted: list[tuple[Object, Concern]] = [
        (build.plan_map(case.parent, case.plan), "opt-config"),
        (build.coordinator_service(case.parent, attempt), "opt-network"),
        (build.hosts_service(case.parent), "opt-network"),
        (build.network_policy(case.parent, case.plan), "opt-network"),
        (build.disruption_budget(case.parent), "opt-workload"),
    ]
    return (*_missing(case, wanted), *_identities(case), *_roles(case, places))


def base(case: Case) -> tuple[Action, ...]:
    """What data preparation and evaluation need."""
    wanted: list[tuple[Object, Concern]] = [
        (build.plan_map(case.parent, case.plan), "opt-config"),
        (build.network_policy(case.parent, case.plan), "opt-network"),
    ]
    return _missing(case, wanted)


def _missing(case: Case, wanted: list[tuple[Object, Concern]]) -> tuple[Action, ...]:
    child = case.snapshot.child
    return tuple(
        Apply(document, concern)
        for document, concern in wanted
        if not is_as_wanted(child(document["kind"], document["metadata"]["name"]), document)
    )


def is_as_wanted(found: Child | None, document: Object) -> bool:
    """Whether a child is there with all that is wanted; an API server's list does not say what kind its objects are."""
    parts = {part: value for part, value in document.items() if part not in UNSAID}
    return found is not None and covers(found.document, parts)


def covers(actual: Any, wanted: Any) -> bool:
    """Whether everything that is wanted is there; what the API server added does not count, nor what is empty."""
    if actual is None and wanted in ([], {}):
        return True
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(covers(actual.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(covers(mine, other) for mine, other in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted)


def _identities(case: Case) -> tuple[Action, ...]:
    """Tell each host that was bound which machine it is on."""
    nodes = case.snapshot.nodes
    label = case.training.spec.resilience.failure_domain_label
    told: list[Action] = []
    for pod in case.snapshot.hosts:
        if not pod.spec.node_name or pod.ended or pod.going or names.HARDWARE in pod.metadata.annotations:
            continue
        node = (nodes or {}).get(pod.spec.node_name)
        if nodes is not None and node is None:
            continue
        hardware = _place_on(node.hardware if node else pod.spec.node_name, pod, case.snapshot.hosts)
        domain = node.metadata.labels.get(label, "") if node else ""
        document = pods.identity(case.parent.namespace, pod.metadata.name, hardware, domain)
        told.append(Apply(document, "opt-identity"))
    return tuple(told)


def _place_on(machine: str, pod: PodView, hosts: tuple[PodView, ...]) -> str:
    """What the ledger knows a host's machine by; hosts that have to share one are told apart by their places."""
    others = (other for other in hosts if other is not pod and not other.ended and not other.going)
    shared = any(other.spec.node_name == pod.spec.node_name for other in others)
    return names.place_on(machine, pod.slot) if shared else machine


def _roles(case: Case, places: Places) -> tuple[Action, ...]:
    """Labels follow the coordinator: who is in the gang is its decision."""
    report = case.snapshot.report
    if report is None or not report.gang:
        return ()
    alive = [finding.name for finding in places.hosts if finding.policy.fills]
    wanted: dict[str, names.Role] = {name: "gang" if name in report.gang else "spare" for name in alive}
    changed = [pod for pod in case.snapshot.hosts if wanted.get(pod.metadata.name, pod.role) != pod.role]
    return tuple(
        Apply(pods.role(case.parent.namespace, pod.metadata.name, wanted[pod.metadata.name]), "opt-role")
        for pod in changed
    )
