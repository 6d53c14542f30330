"""A served model under a release of the chart: what a user does, what clients do, and what is asked of it in tests."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from optcluster.api import Object
from optcluster.wait import wait_for
from support.cluster import describe_pod
from support.operator_run import GROUP, ROLE, Release

SERVE = "opt-operator.io/serve"
PATIENCE_S = 60.0
"""Of a client: a gateway that goes with its machine closes no connection."""


@dataclass
class Serve:
    """One OPTServe that follows a training."""

    release: Release
    name: str
    training: str
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> Object:
        """The resource as a user writes it."""
        spec = {
            "source": {"training": {"name": self.training}},
            "modelName": "tiny",
            "engine": {"device": "cpu", "weights": "float32", "maxSequences": 8},
            "rollout": {"gate": {"maxLossIncreaseRatio": 0.5, "sequences": 4}, "canaryPercent": 20, "canarySeconds": 3,
                        "drainSeconds": 60},
            "pods": {"resources": {"cpu": "300m", "memory": "1Gi", "ephemeralStorage": "1Gi", "sharedMemory": "64Mi"}},
            **self.spec,
        }  # fmt: skip
        metadata = {"name": self.name, "namespace": self.release.namespace}
        return {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTServe", "metadata": metadata, "spec": spec}

    @property
    def path(self) -> str:
        """Of the resource in the API."""
        return f"{GROUP}/namespaces/{self.release.namespace}/optserves/{self.name}"

    def apply(self) -> None:
        """`kubectl apply`."""
        self.release.cluster.api.apply(self.document)

    def delete(self) -> None:
        """`kubectl delete`; waits until nothing of it is left in the cluster."""
        self.release.cluster.api.delete(self.path)
        wait_for(lambda: not self.pods(), 120, f"no pod of {self.name}", self.describe)

    def status(self) -> dict[str, Any]:
        """Of the resource."""
        found: dict[str, Any] = self.release.cluster.api.get(self.path).get("status") or {}
        return found

    def pods(self, role: str = "") -> list[Object]:
        """Its pods that are not on their way out."""
        selector = f"{SERVE}={self.name}" + (f",{ROLE}={role}" if role else "")
        path = f"/api/v1/namespaces/{self.release.namespace}/pods"
        found = self.release.cluster.api.items(path, labelSelector=selector)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    @property
    def url(self) -> str:
        """The gateways' Service at its address."""
        core = f"/api/v1/namespaces/{self.release.namespace}/services/{self.name}-gateway"
        return f"http://{self.release.cluster.api.get(core)['spec']['clusterIP']}:8000"

    def served(self) -> int | None:
        """Step of what is served."""
        found: int | None = self.status().get("served", {}).get("step")
        return found

    def until_served_after(self, step: int, deadline_s: float = 400) -> int:
        """Waits until a later checkpoint is served by all replicas."""

        def later() -> int | None:
            status = self.status()
            found: int | None = status.get("served", {}).get("step")
            settled = status.get("phase") == "Serving" and not status.get("roll")
            return found if settled and found is not None and found > step else None

        found = wait_for(later, deadline_s, f"{self.name} serves a step after {step}", self.describe)
        assert found is not None
        return found

    def until_phase(self, *phases: str, deadline_s: float = 300) -> dict[str, Any]:
        """Waits until the resource's status says so."""
        wait_for(lambda: self.status().get("phase") in phases, deadline_s, f"{self.name} {phases}", self.describe)
        return self.status()

    def describe(self) -> str:
        """Everything that explains a failure."""
        path = f"/api/v1/namespaces/{self.release.namespace}/pods"
        told = [json.dumps(self.status(), indent=1)[:4000]]
        for pod in self.pods():
            name = pod["metadata"]["name"]
            told.append(f"--- {name} on {pod['spec'].get('nodeName')}")
            told.append(describe_pod(self.release.cluster.api, f"{path}/{name}"))
        return "\n".join([*told, "--- operator", self.release.log()])


class Clients:
    """Clients that ask without a pause, half of them for streams; each answer is judged.

    A connection that does not come about is tried again twice, as OpenAI's client does: nothing was sent by then.
    """

    def __init__(self, url: str, count: int = 3) -> None:
        self.count = count
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def good(self) -> bool:
        """Whether every answer was whole."""
        return not self.broken and set(self.statuses) == {200}

    def _ask(self, stream: bool) -> None:
        body = {"prompt": [5, 6, 7], "max_tokens": 12, "ignore_eos": True, "temperature": 0, "stream": stream}
        retry = Retry(total=None, connect=2, read=False, redirect=0, status=0, other=0, backoff_factor=0.5)
        while not self._stop.is_set():
            try:
                with requests.Session() as session:  # a new connection for each request
                    session.mount("http://", HTTPAdapter(max_retries=retry))
                    answer = session.post(f"{self._url}/v1/completions", json=body, timeout=(5, PATIENCE_S))
            except requests.RequestException as fault:
                self.broken.append(repr(fault)[:300])
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code != 200 or (stream and not answer.text.endswith("data: [DONE]\n\n")):
                self.broken.append(f"{answer.status_code} {answer.text[-300:]}")
            self._stop.wait(0.05)
