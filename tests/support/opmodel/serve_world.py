"""A cluster in memory with what a served model needs: nodes, controllers, a store, gates and gateways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from opt_api.documents.gate_report import GatedCheckpoint, GateReport
from opt_api.documents.serve_routes import ServeRoutes
from opt_operator.core.serving.names import LEADER_WORKER_SETS
from opt_operator.core.serving.views import GatewayReport
from opt_operator.core.snapshot import Key
from opt_operator.core.views import CoordinatorReport, PodView
from support.opmodel.api import ModelApi, Object, copied

NS = "team"
LOAD_S = 3
NOTICED_S = 8
UNREACHED_S = 3
TRAINING = "small"
BREAKDOWN = 69


def digest_of(step: int) -> str:
    return "sha256:" + f"{step:064x}"


@dataclass
class ServeWorld:
    """Requests come every second; who answers is looked up as a gateway does it.

    Attributes:
        stored: Steps of the Verified checkpoints.
        unfit: Steps that fail their gate.
        erring: Steps whose replicas fail every other request.
        stuck: Steps whose replicas never become ready.
        demand: Requests in flight, or held while nobody answers.
        unserved: Seconds in which a request found no replica although one had served before.
    """

    api: ModelApi
    clock: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    breakdowns: int = 0
    """How many gates will end with an error of the store."""
    stored: list[int] = field(default_factory=list)
    unfit: set[int] = field(default_factory=set)
    erring: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)
    demand: int = 0
    unserved: list[int] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    gates: int = 0
    apis: frozenset[str] = frozenset({LEADER_WORKER_SETS})
    _addresses: int = 0

    def tick(self) -> None:
        self.clock += 1
        self.api.now += timedelta(seconds=1)
        self._notice_lost_nodes()
        for pod in self.api.of("Pod"):
            self._kubelet(pod)
        for job in self.api.of("Job"):
            self._job(job)
        for deployment in self.api.of("Deployment"):
            self._replicate(deployment)
        for groups in self.api.of("LeaderWorkerSet"):
            self._group(groups)
        self._ask()

    def add_nodes(self, count: int) -> None:
        for number in range(1, count + 1):
            self.api.put_new("Node", {
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}", "labels": {}}, "spec": {},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })  # fmt: skip

    def lose(self, node: str) -> None:
        self.lost[node] = self.clock

    def publish(self, step: int) -> None:
        """The training has a newer Verified checkpoint."""
        self.stored.append(step)
        word = {"step": step, "time": self.api.stamp(), "digest": digest_of(step)}
        status = {"phase": "Running", "checkpoint": word}
        self.api.edit("OPTTraining", NS, TRAINING, lambda o: o.setdefault("status", {}).update(status))

    def kill(self, role: str) -> None:
        """A pod goes without a word."""
        name = next(p["metadata"]["name"] for p in self.api.of("Pod") if _role(p) == role)
        self.api.remove("Pod", NS, name, 0)

    # what controllers and kubelets do

    def _replicate(self, deployment: Object) -> None:
        name, wanted = deployment["metadata"]["name"], deployment["spec"]["replicas"]
        mine = self._owned(deployment)
        for number in range(wanted - len(mine)):
            self._pod(f"{name}-{self.clock}-{number}", deployment, deployment["spec"]["template"])
        for pod in mine[: max(len(mine) - wanted, 0)]:
            self.api.remove("Pod", NS, pod["metadata"]["name"], None)

    def _group(self, groups: Object) -> None:
        """As LeaderWorkerSet does: pods of a group come and go together."""
        template, name, wanted = (
            groups["spec"]["leaderWorkerTemplate"],
            groups["metadata"]["name"],
            groups["spec"]["replicas"],
        )
        mine = {p["metadata"]["name"]: p for p in self._owned(groups)}
        for index in range(wanted):
            names = [f"{name}-{index}", *(f"{name}-{index}-{at}" for at in range(1, template["size"]))]
            there = [n for n in names if n in mine]
            if there and len(there) < len(names):
                for broken in there:
                    self.api.remove("Pod", NS, broken, None)
            for n in () if there else names:
                role = "leaderTemplate" if n == names[0] else "workerTemplate"
                self._pod(n, groups, template[role])
            for n in names:
                mine.pop(n, None)
        for n in mine:
            self.api.remove("Pod", NS, n, None)

    def _owned(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [p for p in self.api.of("Pod") if p["metadata"]["ownerReferences"][0]["uid"] == uid and not _going(p)]

    def _notice_lost_nodes(self) -> None:
        unknown = [{"type": "Ready", "status": "Unknown"}]
        for name, since in self.lost.items():
            if self.clock - since >= NOTICED_S:
                self.api.edit("Node", "", name, lambda n: n["status"].update(conditions=unknown))

    def _kubelet(self, pod: Object) -> None:
        name, where = pod["metadata"]["name"], pod["spec"].get("nodeName")
        if where in self.lost:
            return
        if _going(pod):
            self.api.remove("Pod", NS, name, 0)
        elif not where:
            free = [n["metadata"]["name"] for n in self.api.of("Node") if n["metadata"]["name"] not in self.lost]
            node = free[self.clock % len(free)]
            self.api.edit("Pod", NS, name, lambda p: p["spec"].update(nodeName=node))
        elif not pod.get("status"):
            self._addresses += 1
            self.began[name] = self.clock
            address = f"10.1.{self._addresses // 250}.{self._addresses % 250}"
            status = {"phase": "Running", "podIP": address}
            self.api.edit("Pod", NS, name, lambda p: p.update(status=status))
        elif self.clock - self.began[name] >= LOAD_S and self._step_of(pod) not in self.stuck:
            ready = [{"type": "Ready", "status": "True"}]
            self.api.edit("Pod", NS, name, lambda p: p["status"].update(conditions=ready))

    def _job(self, job: Object) -> None:
        name = job["metadata"]["name"]
        if job.get("status"):
            return
        pod = f"{name}-0"
        if ("Pod", NS, pod) not in self.api.objects:
            self._pod(pod, job, job["spec"]["template"])
            return
        if self.api.objects["Pod", NS, pod].get("status", {}).get("phase") != "Running":
            return
        code = BREAKDOWN if self.breakdowns else 0
        self.breakdowns = max(self.breakdowns - 1, 0)
        message = "the store does not answer" if code else self._report(job)
        end = {"exitCode": code, "message": message, "finishedAt": self.api.stamp()}
        states = [{"name": "main", "state": {"terminated": end}}]
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": states}
        self.api.edit("Pod", NS, pod, lambda p: p["status"].update(status))
        done = {"conditions": [{"type": "Failed" if code else "Complete", "status": "True"}]}
        self.api.edit("Job", NS, name, lambda j: j.update(status=done))

    def _pod(self, name: str, owner: Object, template: Object) -> None:
        reference = {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        meta = {**copied(template["metadata"]), "name": name, "namespace": NS, "ownerReferences": [reference]}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": copied(template["spec"])}
        self.api.put_new("Pod", document)

    def _step_of(self, pod: Object) -> int | None:
        found = pod["metadata"]["labels"].get("opt-operator.io/step")
        return int(found) if found else None

    def _report(self, job: Object) -> str:
        """What a gate finds: the newest checkpoint that it was not told to leave alone."""
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        rejected = {command[at + 1] for at, part in enumerate(command) if part == "--reject"}
        chosen = command[command.index("--checkpoint") + 1]
        pinned = int(chosen) if chosen.isdecimal() else None
        good = [s for s in self.stored if digest_of(s) not in rejected and pinned in (None, s)]
        self.gates += 1
        if not good:
            return GateReport(reason="no Verified checkpoint yet").to_bytes().decode()
        step = good[-1]
        found = GatedCheckpoint(
            step=step, digest=digest_of(step), uri=f"s3://bucket/{step}/export",
            time=datetime(2026, 1, 1, tzinfo=UTC), loss=2.0,
        )  # fmt: skip
        fit = step not in self.unfit
        return GateReport(checkpoint=found, passed=fit, reason="" if fit else "its loss is worse").to_bytes().decode()

    # what clients and gateways do

    def _ask(self) -> None:
        routes = self.routes()
        if routes is None or not routes.routes:
            return
        open_to = [r for r in routes.routes if r.weight and any(self._answers(e) for e in r.endpoints)]
        if not open_to:
            if self.answered and self.demand:
                self.unserved.append(self.clock)
            return
        for route in open_to:
            self.steps[route.revision] = route.step or 0
            self.answered[route.revision] = self.answered.get(route.revision, 0) + 10
            failed = 5 if route.step in self.erring else 0
            self.failed[route.revision] = self.failed.get(route.revision, 0) + failed

    def routes(self) -> ServeRoutes | None:
        """The newest that any gateway has."""
        texts = [p["metadata"].get("annotations", {}).get("opt-operator.io/routes") for p in self.gateways()]
        found = [ServeRoutes.from_bytes(text.encode()) for text in texts if text]
        return max(found, key=lambda r: r.generation, default=None)

    def gateways(self) -> list[Object]:
        return [p for p in self.api.of("Pod") if _role(p) == "gateway" and self._alive(p)]

    def _answers(self, endpoint: str) -> bool:
        return any(self._alive(p) and _is_ready(p) for p in self.api.of("Pod")
                   if f"{p.get('status', {}).get('podIP')}:8000" == endpoint)  # fmt: skip

    def _alive(self, pod: Object) -> bool:
        where = pod["spec"].get("nodeName")
        return pod.get("status", {}).get("phase") == "Running" and not _going(pod) and where not in self.lost

    def _state(self, endpoint: str) -> str:
        if self._answers(endpoint):
            return "Ready"
        dead = [p for p in self._dead() if f"{p.get('status', {}).get('podIP')}:8000" == endpoint]
        return "Unreached" if dead else "Silent"

    def _dead(self) -> list[Object]:
        """Pods on machines that died some seconds ago."""
        nodes = {node for node, since in self.lost.items() if self.clock - since >= UNREACHED_S}
        return [p for p in self.api.of("Pod") if p["spec"].get("nodeName") in nodes]

    def unreached(self, key: Key) -> frozenset[str]:
        """Gateways of those, as long as another one answers."""
        found = (p["metadata"]["name"] for p in self._dead() if _role(p) == "gateway")
        return frozenset(found if self.gateways() else ())

    def reports(self, key: Key) -> Mapping[str, GatewayReport]:
        routes = self.routes()
        if routes is None:
            return {}
        awake = any(self._answers(e) for r in routes.routes for e in r.endpoints)
        counts = {
            r: {"requests": n, "failures": self.failed.get(r, 0), "inFlight": 0} for r, n in self.answered.items()
        }
        endpoints = {e: self._state(e) for r in routes.routes for e in r.endpoints}
        made: dict[str, Any] = {"generation": routes.generation, "revisions": counts, "endpoints": endpoints}
        told = {}
        for number, pod in enumerate(self.gateways()):
            mine = self.demand if number == 0 else 0
            busy = {"inFlight": mine if awake else 0, "held": 0 if awake else mine}
            shared = made if number == 0 else {**made, "revisions": {}}
            told[pod["metadata"]["name"]] = GatewayReport.model_validate({**shared, **busy})
        return told

    def newest(self, key: Key) -> CoordinatorReport | None:
        return None

    def unreached_s(self, key: Key) -> float:
        return 0.0

    async def tell(self, pod: PodView, path: str, body: Mapping[str, Any]) -> bool:
        return False


def fresh(nodes: int = 4) -> ServeWorld:
    """A world with nodes and nothing else."""
    world = ServeWorld(ModelApi())
    world.add_nodes(nodes)
    return world


def _role(document: Object) -> str:
    found: str = document["metadata"].get("labels", {}).get("opt-operator.io/role", "")
    return found


def _going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))
