"""Fixtures and helpers for tests on a real cluster; see docs/cluster.md.

`api` is any cluster: the one that `KUBECONFIG` names, or our own. `cluster` is our own and may be broken at will, so
tests that ask for it are left out (and named) when `KUBECONFIG` names another.
"""

import contextlib
import itertools
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optcluster import lifecycle, procs, programs, role_images
from optcluster.api import Api, Object, is_true
from optcluster.cluster import Cluster
from optcluster.families import CONTROL_PLANE, EXTRAS, NODES
from optcluster.kwok import FakeNodes
from optcluster.paths import clusters_root
from optcluster.pki import Authority
from optcluster.wait import wait_for
from support.api_faults import ApiFaults

BREAKING = {"cluster", "fake_nodes", "api_faults"}  # fixtures of which each needs our own cluster
IMAGE = role_images.ROLES["trainer"].packages_image
NODES_WANTED = 3
_numbers = itertools.count(1)


def foreign_kubeconfig() -> Path | None:
    """The kubeconfig that the user set, unless it is that of a cluster of ours."""
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    first = next(iter(named), None)
    return first if first and clusters_root() not in first.absolute().parents else None


def provide_everything() -> list[Path]:
    """Builds whatever the cluster of the tests needs; returns the archives of the images its nodes start with."""
    programs.provide((*CONTROL_PLANE, *NODES, *EXTRAS))
    return role_images.archives()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three real nodes with the roles' packages. A test that breaks something mends it before it ends.

    With `OPT_CLUSTER` set, the running cluster of that name, which stays up.
    """
    if running := os.environ.get("OPT_CLUSTER"):
        yield Cluster.load(running)
        return
    made = lifecycle.up(f"test-{os.getpid()}", NODES_WANTED, procs.me(), provide_everything())
    yield made
    lifecycle.down(made)


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Api:
    """The API server as administrator: of the user's cluster or of our own."""
    foreign = foreign_kubeconfig()
    if foreign:
        return Api.from_kubeconfig(foreign)
    found: Cluster = request.getfixturevalue("cluster")
    return found.api


@contextlib.contextmanager
def fresh_namespace(api: Api, level: str = "restricted") -> Iterator[str]:
    """A namespace of its own with that level of Pod Security, deleted with all its pods in the end."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": level}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for(lambda: api.get(path), 30, f"the service account of namespace {name}")
    yield name
    for pod in api.items(f"/api/v1/namespaces/{name}/pods"):
        api.delete(f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}", grace_s=0)
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A fresh namespace with Pod Security `restricted`, deleted afterwards."""
    with fresh_namespace(api) as name:
        yield name


@pytest.fixture(scope="session")
def fake_nodes(cluster: Cluster) -> FakeNodes:
    """KWOK in the cluster of the tests."""
    nodes = FakeNodes(cluster)
    nodes.enable()
    return nodes


@pytest.fixture
def api_faults(cluster: Cluster, tmp_path: Path) -> Iterator[ApiFaults]:
    """A proxy before the API server that loses, delays and replaces answers."""
    serving = Authority(cluster.folder / "pki").pair_of("apiserver")
    with ApiFaults(cluster.kubeconfig, serving, tmp_path) as faults:
        yield faults


def pod(name: str, script: str, node: str | None = None, **metadata: Any) -> Object:
    """A pod that runs a Python script in the trainer's image without our code, as strict as what users get."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def wait_pod(
    api: Api, namespace: str, name: str, wanted: Callable[[Object], object], deadline_s: float, message: str
) -> Object:
    """Waits until the pod is as `wanted`; the failure message holds its state and the namespace's events."""
    path = f"/api/v1/namespaces/{namespace}/pods/{name}"

    def matching() -> Object | None:
        found = api.get(path)
        return found if wanted(found) else None

    found = wait_for(matching, deadline_s, f"pod {namespace}/{name} {message}", lambda: describe_pod(api, path))
    assert found is not None
    return found


def pod_is_ready(found: Object) -> bool:
    """Whether the pod is Ready."""
    return is_true(found, "Ready")


def describe_pod(api: Api, path: str) -> str:
    """State, events and last words of a pod."""
    status = api.get(path)["status"]
    states = [entry.get("state") for entry in status.get("containerStatuses", [])]
    events = api.items(f"{path.rpartition('/pods/')[0]}/events")
    told = [f"{event.get('reason')}: {event.get('message')}" for event in events[-10:]]
    with contextlib.suppress(Exception):
        told.append(api.request("GET", f"{path}/log?tailLines=20"))
    return "\n".join([f"phase {status.get('phase')}, containers {states}", *told])


def kubectl(kubeconfig: Path, *arguments: str) -> str:
    """Runs kubectl and returns what it printed.

    Raises:
        AssertionError: it failed; the message holds what it said.
    """
    command = [str(programs.find("kubectl")), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def unique(prefix: str) -> str:
    """A name that no other test of this run uses."""
    return f"{prefix}-{next(_numbers)}"
