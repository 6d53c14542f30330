"""A thousand trainings on a thousand fake nodes under the real operator: started, watched and hurt from here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from optcluster.api import Api, Object
from optcluster.cluster import Cluster
from optcluster.kwok import FakeNodes
from optcluster.paths import SOURCE_ROOT
from optcluster.wait import wait_for

GROUP = "/apis/opt-operator.io/v1alpha1"
NAMESPACE = "fleet"
"""Of the operators' Lease."""
TEAMS = 20
"""Namespaces that the trainings are in. In one alone, Kubernetes looks through all Services and budgets at each pod."""
FLAGS = {
    # of a control plane that has a thousand nodes to look after: the defaults are for small ones
    "kube-controller-manager": (
        "--kube-api-qps=400",
        "--kube-api-burst=800",
        "--node-monitor-grace-period=50s",
        "--node-monitor-period=5s",  # the default: it reads the Lease of every lost node each time
        # a Service of 124 hosts is computed anew for each of them that changes: once a second is enough
        "--endpoint-updates-batch-period=1s",
        "--endpointslice-updates-batch-period=1s",
    ),
    "kube-scheduler": (),
}
LEASE_S = 40
"""A kubelet's default: the short one of the tests would be five hundred writes a second."""
ROOM = {"cpu": "96", "memory": "1Ti", "ephemeral-storage": "10Ti", "pods": "110"}
POLL_S = 5.0
"""To list a thousand trainings costs the API server a second of the two processors that all share."""
CODE = [str(SOURCE_ROOT / part) for part in ("api", "operator", "tests", "hack/cluster")]


@dataclass(frozen=True)
class Size:
    """How many; every gang of `hosts` takes so many nodes, every small training one host."""

    nodes: int = 1000
    gangs: int = 8
    hosts: int = 124
    trainings: int = 1000
    doomed: int = 200

    @property
    def pods(self) -> int:
        """Hosts and coordinators."""
        return self.gangs * self.hosts + (self.trainings - self.gangs) + self.trainings


def team(number: int) -> str:
    """The namespace of the gang or of the small training of that number."""
    return f"team-{number % TEAMS}"


def training(name: str, number: int, hosts: int) -> Object:
    """A training whose data set is there already."""
    s3 = {"endpoint": "http://store.example:9000", "bucket": "bucket", "credentialsSecret": "keys"}
    spec: dict[str, Any] = {
        "model": {"preset": "custom", "layers": 2, "heads": 2, "hiddenSize": 32, "maxPositions": 32},
        "data": {"dataset": "s3://bucket/data/1/manifest.json", "sequenceLength": 32},
        "optimisation": {
            "learningRate": 1e-3,
            "batchTokens": 32 * hosts,
            "totalTokens": 32 * hosts * 10**6,
            "warmupTokens": 32 * hosts * 10,
        },
        "parallelism": {"hosts": hosts, "device": "cpu"},
        "precision": {"compute": "float32"},
        "storage": {"s3": s3},
        "resilience": {"spares": 0},
        "until": "Training",
        "pods": {"resources": {"cpu": "1", "memory": "1Gi", "ephemeralStorage": "1Gi", "sharedMemory": "64Mi"}},
    }
    metadata = {"name": name, "namespace": team(number)}
    return {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining", "metadata": metadata, "spec": spec}


@dataclass
class Operator:
    """One operator process on this machine."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def metrics(self) -> dict[str, float]:
        """Every series of `/metrics`, by name and labels; empty while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    @property
    def leads(self) -> bool:
        """Whether it holds the Lease."""
        return self.metrics().get("opt_operator_leader") == 1

    def rss_mib(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_s(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it and wait."""
        self.process.send_signal(how)
        self.process.wait(30)


@dataclass
class Fleet:
    """The cluster, its nodes and its trainings."""

    cluster: Cluster
    size: Size
    folder: Path
    operators: list[Operator] = field(default_factory=list)

    @property
    def api(self) -> Api:
        """The API server."""
        return self.cluster.api

    @property
    def lost_file(self) -> Path:
        """Where the coordinators read which nodes are lost."""
        return self.folder / "lost"

    def prepare(self) -> None:
        """Definitions, nodes in pools that can be lost one at a time, and coordinators that answer."""
        for path in sorted((SOURCE_ROOT / "crds").glob("*.yaml")):
            self.api.apply_file(path)
        for name in (NAMESPACE, *map(team, range(TEAMS))):
            self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        for pool in self.pools:
            pool.enable()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self._add, range(self.size.nodes)))
        script = str(SOURCE_ROOT / "tests" / "support" / "coordinators.py")
        config = str(self.cluster.folder / "admin.kubeconfig")
        self.pools[0].answer("coordinators", sys.executable, script, config, str(self.lost_file))
        for pool in self.pools[1:]:
            pool.lead_to_hub()

    @property
    def pools(self) -> list[FakeNodes]:
        """All nodes, in pools of those that are lost together; their pods' addresses are beyond the Services'."""
        count = self.size.nodes // self.size.doomed
        ranges = [f"{144 + 16 * number}.0/20" for number in range(count)]
        return [FakeNodes(self.cluster, f"pool-{number}", ours, LEASE_S) for number, ours in enumerate(ranges)]

    def names_of(self, pool: int) -> set[str]:
        """The nodes of a pool."""
        return {f"fake-{number}" for number in range(self.size.nodes) if number // self.size.doomed == pool}

    def start_operator(self) -> Operator:
        """Another operator; the first to come leads."""
        port, log = 9402 + 2 * len(self.operators), self.folder / f"operator-{len(self.operators)}.log"
        command = [
            sys.executable, "-m", "opt_operator", "--all-namespaces", "--kubeconfig", str(self.cluster.kubeconfig),
            "--lease-namespace", NAMESPACE, "--metrics-port", str(port), "--probe-port", str(port + 1),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(CODE)}
        with log.open("wb") as file:
            process = subprocess.Popen(command, stderr=file, stdout=file, env=environment, cwd=self.folder)
        self.operators.append(Operator(process, port, log))
        return self.operators[-1]

    def submit(self) -> None:
        """Every training, as fast as the API server takes them."""
        wanted = [training(f"gang-{n}", n, self.size.hosts) for n in range(self.size.gangs)]
        wanted += [training(f"small-{n}", n, 1) for n in range(self.size.trainings - self.size.gangs)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self._create, wanted))

    def _create(self, one: Object) -> None:
        self.api.create(f"{GROUP}/namespaces/{one['metadata']['namespace']}/opttrainings", one)

    def phases(self) -> Counter[str]:
        """How many trainings are in each phase, from the API server's memory: etcd has others to serve."""
        found = self.api.items(f"{GROUP}/opttrainings", resourceVersion="0")
        return Counter((one.get("status") or {}).get("phase", "none") for one in found)

    def until_running(self, deadline_s: float = 900) -> None:
        """Wait until every training runs."""
        wait_for(
            lambda: self.phases()["Running"] == self.size.trainings, deadline_s, "every training Running",
            lambda: f"{self.phases()}\n{self.operators[0].log.read_text()[-2000:]}", every_s=POLL_S,
        )  # fmt: skip

    def close(self) -> None:
        """End every operator."""
        for one in self.operators:
            if one.process.poll() is None:
                one.end(signal.SIGKILL)

    def _add(self, number: int) -> None:
        self.pools[number // self.size.doomed].add(f"fake-{number}", capacity=ROOM, taints=())
