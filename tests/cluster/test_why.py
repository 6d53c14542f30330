"""`kubectl opt why` on a real API server: decisions on a training and on a served model of one name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optcluster import programs
from optcluster.api import Api
from optcluster.cluster import Cluster

pytestmark = pytest.mark.cluster


def keep(api: Api, namespace: str, name: str, *decisions: dict[str, Any]) -> None:
    """As the operator keeps them."""
    document = {"metadata": {"name": name}, "data": {"decisions": json.dumps(decisions)}}
    api.create(f"/api/v1/namespaces/{namespace}/configmaps", document)


def decision(time: str, rule: str) -> dict[str, Any]:
    """One as it is kept."""
    return {"time": time, "rule": rule, "phase": "Running", "podAttempt": 1, "seen": ["pods 2"], "done": [], "by": "a"}


def why(cluster: Cluster, namespace: str, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The command, with kubectl where it is found."""
    kubectl = programs.find("kubectl")
    variables = {
        **os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{kubectl.parent}:{os.environ['PATH']}"
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("optctl")), "why", name, "--namespace", namespace, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=60)


def test_decisions_of_a_training_and_of_a_served_model_are_told_in_their_order(cluster: Cluster, namespace: str):
    keep(
        cluster.api,
        namespace,
        "run-why",
        decision("2026-01-01T00:00:01Z", "start"),
        decision("2026-01-01T00:00:03Z", "run"),
    )
    told = why(cluster, namespace, "run")
    assert told.returncode == 0, told.stderr
    assert "start  phase Running" in told.stdout
    assert "did   nothing" in told.stdout
    keep(cluster.api, namespace, "run-why-serve", decision("2026-01-01T00:00:02Z", "roll"))
    both = json.loads(why(cluster, namespace, "run", "--json").stdout)
    assert [one["rule"] for one in both] == ["start", "roll", "run"]
    alone = json.loads(why(cluster, namespace, "run", "--json", "--last", "1").stdout)
    assert [one["rule"] for one in alone] == ["run"]


def test_a_name_of_which_nothing_is_kept_is_said(cluster: Cluster, namespace: str):
    told = why(cluster, namespace, "no-such")
    assert told.returncode == 1
    assert "'no-such': no decisions are kept" in told.stderr
    assert "no-such-why-serve" in told.stderr
