"""What stands around pods, once applied to a real API server, is seen as it is wanted: nothing is applied for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from opt_api.resolve import resolve
from opt_api.resources import OPTServe, OPTTraining
from opt_operator.core.actions import Object
from opt_operator.core.builders import surroundings as training
from opt_operator.core.builders.common import Parent
from opt_operator.core.rules.surroundings import covers
from opt_operator.core.serving.builders import gateway
from opt_operator.core.serving.builders import surroundings as serving
from opt_operator.core.serving.builders.common import Blueprint
from optcluster.api import Api
from support.opmodel import scenarios, serve_scenarios

pytestmark = pytest.mark.cluster
SEVERAL_HOSTS = {"engine": serve_scenarios.TWO_HOSTS}


def of_training(namespace: str, uid: str) -> Iterator[Object]:
    made = OPTTraining.model_validate(scenarios.document())
    parent, plan = Parent("settled", namespace, uid, made.spec.pods), resolve(made)
    yield training.plan_map(parent, plan)
    yield training.coordinator_service(parent, 1)
    yield training.hosts_service(parent)
    yield training.network_policy(parent, plan)
    yield training.disruption_budget(parent)


def of_serve(namespace: str, uid: str, **spec: Any) -> Iterator[Object]:
    made = OPTServe.model_validate(serve_scenarios.document(**spec))
    storage = OPTTraining.model_validate(scenarios.document()).spec.storage
    blueprint = Blueprint(Parent("settled", namespace, uid, made.spec.pods, "OPTServe"), made, "i", "i", storage)
    yield from (document for document, _ in serving.surroundings(blueprint))
    yield gateway.routes_map(blueprint, "{}")


@pytest.mark.parametrize("kind", ["training", "serve", "serve over hosts"])
def test_what_was_applied_is_as_wanted(api: Api, namespace: str, kind: str) -> None:
    owner = api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "owner"}})
    uid = owner["metadata"]["uid"]
    more = {"serve over hosts": SEVERAL_HOSTS}.get(kind, {})
    documents = list(of_training(namespace, uid) if kind == "training" else of_serve(namespace, uid, **more))
    assert len(documents) >= 5
    for document in documents:
        document["metadata"]["ownerReferences"][0] |= {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
        api.apply(document)
        found = api.get(api.path_of(document))
        assert covers(found, document), (document, found)
