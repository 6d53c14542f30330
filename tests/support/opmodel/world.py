"""A cluster's other half in memory: scheduler, kubelets, Job controller, and a run with its coordinator and store.

The coordinator here follows the rules of `opt_runtime` as far as the operator can see them: it hears agents, starts
attempts, swaps hosts that two sources call lost, saves and stops when told, and remembers everything in its journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opt_api.documents.preparation_report import PreparationReport
from opt_operator.core.names import ATTEMPT, ROLE
from opt_operator.core.serving.views import GatewayReport
from opt_operator.core.snapshot import Key
from opt_operator.core.views import CoordinatorReport, PodView
from support.opmodel.api import ModelApi, Object, copied

NS = "team"
STAGES = ("read", "pack")
DIGEST = "sha256:" + "1" * 64
NOTICED_S, UNREACHED_S = 8, 3
SETTLED_STEPS = 4


@dataclass
class Journal:
    """What the run keeps in its store: it outlives every pod and every object of the cluster."""

    phase: str = "none"
    attempt: int = 0
    step: int = 0
    paused_for: str | None = None
    suspend: bool = False
    gang: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    dataset: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    """Machines that may not join, and the host that each was."""


@dataclass
class World:
    """Everything but the operator; one `tick` is one second."""

    api: ModelApi
    hosts: int = 2
    total_steps: int = 1000
    journal: Journal = field(default_factory=Journal)
    lost: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    fail_stage: dict[str, int] = field(default_factory=dict)
    clock: int = 0
    began: int | None = None
    """When the gang had been at work for a moment: what is special about a scenario begins here."""
    stuck: set[str] = field(default_factory=set)
    """Pods whose kubelet does not get them ended."""
    suspected: set[str] = field(default_factory=set)
    """Hosts that the coordinator takes again only with a new agent, which has another name."""
    dismissed: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    def add_nodes(self, count: int) -> None:
        for number in range(1, count + 1):
            self.add_node(f"n{number}", f"cloud://machine-{number}")

    def add_node(self, name: str, machine: str) -> None:
        """A machine joins under a name."""
        self.api.put_new("Node", {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {}},
            "spec": {"providerID": machine}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        })  # fmt: skip

    def tick(self) -> None:
        self.clock += 1
        self.api.advance()
        self.api.collect_orphans()
        self._notice_lost_nodes()
        for pod in self.api.of("Pod"):
            self._kubelet(pod)
        for job in self.api.of("Job"):
            self._job(job)
        self._coordinate()
        if self.began is None and self.journal.step >= SETTLED_STEPS:
            self.began = self.clock

    def at(self, seconds: int) -> bool:
        """Whether so much time has passed since the gang was at work."""
        return self.began is not None and self.clock - self.began == seconds

    def lose(self, node: str) -> None:
        self.lost[node] = self.clock

    # kubelets and scheduler

    def _notice_lost_nodes(self) -> None:
        for name, since in self.lost.items():
            if self.clock - since >= NOTICED_S and ("Node", "", name) in self.api.objects:
                self.api.edit("Node", "", name, lambda n: n["status"].update(
                    conditions=[{"type": "Ready", "status": "Unknown"}]))  # fmt: skip

    def _kubelet(self, pod: Object) -> None:
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        where = spec.get("nodeName")
        if where in self.lost:
            return
        if "deletionTimestamp" in meta:
            if where and meta["name"] not in self.stuck:
                self.api.remove("Pod", NS, meta["name"], 0)
            return
        if not where:
            self._schedule(pod)
        elif status.get("phase", "Pending") == "Pending" and self._may_start(pod):
            self._set(pod, phase="Running", podIP=f"10.0.0.{len(meta['name'])}", containerStatuses=[
                {"name": "main", "ready": True, "state": {"running": {}}}])  # fmt: skip

    def _may_start(self, pod: Object) -> bool:
        if pod["metadata"]["labels"].get("opt-operator.io/slot") is None:
            return True
        return bool(pod["metadata"].get("annotations", {}).get("opt-operator.io/hardware"))

    def _schedule(self, pod: Object) -> None:
        taken = [other["spec"].get("nodeName") for other in self.api.of("Pod") if _holds_a_place(other)]
        free = [
            n["metadata"]["name"]
            for n in self.api.of("Node")
            if n["metadata"]["name"] not in self.lost and not n["spec"].get("unschedulable") and _may_be_on(pod, n)
        ]
        is_host = "opt-operator.io/slot" in pod["metadata"]["labels"]
        free = [name for name in free if not is_host or name not in taken]
        free.sort(key=lambda name: name in taken)
        if free:
            self.api.edit("Pod", NS, pod["metadata"]["name"], lambda p: p["spec"].update(nodeName=free[0]))
        else:
            self._set(pod, conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                        "message": "0 nodes are available"}])  # fmt: skip

    def _set(self, pod: Object, **status: Any) -> None:
        self.api.edit("Pod", NS, pod["metadata"]["name"], lambda p: p.setdefault("status", {}).update(status))

    def end(self, name: str, code: int, message: str = "", reason: str = "Error") -> None:
        """A container of a pod ends."""
        phase = "Succeeded" if code == 0 else "Failed"
        end = {
            "exitCode": code,
            "message": message,
            "reason": reason if code else "Completed",
            "finishedAt": self.api.stamp(),
        }
        states = [{"name": "main", "state": {"terminated": end}}]
        update = {"phase": phase, "containerStatuses": states}
        self.api.edit("Pod", NS, name, lambda p: p.setdefault("status", {}).update(update))

    # Jobs

    def _job(self, job: Object) -> None:
        name, status = job["metadata"]["name"], job.get("status", {})
        if status.get("conditions") or job["spec"].get("suspend"):
            return
        pod = f"{name}-0"
        if ("Pod", NS, pod) not in self.api.objects:
            meta = copied(job["spec"]["template"]["metadata"])
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
            meta |= {"name": pod, "namespace": NS, "ownerReferences": [owner]}
            spec = copied(job["spec"]["template"]["spec"])
            self.api.put_new("Pod", {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": meta})
            return
        found = self.api.objects["Pod", NS, pod]
        if found.get("status", {}).get("phase") != "Running":
            return
        stage = job["metadata"]["labels"].get("opt-operator.io/stage", "evaluation")
        if job["metadata"]["labels"]["opt-operator.io/role"] == "burn-in":
            stage = "burn-in"
        code = self.fail_stage.get(stage, 0)
        if code == 69:
            del self.fail_stage[stage]
        self.end(pod, code, self._report(stage) if code == 0 else f"stage {stage} says no")
        kind = "Complete" if code == 0 else "Failed"
        condition = {"type": kind, "status": "True", "message": f"exit code {code}"}
        done = {"conditions": [condition], "succeeded": int(not code)}
        self.api.edit("Job", NS, name, lambda j: j.update(status=done))

    def _report(self, stage: str) -> str:
        if stage == STAGES[-1]:
            self.journal.dataset = True
        done = self.journal.dataset
        report = PreparationReport(
            plan="data/1/plan.json", stages=() if done else STAGES,
            dataset="s3://bucket/data/1/manifest.json" if done else None, manifest_digest=DIGEST if done else None,
        )  # fmt: skip
        return report.to_bytes().decode()

    # the run

    def _coordinate(self) -> None:
        for pod in self._hosts():
            if pod["spec"]["nodeName"] not in self.lost:
                self._hear(pod["metadata"])
        leader = self.coordinator()
        if leader is None:
            return
        j, good = self.journal, self._good()
        if j.phase == "completed":
            self._complete(leader)
        elif j.suspend:
            if j.phase == "running":
                j.phase, j.paused_for, j.gang = "paused", "Suspended", ()
        elif j.phase == "running":
            self._step(good)
        elif len(good) >= self.hosts and (j.phase == "none" or j.paused_for in ("Suspended", "SparesSpent")):
            j.phase, j.paused_for, j.attempt, j.gang = "running", None, j.attempt + 1, tuple(good[: self.hosts])

    def _hear(self, meta: Object) -> None:
        """A refused machine's agent is sent away, under whatever name it comes."""
        self.machines[meta["name"]] = meta["annotations"]["opt-operator.io/hardware"]
        if self.machines[meta["name"]] in self.journal.refused:
            self.end(meta["name"], 0)
        elif meta["name"] not in self.dismissed:
            self.heard[meta["name"]] = self.clock

    def condemn(self, host: str) -> None:
        """The coordinator has had enough of the machine behind a host."""
        self.journal.refused[self.machines[host]] = host

    def _step(self, good: list[str]) -> None:
        j = self.journal
        if not all(host in good for host in j.gang):
            out = [host for host in j.gang if host not in good]
            if not all(self._confirmed(host) for host in out):
                return
            j.attempt += 1
            stay = [*(h for h in j.gang if h in good), *(h for h in good if h not in j.gang)]
            j.gang = tuple(stay[: self.hosts])
            if len(j.gang) < self.hosts:
                j.phase, j.paused_for, j.gang = "paused", "SparesSpent", ()
            return
        j.step += 1
        if j.step >= self.total_steps:
            j.phase = "completed"

    def _complete(self, leader: str) -> None:
        self.end(leader, 0)
        for pod in self._hosts():
            if pod["spec"]["nodeName"] not in self.lost:
                self.end(pod["metadata"]["name"], 0)

    def _confirmed(self, host: str) -> bool:
        """Gone by a second source: the machine refuses connections, or the operator said so."""
        pod = self.api.objects.get(("Pod", NS, host))
        on_living = pod is not None and pod["spec"].get("nodeName") not in self.lost
        vanished = pod is None and not self.was_on_lost(host)
        return on_living or vanished or host in self.gone or self.machines.get(host) in self.journal.refused

    def was_on_lost(self, host: str) -> bool:
        last = [d for _, _, kind, d in self.api.log if kind == "Pod" and d["metadata"]["name"] == host]
        return bool(last) and last[-1]["spec"].get("nodeName") in self.lost

    def _hosts(self) -> list[Object]:
        return [
            pod
            for pod in self.api.of("Pod")
            if "opt-operator.io/slot" in pod["metadata"]["labels"] and pod.get("status", {}).get("phase") == "Running"
        ]

    def _good(self) -> list[str]:
        """Agents the coordinator heard a moment ago."""
        return sorted(name for name, at in self.heard.items() if self.clock - at < 2 and name not in self.suspected)

    def coordinator(self) -> str | None:
        """Name of the coordinator that leads: the newest that runs on a living node."""
        running = (pod for pod in self._coordinators() if pod.get("status", {}).get("phase") == "Running")
        living = [pod for pod in running if pod["spec"]["nodeName"] not in self.lost]
        return living[-1]["metadata"]["name"] if living else None

    def exposed(self) -> bool:
        """Whether the coordinator that leads is on a node with a host of the gang."""
        leader = self.coordinator()
        gang = [p["spec"].get("nodeName") for p in self.api.of("Pod") if p["metadata"]["labels"].get(ROLE) == "gang"]
        return leader is not None and self.api.objects["Pod", NS, leader]["spec"]["nodeName"] in gang

    def _coordinators(self) -> list[Object]:
        """Their pods, the newest last."""
        found = [pod for pod in self.api.of("Pod") if pod["metadata"]["labels"].get(ROLE) == "coordinator"]
        return sorted(found, key=lambda pod: int(pod["metadata"]["labels"][ATTEMPT]))

    # what the operator hears and says

    def newest(self, key: Key) -> CoordinatorReport | None:
        if self.coordinator() is None:
            return None
        j = self.journal
        agents = [
            {"host": name, "hardware": self.machines[name], "silentSeconds": float(self.clock - at),
             "gone": self.gone.get(name, ""),
             "state": "Suspect" if name in {*self.gone, *self.suspected} else "InUse" if name in j.gang else "Spare"}
            for name, at in sorted(self.heard.items())
            if self.clock - at < 60
        ]  # fmt: skip
        workers = [{"rank": rank, "host": host, "section": "step", "step": j.step} for rank, host in enumerate(j.gang)]
        return CoordinatorReport.model_validate({
            "run": "small", "phase": j.phase, "pausedFor": j.paused_for, "attempt": j.attempt,
            "restarts": max(j.attempt - 1, 0), "step": j.step, "totalSteps": self.total_steps, "loss": 2.0,
            "agents": agents, "workers": workers, "suspend": j.suspend, "values": j.values,
            "refused": [{"hardware": machine, "names": [host], "reason": "ECC"} for machine, host in j.refused.items()],
        })  # fmt: skip

    def unreached_s(self, key: Key) -> float:
        """Of the newest coordinator, on a node that is lost; a node that the control plane gave up has its own rule."""
        newest = next(reversed(self._coordinators()), None)
        since = self.lost.get(newest["spec"].get("nodeName", "")) if newest else None
        silent = 0 if since is None else self.clock - since
        return float(silent) if silent >= UNREACHED_S else 0.0

    def reports(self, key: Key) -> Mapping[str, GatewayReport]:
        return {}

    def unreached(self, key: Key) -> frozenset[str]:
        return frozenset()

    async def tell(self, pod: PodView, path: str, body: Mapping[str, Any]) -> bool:
        self.api.before_write(f"tell {path}")
        self.told.append(path)
        if self.coordinator() == pod.metadata.name:
            self._obey(path, dict(body))
        self.api.after_write(f"tell {path}")
        return True

    def _obey(self, path: str, body: dict[str, Any]) -> None:
        j = self.journal
        if path == "/gone":
            self.gone[body["host"]] = body["word"]
        elif path == "/dismiss" and body["host"] not in j.gang:
            self.dismissed.add(body["host"])
            self.heard.pop(body["host"], None)
        elif path == "/suspend":
            j.suspend = True
        elif path == "/resume":
            j.suspend = False
        elif path == "/pardon":
            j.refused.pop(body["hardware"], None)
        elif path == "/live-change":
            names = {"optimisation.learningRate": "learningRate", "optimisation.clip": "clip"}
            j.values |= {names[name]: value for name, value in body["fields"].items()}


def _holds_a_place(pod: Object) -> bool:
    going, ended = "deletionTimestamp" in pod["metadata"], pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return "opt-operator.io/slot" in pod["metadata"]["labels"] and not going and not ended


def _may_be_on(pod: Object, node: Object) -> bool:
    """Whether affinity and taints let a pod onto a node."""
    name, tolerated = node["metadata"]["name"], {t["key"] for t in pod["spec"].get("tolerations", [])}
    if any(taint["key"] not in tolerated for taint in node["spec"].get("taints", [])):
        return False
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    wants = [one for term in terms for one in (*term.get("matchExpressions", []), *term.get("matchFields", []))]
    return all((name in one["values"]) == (one["operator"] == "In") for one in wants)
