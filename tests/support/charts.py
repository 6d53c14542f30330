"""Helm and kubeconform on the chart of this checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from optcluster import programs
from optcluster.api import Api, Object
from optcluster.paths import SOURCE_ROOT

CHART = SOURCE_ROOT / "charts" / "opt-operator"
NAMESPACE = "opt-system"
EVERYTHING = {
    "evaluationStore": {"enabled": True, "persistence": {"enabled": True, "storageClassName": "fast"}},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"team": "training"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "images": {"pullSecrets": ["registry"], "digests": {"operator": "sha256:" + "a" * 64}},
    "priorityClassName": "high",
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "one-namespace": {"watch": {"allNamespaces": False}, "rbac": {"nodes": False, "aggregate": False},
                      "admissionPolicy": {"enabled": False}, "crds": {"enabled": False}, "replicas": 1},
    "three-namespaces": {"watch": {"allNamespaces": False, "namespaces": ["team-a", "team-b", "team-a", "team-c"]}},
    "delete-definitions": {"crds": {"keep": False}},
    "other-store": {"evaluationStore": {"enabled": True, "image": "registry.example/minio:1", "command": ["minio"],
                                        "args": ["server", "--address", ":9000", "/data"],
                                        "env": [{"name": "MINIO_ROOT_USER", "value": "$(ACCESS_KEY)"}]}},
}  # fmt: skip


HELMS = ("helm", "helm3")
"""Helm 4 and Helm 3."""


def helm(*arguments: str | Path, given: str | None = None, kubeconfig: Path | None = None, by: str = "helm") -> str:
    """Runs helm and returns what it printed.

    Raises:
        AssertionError: it failed; the message holds what it said.
    """
    done = run_helm(*arguments, given=given, kubeconfig=kubeconfig, by=by)
    assert done.returncode == 0, f"helm {' '.join(map(str, arguments))}: {done.stderr}{done.stdout}"
    return done.stdout


def run_helm(
    *arguments: str | Path, given: str | None = None, kubeconfig: Path | None = None, by: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Runs helm, whatever comes of it."""
    command = [str(programs.find(by)), *map(str, arguments)]
    command += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=300)


def rendered(values: dict[str, Any], by: str = "helm") -> list[Object]:
    """Every object of the chart with these values."""
    # Helm built from its module takes the cluster for Kubernetes 1.20 where it is not told
    place = ["--namespace", NAMESPACE, "--kube-version", "1.37.0", "--values", "-"]
    text = helm("template", "opt", CHART, *place, given=yaml.safe_dump(values), by=by)
    return [document for document in yaml.safe_load_all(text) if document]


def forget_definitions(api: Api) -> None:
    """Deletes the definitions that an earlier release kept: they are its own, and no other release may take them."""
    for name in ("opttrainings", "optserves"):
        api.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.opt-operator.io")


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [one for one in objects if one["kind"] in kinds]
