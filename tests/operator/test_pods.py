"""Every pod that is made passes Pod Security `restricted`, holds no token, and takes from the spec what it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from opt_api.documents.plan import Plan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_operator.core.builders import jobs, pods, surroundings
from opt_operator.core.builders.common import Parent
from opt_operator.core.builders.storage import store_url
from support.opmodel.scenarios import document

pytestmark = pytest.mark.unit

ALLOWED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected"}


def training(**spec: Any) -> OPTTraining:
    return OPTTraining.model_validate(document(**spec))


def every_pod(**spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    made = training(**spec)
    plan = resolve(made)
    parent = Parent("small", "team", "uid", made.spec.pods)
    yield "coordinator", pods.coordinator(parent, plan, "image", 1, "0")["spec"]
    yield "host", pods.host(parent, plan, "image", 1, 0, "s3://b/manifest.json", pods.Placement({"n1"}))["spec"]
    yield "plan", jobs.plan_job(parent, plan, "image", 1)["spec"]["template"]["spec"]
    yield "stage", jobs.stage_job(parent, plan, "image", "read", 1, "data/1/plan.json")["spec"]["template"]["spec"]
    yield "burn-in", jobs.burn_in_job(parent, plan, "image", 1, "n1", "cloud://1")["spec"]["template"]["spec"]
    yield "evaluation", jobs.evaluation_job(parent, plan, "image", 1, "s3://b/m")["spec"]["template"]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize(("name", "spec"), list(every_pod()))
def test_it_is_restricted(name: str, spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    outer = spec["securityContext"]
    assert outer["runAsNonRoot"]
    assert outer["runAsUser"] == 65532
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= ALLOWED_VOLUMES
    for one in containers(spec):
        inner = one["securityContext"]
        assert inner["capabilities"] == {"drop": ["ALL"]}
        assert inner["allowPrivilegeEscalation"] is False
        assert inner["readOnlyRootFilesystem"] is True
        assert one["resources"]["limits"]["memory"]
        assert not any("hostPort" in port for port in one.get("ports", []))


def test_a_host_knows_how_much_of_the_disk_is_its_own() -> None:
    host = dict(every_pod(pods={"resources": {"ephemeralStorage": "3Gi"}}))["host"]
    said = {item["name"]: item.get("value") for item in host["containers"][0]["env"]}
    assert said["OPT_RUN_DISK"] == str(3 * 1024**3)
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "3Gi"}} in host["volumes"]


@pytest.mark.parametrize(("name", "spec"), list(every_pod()))
def test_no_credential_is_written_into_it(name: str, spec: dict[str, Any]) -> None:
    """The Secret is named in a volume and nowhere else."""
    text = json.dumps({**spec, "volumes": []})
    assert "keys" not in text.replace('"--', "")
    assert "SECRET_ACCESS_KEY" not in text


def test_the_user_cannot_outrank_us() -> None:
    env = [{"name": "HOME", "value": "/root"}, {"name": "MINE", "value": "1"}]
    for _, spec in every_pod(pods={"env": env}):
        for one in spec["containers"]:
            values = {item["name"]: item.get("value") for item in one.get("env", [])}
            assert values["MINE"] == "1"


def test_accelerators_and_fast_networks_are_asked_for() -> None:
    made = training(
        parallelism={"hosts": 2, "devicesPerHost": 4, "device": "cuda"},
        precision={"compute": "bfloat16"},
        pods={"networkResource": "rdma/hca"},
    )
    parent = Parent("small", "team", "uid", made.spec.pods)
    spec = pods.host(parent, resolve(made), "image", 1, 0, "s3://b/m", pods.Placement())["spec"]
    limits = spec["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "4"
    assert limits["rdma/hca"] == "1"


@pytest.mark.parametrize(
    ("storage", "url"),
    [
        ({"s3": {"endpoint": "http://s:9000", "bucket": "bucket", "prefix": "a/b"}}, "s3://bucket/a/b"),
        ({"s3": {"endpoint": "http://s:9000", "bucket": "bucket"}}, "s3://bucket"),
        ({"volume": {"claimName": "claim"}}, "file:///store"),
        ({"volume": {"claimName": "claim", "path": "x"}}, "file:///store/x"),
    ],
)
def test_where_the_store_is(storage: dict[str, Any], url: str) -> None:
    made = training(storage=storage)
    assert made.spec.storage is not None
    assert store_url(made.spec.storage) == url


def test_the_network_is_closed_but_for_what_is_needed() -> None:
    made = training()
    parent = Parent("small", "team", "uid", made.spec.pods)
    policy = surroundings.network_policy(parent, resolve(made))["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (store,) = [rule for rule in policy["egress"] if any(p["port"] == 9000 for p in rule.get("ports", []))]
    assert ["169.254.0.0/16"] in [block["ipBlock"]["except"] for block in store["to"]]


def test_the_plan_is_whole_and_cannot_change() -> None:
    plan = resolve(training())
    made = surroundings.plan_map(Parent("small", "team", "uid"), plan)
    assert made["immutable"] is True
    assert Plan.from_bytes(made["data"]["plan.json"].encode()) == plan


def test_names_fit() -> None:
    """The longest name a training may have, and numbers of a long life."""
    made = training()
    parent = Parent("a" * 40, "team", "uid")
    plan = resolve(made)
    documents = [
        pods.coordinator(parent, plan, "image", 99_999, "0"),
        pods.host(parent, plan, "image", 99_999, 16_383, "s3://b/m", pods.Placement()),
        jobs.stage_job(parent, plan, "image", "validation", 999, "key"),
        jobs.burn_in_job(parent, plan, "image", 99_999, "n" * 253, "cloud://machine"),
        surroundings.plan_map(parent, plan),
        surroundings.coordinator_service(parent, 1),
    ]
    assert all(len(document["metadata"]["name"]) <= 63 for document in documents)


def test_hosts_are_burned_in_before_they_join() -> None:
    made = training(resilience={"hostChecks": {"seconds": 7}})
    parent = Parent("small", "team", "uid", made.spec.pods)

    def command(plan: Plan, *, alone: bool) -> str:
        spec = pods.host(parent, plan, "image", 1, 0, "s3://b/m", pods.Placement(alone=alone))["spec"]
        return " ".join(spec["containers"][0]["command"])

    wanted = "--check-seconds 7 --check-with small-coordinator:7071"
    assert command(resolve(made), alone=True).endswith(wanted)
    assert command(resolve(made), alone=False).endswith(f"{wanted} --shared-machine")
    without = resolve(training(resilience={"hostChecks": {"enabled": False}}))
    assert "--check" not in command(without, alone=True)


def test_a_coordinator_begins_quickly_and_is_met_at_its_address() -> None:
    spec = dict(every_pod())["coordinator"]
    for one in containers(spec):
        resources = one["resources"]
        assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("200m", "2")
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
    (main,) = spec["containers"]
    assert "--rendezvous $(POD_IP):7071" in " ".join(main["command"])
    assert {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in main["env"]


def test_a_quarantined_machine_is_loaded_on_its_node_for_longer_and_in_spite_of_its_taint() -> None:
    made = training(resilience={"hostChecks": {"seconds": 7}})
    parent = Parent("small", "team", "uid", made.spec.pods)
    job = jobs.burn_in_job(parent, resolve(made), "image", 4, "n1", "cloud://machine-1")
    spec = job["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    assert {"key": "opt-operator.io/quarantined", "operator": "Exists"} in spec["tolerations"]
    assert "--seconds 21" in " ".join(spec["containers"][0]["command"])
    assert job["spec"]["backoffLimitPerIndex"] == 0
