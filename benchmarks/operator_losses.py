"""A node lost under a training on real nodes: ours, and JobSet's controller in the same cluster with the same fault.

Four nodes: one for the operator and the store, three for a gang of two and what is free. The node of a rank is killed
whole; the time runs to the next optimiser step. Ours is a training of the operator with one spare. JobSet 0.10.1 has an
Indexed Job of two DDP pods of the same image with `maxRestarts: 20`, as its documentation has it: default tolerations,
default time-outs, the third node free. Its ranks report their steps over UDP.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import OURS, Case, case_of

from optcluster import build, lifecycle, procs, programs, role_images
from optcluster.cluster import Cluster, Node
from optcluster.families import EXTRAS, FAMILIES
from optcluster.init import Service
from optcluster.pki import Authority
from optcluster.wait import wait_for
from support.cluster import fresh_namespace, pod
from support.evaluation_store import give_seaweedfs
from support.operator_run import Release, Training
from support.pod_run import give_images

LOSSES = 5
PEER_LIMIT_S, QUICK_LIMIT_S = 600.0, 60.0
SETTLED = 20
JOBSETS = "/apis/jobset.x-k8s.io/v1alpha2"
CONFIG = {
    "apiVersion": "config.jobset.x-k8s.io/v1alpha1", "kind": "Configuration", "leaderElection": {"leaderElect": False},
    "internalCertManagement": {"enable": False},
}  # fmt: skip
RANK = """
import os, socket, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
rank, wire = int(os.environ["JOB_COMPLETION_INDEX"]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dist.init_process_group("gloo", rank=rank, world_size=2)
model = DistributedDataParallel(torch.nn.Linear(64, 64))
adam = torch.optim.AdamW(model.parameters())
while True:
    model(torch.randn(8, 64)).square().mean().backward()
    adam.step()
    adam.zero_grad()
    if rank == 0:
        wire.sendto(b"step", ("{host}", {port}))
    time.sleep(0.05)
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """One killed node: seconds to the next step, and what tells why."""

    seconds: float
    causes: tuple[str, ...]
    with_coordinator: bool

    def __str__(self) -> str:
        words = f"{self.seconds:.1f} s ({', '.join(self.causes)})"
        return f"{words} with the coordinator" if self.with_coordinator else words


def lost_node(quick: bool) -> list[Case]:
    """Ours and the peer, one after the other in one cluster: both at once would share two cores."""
    programs.provide((*EXTRAS, "jobset"))
    cluster = lifecycle.up("losses", 4, procs.me(), role_images.archives())
    try:
        give_images(cluster, "operator", "trainer", "dataprep")
        give_seaweedfs(cluster)
        theirs, words = jobset(cluster, QUICK_LIMIT_S if quick else PEER_LIMIT_S)
        found = ours(cluster, 1 if quick else LOSSES)
    finally:
        lifecycle.down(cluster)
    seconds = sorted(loss.seconds for loss in found)
    note = f"ours: one spare, losses in order: {'; '.join(map(str, found))}. JobSet 0.10.1, one loss: {words}"
    cases = [case_of("lost node to next step, p50", "s", "lower", {OURS: seconds, "JobSet": [theirs]}, note)]
    worst = {OURS: [seconds[-1 - len(found) // 20]], "JobSet": [theirs]}
    return [*cases, case_of("lost node to next step, p95", "s", "lower", worst, note)]


def ours(cluster: Cluster, losses: int) -> list[Loss]:
    """One after the other; the machine comes back as the next spare."""
    with fresh_namespace(cluster.api) as system, fresh_namespace(cluster.api) as namespace:
        release = Release(cluster, system, namespace)
        with tempfile.TemporaryDirectory() as folder:
            release.install(Path(folder))
        training = Training(release, "lossy", "lossy", steps=1_000_000)
        training.apply()
        try:
            return [_one_loss(cluster, training) for _ in range(losses)]
        finally:
            training.delete()
            release.uninstall()


def _one_loss(cluster: Cluster, training: Training) -> Loss:
    before = training.until_step(SETTLED, deadline_s=600)
    wait_for(lambda: _spare(training), 180, "a spare", training.describe)
    steps = before["step"] + SETTLED
    attempt, known = training.until_step(steps)["attempt"], len(training.causes())
    name = training.node_of_a_worker("node-1")
    shared = any(pod["spec"].get("nodeName") == name for pod in training.pods("coordinator"))
    node = cluster.node(int(name.rpartition("-")[2]))
    began = time.monotonic()
    node.kill()
    try:
        training.until_recovered(attempt)
        seconds = time.monotonic() - began
        return Loss(seconds, tuple(training.causes()[known:]), shared)
    finally:
        _returns(node)


def _spare(training: Training) -> bool:
    found = training.coordinator()
    gang = {worker["host"] for worker in found["workers"]} if found else set()
    return any(
        a["state"] == "Spare" and not a["gone"] and a["host"] not in gang for a in (found or {}).get("agents", [])
    )


def _returns(node: Node) -> None:
    node.start()
    node.wait_ready(120)
    node.tell_disk()


def jobset(cluster: Cluster, limit_s: float) -> tuple[float, str]:
    """Seconds to the next step, or the limit; and what was seen."""
    with _controller(cluster), fresh_namespace(cluster.api) as namespace, _steps(cluster) as steps:
        path = f"{JOBSETS}/namespaces/{namespace}/jobsets"
        cluster.api.create(path, _job(cluster, steps.getsockname()[1]))
        wait_for(lambda: _heard(steps), 180, "steps of the JobSet", lambda: cluster.hub.log_tail("jobset"))
        pods = cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")
        lost = next(p for p in pods if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1")
        node = cluster.node(int(lost["spec"]["nodeName"].rpartition("-")[2]))
        began = time.monotonic()
        node.kill()
        _drain(steps)
        try:
            took = _next_step(steps, began, limit_s)
            state = cluster.api.get(f"{path}/ddp").get("status", {})
            left = [(p["metadata"]["name"], p["status"]["phase"], "deletionTimestamp" in p["metadata"])
                    for p in cluster.api.items(f"/api/v1/namespaces/{namespace}/pods")]  # fmt: skip
        finally:
            _returns(node)
            cluster.api.delete(f"{path}/ddp")
        if took is None:
            return limit_s, f"no step in {limit_s:.0f} s, restarts {state.get('restarts', 0)}, pods {json.dumps(left)}"
        return took, f"restarts {state.get('restarts', 0)}"


def _next_step(steps: socket.socket, began: float, limit_s: float) -> float | None:
    """The first step after the gang stood still for a second: what was on its way at the fault is none."""
    while (left := limit_s - (time.monotonic() - began)) > 0:
        steps.settimeout(left)
        try:
            steps.recv(64)
        except TimeoutError:
            return None
        now = time.monotonic()
        if now - began > 2.0:
            return now - began
    return None


def _heard(steps: socket.socket) -> bool:
    steps.settimeout(0.5)
    try:
        return bool(steps.recv(64))
    except TimeoutError:
        return False


def _drain(steps: socket.socket) -> None:
    steps.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        for _ in range(1000):
            steps.recv(64)


@contextlib.contextmanager
def _steps(cluster: Cluster) -> Iterator[socket.socket]:
    """Where ranks say that they did a step."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind((cluster.addresses.host, 0))
        yield wire


@contextlib.contextmanager
def _controller(cluster: Cluster) -> Iterator[None]:
    """JobSet's controller beside the control plane, without its webhooks: what they would fill in is written out."""
    home = cluster.folder / "jobset"
    certificates = home / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True, exist_ok=True)
    pair = Authority(cluster.folder / "pki").issue("jobset", "jobset", hosts=("localhost",))
    shutil.copy(pair.cert, certificates / "tls.crt")
    shutil.copy(pair.key, certificates / "tls.key")
    (home / "config.json").write_text(json.dumps(CONFIG))
    for path in sorted(build.folder_of(FAMILIES["jobset"]).rglob("*_jobsets.yaml")):
        cluster.api.apply_file(path)
    wait_for(lambda: cluster.api.get(f"{JOBSETS}/jobsets"), 30, "the API of JobSets")
    environment = {"KUBECONFIG": str(cluster.kubeconfig), "TMPDIR": str(home), "HOME": str(home)}
    command = (str(programs.find("jobset")), "--config", str(home / "config.json"))
    cluster.hub.serve(Service("jobset", command, environment))
    try:
        yield
    finally:
        cluster.hub.stop_service("jobset")


def _job(cluster: Cluster, port: int) -> dict[str, Any]:
    made = pod("rank", RANK.replace("{host}", cluster.addresses.host).replace("{port}", str(port)))["spec"]
    made["containers"][0]["env"] = [
        {"name": "MASTER_ADDR", "value": "ddp-w-0-0.ddp"}, {"name": "MASTER_PORT", "value": "29500"},
    ]  # fmt: skip
    apart = {"labelSelector": {"matchLabels": {"jobset.sigs.k8s.io/jobset-name": "ddp"}},
             "topologyKey": "kubernetes.io/hostname"}  # fmt: skip
    away = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["node-1"]}
    made |= {
        "restartPolicy": "Never",
        "affinity": {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [away]}]}
            },
        },
    }
    job = {
        "completionMode": "Indexed",
        "completions": 2,
        "parallelism": 2,
        "backoffLimit": 0,
        "template": {"spec": made},
    }
    spec = {
        "network": {"enableDNSHostnames": True, "subdomain": "ddp", "publishNotReadyAddresses": True},
        "successPolicy": {"operator": "All"},
        "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
        "failurePolicy": {"maxRestarts": 20, "restartStrategy": "Recreate"},
        "replicatedJobs": [{"name": "w", "groupName": "default", "replicas": 1, "template": {"spec": job}}],
    }
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "ddp"}, "spec": spec}
