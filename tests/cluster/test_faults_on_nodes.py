"""One training on real nodes through one fault after the other; in the end it is what an undisturbed one is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from optcluster import cgroups, node
from optcluster.cluster import LABELS, Cluster, Node
from support.cluster import kubectl
from support.operator_run import CHECKS, ROLE, Release, Training, released

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

STEPS, COMPARED = 100_000, 1000
CHECKPOINTS = {"checkpointing": {"interval": {"steps": 100}, "export": False, "retention": {"keepEverySteps": 500}}}
SYSTEM_NODE = "node-1"
AWAY_S = 120


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    with released(cluster, tmp_path_factory.mktemp("release")) as made:
        yield made


@pytest.fixture(scope="module")
def expected(release: Release) -> dict[int, tuple[float | None, list[str]]]:
    """Checkpoints of a training that nothing happened to."""
    twin = Training(release, "small", "undisturbed", STEPS, {"hostChecks": CHECKS}, CHECKPOINTS)
    twin.apply()
    twin.until_step(COMPARED + 100, deadline_s=900)
    found = twin.result()
    twin.delete()
    return found


@pytest.fixture(scope="module")
def hurt(release: Release, expected: object) -> Iterator[Training]:
    """The same training, about to be hurt; with one spare, and content with one host while there is no more."""
    resilience = {"spares": 1, "minHosts": 1, "hostChecks": CHECKS}
    training = Training(release, "small", "hurt", STEPS, resilience, CHECKPOINTS)
    training.apply()
    training.until_step(1, deadline_s=600)
    yield training
    training.delete()


@dataclass
class Hurt:
    """One fault: the machine it hits, and what it does there."""

    training: Training
    where: Node

    @property
    def kubeconfig(self) -> Path:
        return self.where.cluster.kubeconfig


@contextlib.contextmanager
def killed_pod(hurt: Hurt) -> Iterator[None]:
    found = hurt.training.until_step(0)
    victim = found["workers"][0]["host"]
    kubectl(hurt.kubeconfig, "--namespace", hurt.training.release.namespace, "delete", "pod", victim, "--force",
            "--grace-period=0")  # fmt: skip
    yield


@contextlib.contextmanager
def killed_node(hurt: Hurt) -> Iterator[None]:
    hurt.where.kill()
    try:
        yield
    finally:
        hurt.where.start()


@contextlib.contextmanager
def frozen_node(hurt: Hurt) -> Iterator[None]:
    hurt.where.freeze()
    try:
        yield
    finally:
        hurt.where.thaw()


@contextlib.contextmanager
def stopped_agent(hurt: Hurt) -> Iterator[None]:
    """The node answers, but the agent stands still for good: its pod is replaced by the operator."""
    found = hurt.training.until_step(0)
    named = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in hurt.training.pods()}
    host = next(w["host"] for w in found["workers"] if named[w["host"]] == hurt.where.name)
    (pid,) = [pid for pid in cgroups.pids(hurt.where.machine.group) if _is_agent(pid, host)]
    os.kill(pid, signal.SIGSTOP)
    yield


def _is_agent(pid: int, host: str) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"opt_runtime.agent" in words and host.encode() in words
    return False


@contextlib.contextmanager
def cut_off_node(hurt: Hurt) -> Iterator[None]:
    hurt.where.cut_off()
    try:
        yield
    finally:
        hurt.where.heal()


@contextlib.contextmanager
def drained_node(hurt: Hurt) -> Iterator[None]:
    """The drain waits for the budget of disruptions, and ends because the operator moves the host."""
    kubectl(hurt.kubeconfig, "cordon", hurt.where.name)
    try:
        yield
        kubectl(hurt.kubeconfig, "drain", hurt.where.name, "--ignore-daemonsets", "--delete-emptydir-data",
                "--timeout=100s")  # fmt: skip
    finally:
        kubectl(hurt.kubeconfig, "uncordon", hurt.where.name)


@contextlib.contextmanager
def killed_node_without_an_operator(hurt: Hurt) -> Iterator[None]:
    """The coordinator swaps in the spare by itself; if it was on that node, the gang waits for the operator."""
    hurt.training.release.scale(0)
    hurt.where.kill()
    back = threading.Timer(AWAY_S, hurt.training.release.scale, (2,))
    back.start()
    try:
        yield
    finally:
        back.join()
        hurt.where.start()


FAULTS: dict[str, Callable[[Hurt], contextlib.AbstractContextManager[None]]] = {
    "pod killed": killed_pod,
    "agent stopped": stopped_agent,
    "node killed": killed_node,
    "node frozen": frozen_node,
    "network cut": cut_off_node,
    "node drained": drained_node,
    "node killed while no operator runs for two minutes": killed_node_without_an_operator,
}


def victim(training: Training) -> Node:
    """A node that a gang's host is on, and neither operator nor store; best without the coordinator."""
    coordinators = (pod for pod in training.pods() if pod["metadata"]["labels"][ROLE] == "coordinator")
    busy = [pod["spec"].get("nodeName", "") for pod in coordinators]
    try:
        name = training.node_of_a_worker(SYSTEM_NODE, *busy)
    except StopIteration:
        name = training.node_of_a_worker(SYSTEM_NODE)
    return training.release.cluster.node(int(name.rpartition("-")[2]))


