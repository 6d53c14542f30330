"""Coordinators of a thousand trainings in one process: they answer at their pods' addresses, and train nothing.

`python coordinators.py KUBECONFIG LOST`: watches the operator's pods, and answers `GET /status` on port 7070 of each
coordinator's address with hosts that are heard while they run. LOST is a file of node names, one a line, whose agents
are silent while they stand there. What a real coordinator does is tested elsewhere; here it is the operator.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from opt_operator.core import names
from opt_operator.core.builders.pods import COORDINATOR_PORT
from opt_operator.core.views import PodView
from opt_operator.shell.kube import AioKube, ApiFault

LOOK_EVERY_S = 0.2
TOTAL_STEPS = 1_000_000
Training = tuple[str, str]


class Fleet:
    """All pods, and what their coordinators say of them."""

    def __init__(self, lost: Path) -> None:
        self._file = lost
        self._silent: dict[str, float] = {}
        self._pods: dict[Training, dict[str, PodView]] = defaultdict(dict)
        self._by_address: dict[str, PodView] = {}
        self._began = time.monotonic()

    async def watch(self, kube: AioKube) -> None:
        """Keep the pods, until cancelled."""
        while True:
            try:
                items, version = await kube.list("Pod", None, names.SELECTOR, lambda item: item)
                self._pods.clear()
                for item in items:
                    self._take("ADDED", item)
                while version:
                    async for what, item in kube.watch("Pod", None, names.SELECTOR, version):
                        version = "" if what == "ERROR" else item["metadata"]["resourceVersion"]
                        self._take(what, item)
            except ApiFault as fault:
                print(f"watch of pods: {fault}", flush=True)
                await asyncio.sleep(0.5)

    async def lose(self) -> None:
        """Note which nodes are lost, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            lost = self._file.read_text().split() if self._file.exists() else ()
            self._silent = {node: self._silent.get(node, time.monotonic()) for node in lost}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after another on a connection; a coordinator whose node is lost says nothing."""
        address = writer.get_extra_info("sockname")[0]
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-le")), 0
                )
                await reader.readexactly(length)
                pod = self._by_address.get(address)
                if pod is None or pod.spec.node_name in self._silent:
                    break
                body = json.dumps(self._status(pod) if head.startswith("GET /status") else {}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + _length(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _take(self, what: str, item: dict[str, Any]) -> None:
        if what not in ("ADDED", "MODIFIED", "DELETED"):
            return
        pod = PodView.model_validate(item)
        training = (pod.metadata.namespace, pod.metadata.labels.get(names.TRAINING, ""))
        if what == "DELETED":
            self._pods[training].pop(pod.metadata.name, None)
            self._by_address.pop(pod.status.pod_ip, None)
        else:
            self._pods[training][pod.metadata.name] = pod
            if pod.role == "coordinator" and pod.status.pod_ip:
                self._by_address[pod.status.pod_ip] = pod

    def _status(self, leader: PodView) -> dict[str, Any]:
        """Each place is held by the newest host that is heard; who is not heard holds it until somebody else does."""
        now = time.monotonic()
        mine = self._pods[leader.metadata.namespace, leader.metadata.labels[names.TRAINING]].values()
        hosts = sorted(
            (pod for pod in mine if pod.slot >= 0 and pod.status.phase == "Running"), key=lambda p: p.metadata.attempt
        )
        heard = [pod for pod in hosts if pod.spec.node_name not in self._silent]
        gang = {pod.slot: pod for pod in [*hosts, *heard]}
        silence = {pod.metadata.name: now - self._silent.get(pod.spec.node_name, now) for pod in hosts}
        step = int(now - self._began)
        return {
            "run": leader.metadata.labels[names.TRAINING],
            "phase": "running" if hosts else "none",
            "attempt": 1, "restarts": 0, "stepsLost": 0, "step": step, "totalSteps": TOTAL_STEPS,
            "loss": 3.0, "tokensPerSecond": 1e4, "ettr": 0.97, "goodput": {"productive": float(step)},
            "agents": [
                {"host": name, "hardware": name, "state": "InUse", "silentSeconds": seconds}
                for name, seconds in silence.items()
            ],
            "workers": [
                {"rank": slot, "host": pod.metadata.name, "section": "step", "step": step}
                for slot, pod in sorted(gang.items())
            ],
        }  # fmt: skip


def _length(body: bytes) -> bytes:
    return f"Content-Length: {len(body)}\r\n\r\n".encode()


async def main(kubeconfig: str, lost: Path) -> None:
    """Answer until killed."""
    kube, fleet = await AioKube.connect(kubeconfig), Fleet(lost)
    server = await asyncio.start_server(fleet.answer, "0.0.0.0", COORDINATOR_PORT)
    async with server, asyncio.TaskGroup() as group:
        group.create_task(fleet.watch(kube))
        group.create_task(fleet.lose())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
