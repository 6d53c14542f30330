"""What the operator writes: the API server takes the same statuses as our models, prints them, and scales."""

from __future__ import annotations

import json

import pytest

from opt_api.base import API_VERSION
from opt_api.parsing import parse_mapping
from opt_api.resources import KINDS
from opt_api.shapes import shape_of
from support.cluster import kubectl
from support.judges import ApiServer, disagreement, ours
from support.mutations import cases
from support.specs import full, minimal

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_a_status_is_judged_alike(kind: str, api_server: ApiServer) -> None:
    base = full(minimal(kind, "status"), "status")
    stored = api_server.store(minimal(kind, "status"))
    wrong, refusals = [], 0
    changes = [case for case in cases(shape_of(KINDS[kind]), base, "status") if case.place != ("status",)]
    for case in changes:
        changed = case.applied_to(base)
        mine, theirs = ours(changed), api_server.on_update(changed, stored, "/status")
        refusals += not mine.accepted
        if text := disagreement(mine, theirs):
            wrong.append(f"{case}: {text}")
    assert not wrong, f"{len(wrong)} of {len(changes)} disagree:\n" + "\n".join(wrong[:20])
    assert 0 < refusals < len(changes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_is_kept_as_we_write_it(kind: str, api_server: ApiServer) -> None:
    stored = api_server.store(minimal(kind, "kept"))
    status = parse_mapping(full(minimal(kind), "status")).wire()["status"]
    assert api_server.replace({**stored, "status": status}, "/status")["status"] == status


def test_columns_are_printed_from_the_status(api_server: ApiServer) -> None:
    stored = api_server.store(minimal("OPTTraining", "printed"))
    status = {
        "phase": "Running", "step": 120, "loss": "3.21", "nodes": {"summary": "15/16", "ready": 15, "wanted": 16},
        "spares": 2, "restarts": 4, "ettr": "97.3",
    }  # fmt: skip
    api_server.replace({**stored, "status": status}, "/status")
    head, row = kubectl(api_server.kubeconfig, "get", "optt", "printed").splitlines()
    assert head.split() == ["NAME", "PHASE", "STEP", "LOSS", "NODES", "SPARES", "RESTARTS", "CHECKPOINT", "ETTR", "AGE"]
    assert row.split()[:-1] == ["printed", "Running", "120", "3.21", "15/16", "2", "4", "97.3"]
    assert "printed" in kubectl(api_server.kubeconfig, "get", "opt", "-o", "name")


def test_a_served_model_scales(api_server: ApiServer) -> None:
    api_server.store(minimal("OPTServe", "scaled"))
    kubectl(api_server.kubeconfig, "scale", "opts", "scaled", "--replicas=3")
    found = json.loads(kubectl(api_server.kubeconfig, "get", "opts", "scaled", "-o", "json"))
    assert (found["apiVersion"], found["spec"]["replicas"]) == (API_VERSION, 3)
    assert parse_mapping(found).metadata.name == "scaled"


def test_a_name_too_long_for_the_names_of_its_children_is_refused(api_server: ApiServer) -> None:
    for name, accepted in (("a" * 40, True), ("a" * 41, False), ("1a", False), ("a.b", False)):
        document = minimal("OPTTraining", name)
        assert ours(document).accepted is accepted, name
        assert api_server.on_create(document).accepted is accepted, name