def test_a_killed_worker_is_started_again_in_place(hurt: Training):
    attempt = hurt.until_whole()["attempt"]
    hurt.kill_worker(1)
    seconds, before, after = hurt.until_recovered(attempt)
    print(json.dumps({"fault": "worker killed", "seconds": round(seconds, 1), "before": before, "after": after}))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_gang_steps_on(fault: str, hurt: Training):
    attempt = hurt.until_whole()["attempt"]
    where = victim(hurt)
    began = time.monotonic()
    with FAULTS[fault](Hurt(hurt, where)):
        _, before, after = hurt.until_recovered(attempt)
        print(json.dumps({"fault": fault, "seconds": round(time.monotonic() - began, 1), "before": before,
                          "after": after}))  # fmt: skip
    where.wait_ready()
    hurt.until_whole()


def test_a_dead_kubelet_stops_nobody(hurt: Training):
    """Its node is not heard of, but its agent is: one source is not enough."""
    before = hurt.until_whole()
    where = victim(hurt)
    machine = where.machine
    machine.stop_service("kubelet")
    try:
        machine.kill_service("kubelet")
        where.wait_not_ready()
        later = hurt.until_step(before["step"] + 20)
    finally:
        services = node.services(machine, where.number, where.cluster.addresses, LABELS)
        machine.serve(*(service for service in services if service.name == "kubelet"))
    where.wait_ready()
    assert later["attempt"] == before["attempt"]


def test_two_nodes_lost_with_one_spare(hurt: Training):
    """One is swapped; for the second there is none, and a smaller gang goes on until hosts are back."""
    attempt = hurt.until_whole()["attempt"]
    nodes = [hurt.release.cluster.node(number) for number in (2, 3)]
    for one in nodes:
        one.kill()
    try:
        hurt.until_recovered(attempt)
        hosts = {worker["host"] for worker in hurt.until_step(0)["workers"]}
        assert len(hosts) == 1
    finally:
        for one in nodes:
            one.start()
    for one in nodes:
        one.wait_ready()
    hurt.until_whole(400)


def test_a_store_that_is_away_for_a_minute_stops_no_step(hurt: Training):
    """Steps are asked of the coordinator, and one that is made meanwhile waits for the store."""
    before = hurt.until_settled()
    programs = [pid for pid in cgroups.pids(hurt.release.cluster.node(1).machine.group) if _is_store(pid)]
    assert programs
    for pid in programs:
        os.kill(pid, signal.SIGSTOP)
    began, step = time.monotonic(), before["step"]
    try:
        while time.monotonic() - began < 60:
            step = hurt.until_step(step + 1)["step"]
            time.sleep(1)
    finally:
        for pid in programs:
            os.kill(pid, signal.SIGCONT)
    later = hurt.until_step(step + 1)
    assert later["attempt"] == before["attempt"]


def _is_store(pid: int) -> bool:
    return b"weed" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_deleted_whole_and_applied_again_it_goes_on(hurt: Training):
    step, verified = hurt.until_whole()["step"], hurt.status()["checkpoint"]["step"]
    history = hurt.causes()
    hurt.delete()
    hurt.apply()
    found = hurt.until_step(1, deadline_s=400)
    assert found["step"] >= verified
    assert hurt.causes()[: len(history)] == history
    print(json.dumps({"fault": "deleted and applied", "before": step, "verified": verified, "after": found["step"]}))


def test_it_is_what_an_undisturbed_one_is(hurt: Training, expected: dict[int, tuple[float | None, list[str]]]):
    hurt.until_step(COMPARED + 100, deadline_s=900)
    found = hurt.result()
    common = sorted(set(found) & set(expected))
    assert any(step >= COMPARED for step in common)
    whole = [step for step in common if step <= _first_smaller_gang(hurt)]
    assert {step: found[step] for step in whole} == {step: expected[step] for step in whole}
    for step in common:
        assert found[step][0] == pytest.approx(expected[step][0], rel=1e-3)
    entries = hurt.entries()
    print(
        json.dumps([{key: e.get(key) for key in ("cause", "rung", "fromStep", "toStep", "stepsLost")} for e in entries])
    )
    assert all(e.get("stepsLost", 0) <= 1 for e in entries if e.get("rung") in (1, 2))


def _first_smaller_gang(training: Training) -> int:
    """The last step before a gang of another size: from there on sums are made in another order."""
    return min((e["fromStep"] or 0 for e in training.entries() if e.get("rung") == 4), default=STEPS)
