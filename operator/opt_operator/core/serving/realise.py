"""Objects as the written status wants them: made, scaled, taken away. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from opt_api.canonical import canonical_json
from opt_api.documents.serve_routes import Route, ServeRoutes
from opt_api.serving.status import ServedCheckpoint
from opt_operator.core.actions import Action, Apply, Create, Delete
from opt_operator.core.rules.surroundings import is_as_wanted
from opt_operator.core.serving import names
from opt_operator.core.serving.builders import gate, gateway, replicas
from opt_operator.core.serving.builders.common import Revision
from opt_operator.core.serving.builders.surroundings import surroundings
from opt_operator.core.serving.case import Case
from opt_operator.core.serving.look import lacking, unreachable
from opt_operator.core.serving.rollout import Split, sizes, weights
from opt_operator.core.views import PodView

STUCK = timedelta(seconds=10)
"""Beyond the end of its grace, a pod on a lost node is taken out of the API."""


def realise(case: Case) -> tuple[Action, ...]:
    """All that is missing, too much, or otherwise. Without a source, what is there is kept going."""
    steady = (*_deployments(case), *_routes(case), *_lost(case))
    return steady if unreachable(case) else (*_around(case), *_gate(case), *steady)


def _around(case: Case) -> list[Action]:
    wanted = [
        Apply(document, concern)
        for document, concern in surroundings(case.made)
        if not is_as_wanted(case.snapshot.child(document["kind"], document["metadata"]["name"]), document)
    ]
    document = gateway.deployment(case.made)
    found = case.snapshot.deployment(document["metadata"]["name"])
    fresh = document["metadata"]["annotations"][names.TEMPLATE]
    if found is None or found.metadata.annotations.get(names.TEMPLATE) != fresh:
        wanted.append(Apply(document, "opt-workload"))
    return [*wanted]


def _gate(case: Case) -> list[Action]:
    """The Job of the gate that status says is running; no other."""
    state = case.status.gate
    running = state.number if state and state.state == "Running" else None
    made: list[Action] = [
        Delete("Job", job.metadata.name, job.metadata.uid, why="its report was read")
        for job in case.snapshot.jobs
        if job.metadata.attempt != running and job.metadata.deletion_timestamp is None
    ]
    if running is None or case.snapshot.gate_job(running) is not None:
        return made
    served = case.status.served
    kept = [c.digest for c in (served, *case.status.previous) if c and c.digest]
    document = gate.job(
        case.made, running, current=served.digest if served else None, loss=served.loss if served else None,
        rejected=case.status.rejected, keep=kept,
    )  # fmt: skip
    return [*made, Create(document)]


def wanted_sizes(case: Case) -> Mapping[str, int]:
    """Replicas of every revision that may have a Deployment."""
    found = {str(c.revision): 0 for c in case.status.previous}
    pair, stage = _pair(case), case.status.roll.stage if case.status.roll else None
    if pair is None:
        return found
    old, new = pair
    rollout, ready = case.spec.rollout, case.snapshot.ready
    if stage is None or new is None:
        return {**found, str(old.revision): case.wanted}
    share = sizes(stage, case.wanted, rollout.max_surge, ready(str(new.revision)), rollout.canary_percent)
    return {**found, str(old.revision): share.old, str(new.revision): share.new}


def _pair(case: Case) -> tuple[ServedCheckpoint, ServedCheckpoint | None] | None:
    """The old and the new one of a roll; what is served, alone, where there is none."""
    status = case.status
    if status.served is None:
        return None
    if status.candidate is not None:
        return status.served, status.candidate
    if status.roll and status.roll.stage == "Bake" and status.previous:
        return status.previous[0], status.served
    return status.served, None


def _deployments(case: Case) -> list[Action]:
    wanted, known = wanted_sizes(case), _known(case)
    made: list[Action] = []
    for revision, count in wanted.items():
        name = names.replicas(case.made.parent.name, revision)
        found = case.snapshot.deployment(name)
        if found is None and _may_be_made(case, revision):
            document = replicas.workload(case.made, Revision(revision, known[revision]), count)
            made.append(Create(document))
        elif found is not None and found.spec.replicas != count:
            made.append(Apply(replicas.scaled(found.kind, case.made.parent.namespace, name, count), "opt-scale"))
    for found in case.snapshot.deployments:
        revision = found.metadata.labels.get(names.REVISION, "")
        if revision and revision not in wanted and found.metadata.deletion_timestamp is None:
            made.append(Delete(found.kind, found.metadata.name, found.metadata.uid, why="no longer kept"))
    return made


def _may_be_made(case: Case, revision: str) -> bool:
    """A Deployment is only made as its name says; one of an older specification that somebody deleted stays away."""
    known = _known(case)[revision]
    return known.uri is not None and case.revision(known) == revision and not lacking(case)


def _known(case: Case) -> dict[str, ServedCheckpoint]:
    status = case.status
    return {str(c.revision): c for c in (*status.previous, status.served, status.candidate) if c}


def routes_of(case: Case) -> tuple[Route, ...]:
    """Where requests go now."""
    pair, stage = _pair(case), case.status.roll.stage if case.status.roll else None
    if pair is None:
        return ()
    old, new = pair
    if stage is None or new is None:
        return (_route(case, old, 1),)
    share = weights(stage, case.wanted, case.snapshot.ready(str(new.revision)), case.spec.rollout.canary_percent)
    return _both(case, old, new, share)


def _both(case: Case, old: ServedCheckpoint, new: ServedCheckpoint, share: Split) -> tuple[Route, ...]:
    """Where nothing of the one with all the weight is ready and the other is, the other answers."""
    if not case.snapshot.ready(str(old.revision)) and case.snapshot.ready(str(new.revision)):
        share = Split(0, 1)
    return _route(case, old, share.old), _route(case, new, share.new)


def _route(case: Case, checkpoint: ServedCheckpoint, weight: int) -> Route:
    pods = case.snapshot.of_revision(str(checkpoint.revision))
    return Route(
        revision=str(checkpoint.revision), weight=weight, step=checkpoint.step, digest=checkpoint.digest,
        uri=checkpoint.uri, endpoints=tuple(sorted(_endpoint(pod) for pod in pods if pod.status.pod_ip)),
    )  # fmt: skip


def _endpoint(pod: PodView) -> str:
    address = pod.status.pod_ip
    return f"{f'[{address}]' if ':' in address else address}:{replicas.PORT}"


def _routes(case: Case) -> list[Action]:
    """The ConfigMap for gateways that start, the annotation for those that run."""
    name, namespace = names.routes(case.made.parent.name), case.made.parent.namespace
    found = case.snapshot.child("ConfigMap", name)
    text = (found.document.get("data") or {}).get(names.ROUTES_KEY, "") if found else ""
    before = _read(text)
    generation = max(before.generation + 1 if before else 0, int(case.snapshot.now.timestamp() * 1000))
    after = ServeRoutes(
        generation=generation, model_name=case.made.model_name, replicas=case.wanted, routes=routes_of(case)
    )
    made: list[Action] = []
    if before is None or before.model_copy(update={"generation": generation}) != after:
        text = canonical_json(after.wire()).decode()
        made.append(Apply(gateway.routes_map(case.made, text), "opt-routes"))
    late = [pod for pod in case.snapshot.gateway_pods if pod.metadata.annotations.get(names.ROUTES) != text]
    told = (Apply(gateway.routed(namespace, pod.metadata.name, text), "opt-routes") for pod in late)
    return [*made, *told]


def _read(text: str) -> ServeRoutes | None:
    try:
        return ServeRoutes.from_bytes(text.encode())
    except ValueError:
        return None


def _lost(case: Case) -> list[Action]:
    """Pods of lost nodes, so that others take their place at once: on the word of node and gateway both.

    What nothing is at the address of goes before its node is found lost: until then half of the clients would be led to
    such a gateway, and what such a replica did would be missing. One that was there after all is made anew elsewhere.
    """
    snapshot = case.snapshot
    made: list[Action] = []
    for pod in snapshot.pods:
        if _unreached(case, pod):
            made.append(Delete("Pod", pod.metadata.name, pod.metadata.uid, 0, "nothing is at its address any more"))
            continue
        if snapshot.verdict_of(pod).state != "Lost" or pod.ended or not snapshot.gateways:
            continue
        stuck = pod.going and snapshot.now > (pod.metadata.deletion_timestamp or snapshot.now) + STUCK
        if stuck or (not pod.going and _silent(case, pod)):
            made.append(Delete("Pod", pod.metadata.name, pod.metadata.uid, 0, "its node is lost"))
    return made


def _unreached(case: Case, pod: PodView) -> bool:
    """Whether nothing is at its address: of a replica, by the word of all gateways, which reach another one."""
    if pod.going or pod.ended:
        return False
    if pod.role != "replica":
        return pod.metadata.name in case.snapshot.unreached
    if not pod.status.pod_ip:
        return False
    words = [report.endpoints for report in case.snapshot.gateways.values()]
    return bool(words) and all(
        told.get(_endpoint(pod)) == "Unreached" and any(word == "Ready" for word in told.values()) for told in words
    )


def _silent(case: Case, pod: PodView) -> bool:
    """Whether those who speak with it hear nothing: gateways of a replica, we of a gateway."""
    if pod.role == "gateway":
        return pod.metadata.name not in case.snapshot.gateways
    if not pod.status.pod_ip:
        return True
    told = [r.endpoints.get(_endpoint(pod)) for r in case.snapshot.gateways.values()]
    return all(word in (None, "Silent", "Unreached") for word in told)
