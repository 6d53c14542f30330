"""Every object of a served model: pods pass Pod Security `restricted`, names fit, revisions follow what matters."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from opt_api.resources import OPTServe
from opt_api.serving.status import ServedCheckpoint
from opt_api.storage import S3Storage, StorageSpec
from opt_operator.core.builders.common import Parent
from opt_operator.core.serving.builders import gate, gateway, replicas, vllm
from opt_operator.core.serving.builders.common import Blueprint, Revision
from opt_operator.core.serving.builders.surroundings import surroundings
from support.opmodel.serve_scenarios import document

pytestmark = pytest.mark.unit
STORE = StorageSpec(s3=S3Storage(endpoint="http://store:9000", bucket="bucket", credentials_secret="login"))
CHECKPOINT = ServedCheckpoint(step=7, digest="sha256:" + "7" * 64, uri="s3://bucket/7/export")
KEYS = {"access": {"apiKeysSecret": "keys", "chatTemplateConfigMap": "chat"}}
VLLM = {"engine": {"name": "vllm", "device": "cuda", "weights": "bfloat16", "tensorParallel": 2,
                   "devicesPerReplica": 4, "maxSequenceLength": 2048, "kvCacheBytes": 1 << 30}}  # fmt: skip
HOSTS = {"engine": {**VLLM["engine"], "hostsPerReplica": 2}}


def blueprint(name: str = "model", **spec: Any) -> Blueprint:
    serve = OPTServe.model_validate(document(**copy.deepcopy(spec)))
    parent = Parent(name, "team", "uid", serve.spec.pods, "OPTServe")
    return Blueprint(parent, serve, "registry/serving:1", "registry/engine:1", STORE)


def pods(**spec: Any) -> dict[str, dict[str, Any]]:
    made = blueprint(**spec)
    revision = Revision("abc", CHECKPOINT)
    judged = gate.job(made, 3, current=CHECKPOINT.digest, loss="2.5", rejected=["sha256:r"], keep=["sha256:k"])
    return {
        "replica": replicas.workload(made, revision, 2)["spec"]["template"],
        "gateway": gateway.deployment(made)["spec"]["template"],
        "gate": judged["spec"]["template"],
    }


def group(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = replicas.workload(blueprint(**spec), Revision("abc", CHECKPOINT), 2)
    return found


EVERY = [(f"{kind} {name}", found) for name, spec in (("native", KEYS), ("vllm", {**KEYS, **VLLM}))
         for kind, found in pods(**spec).items()]  # fmt: skip
EVERY += [(role, group(**KEYS, **HOSTS)["spec"]["leaderWorkerTemplate"][role])
          for role in ("leaderTemplate", "workerTemplate")]  # fmt: skip


@pytest.mark.parametrize(("name", "template"), EVERY, ids=[name for name, _ in EVERY])
def test_it_is_restricted(name: str, template: dict[str, Any]) -> None:
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not {"serviceAccountName", "hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    kinds = {"configMap", "downwardAPI", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= kinds for volume in spec["volumes"])
    volumes = {volume["name"] for volume in spec["volumes"]}
    for one in [*spec.get("initContainers", []), *spec["containers"]]:
        inner = one["securityContext"]
        assert inner["capabilities"] == {"drop": ["ALL"]}
        assert inner["allowPrivilegeEscalation"] is False
        assert inner["readOnlyRootFilesystem"] is True
        assert one["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes


def test_a_replica_is_told_what_the_spec_says() -> None:
    made = blueprint(
        **KEYS, modelName="opt/tiny", limits={"maxQueue": 5}, rollout={"drainSeconds": 60},
        pods={"resources": {"cpu": "2500m"}}, engine={"tensorParallel": 2, "devicesPerReplica": 2},
    )  # fmt: skip
    template = replicas.workload(made, Revision("abc", CHECKPOINT), 1)["spec"]["template"]
    (main,) = template["spec"]["containers"]
    told = dict(zip(main["command"][3::2], main["command"][4::2], strict=True))
    assert main["command"][:3] == ["optctl", "serve", CHECKPOINT.uri]
    assert (told["--model-name"], told["--threads"], told["--max-queue"]) == ("opt/tiny", "2", "5")
    assert told["--tensor-parallel"] == "2"
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert (told["--drain"], told["--api-keys"], told["--chat-template"]) == (
        "60", "/etc/opt-keys/keys", "/etc/opt-chat/template",
    )  # fmt: skip
    assert template["spec"]["terminationGracePeriodSeconds"] > 60
    assert main["readinessProbe"]["httpGet"]["path"] == "/health"
    values = {item["name"]: item.get("value") for item in main["env"]}
    assert values["OPT_SERVE_INSTANCE"] == "team/model/abc"
    assert template["metadata"]["labels"]["opt-operator.io/step"] == "7"


def test_a_flag_is_given_where_the_spec_asks_for_it() -> None:
    given = [
        replicas.workload(blueprint(engine=engine), Revision("abc", CHECKPOINT), 1)["spec"]["template"]["spec"]
        for engine in ({}, {"kvCachePretouch": True, "prefillChunkSeconds": 2.5})
    ]
    plain, asked = (one["containers"][0]["command"] for one in given)
    assert [part for part in asked if part not in plain] == ["2.5", "--kv-cache-pretouch"]


def test_vllm_gets_its_own_words() -> None:
    made = blueprint(**VLLM)
    spec = replicas.workload(made, Revision("abc", CHECKPOINT), 1)["spec"]["template"]["spec"]
    (main,), (fetch,) = spec["containers"], spec["initContainers"]
    assert (main["image"], fetch["image"]) == ("registry/engine:1", "registry/serving:1")
    assert main["command"][:3] == ["vllm", "serve", vllm.FOLDER]
    told = dict(zip(main["command"][3::2], main["command"][4::2], strict=True))
    assert told["--tensor-parallel-size"] == "2"
    assert told["--data-parallel-size"] == "2"
    assert told["--max-model-len"] == "2048"
    assert told["--served-model-name"] == "model"
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert fetch["command"][-2:] == [CHECKPOINT.uri, vllm.FOLDER]
    assert main["lifecycle"]["preStop"]["exec"]["command"][-1] == "30"


def test_a_replica_over_hosts_is_a_group_of_pods() -> None:
    made = group(**KEYS, **HOSTS)
    assert (made["kind"], made["apiVersion"]) == ("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1")
    found = made["spec"]["leaderWorkerTemplate"]
    assert (made["spec"]["replicas"], found["size"]) == (2, 2)
    assert found["restartPolicy"] == "RecreateGroupOnPodRestart"
    roles = [found[kind]["metadata"]["labels"]["opt-operator.io/role"] for kind in ("leaderTemplate", "workerTemplate")]
    assert roles == ["replica", "worker"]
    first, other = (found[kind]["spec"]["containers"][0] for kind in ("leaderTemplate", "workerTemplate"))
    assert other["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert not {"ports", "readinessProbe", "startupProbe", "livenessProbe"} & set(other)
    assert "--api-key" not in str(other)
    assert other["command"][-1] == "--headless"
    place = dict(zip(first["command"][-10::2], first["command"][-9::2], strict=True))
    assert place == {
        "--nnodes": "2", "--node-rank": "0", "--master-addr": "$(LWS_LEADER_ADDRESS)", "--master-port": "29501",
        "--distributed-executor-backend": "mp",
    }  # fmt: skip
    told = [part for part in other["command"] if part not in ("--headless", "$(LWS_WORKER_INDEX)")]
    assert told == ["vllm", "serve", *(p for p in first["command"][first["command"].index(vllm.FOLDER) :] if p != "0")]
    assert "--pipeline-parallel-size" in told
    assert "--data-parallel-size" not in told


def test_only_hosts_of_replicas_reach_all_ports_of_each_other() -> None:
    policies = {
        d["metadata"]["name"]: d["spec"] for d, _ in surroundings(blueprint(**HOSTS)) if d["kind"] == "NetworkPolicy"
    }
    for role in ("replica", "worker"):
        (inward,) = [rule for rule in policies[f"model-serve-{role}"]["ingress"] if "ports" not in rule]
        selected = [one["podSelector"]["matchLabels"]["opt-operator.io/role"] for one in inward["from"]]
        assert selected == ["replica", "worker"]
    assert "model-serve-worker" not in str(surroundings(blueprint(**VLLM)))


def test_keys_are_in_no_object() -> None:
    text = json.dumps([found for _, found in EVERY])
    assert "--api-key " not in text.replace("--api-key $(cat", "")


def test_only_what_is_served_makes_another_revision() -> None:
    base = replicas.revision_of(blueprint(), CHECKPOINT)
    assert base == replicas.revision_of(blueprint(replicas=7, autoscaling={"maxReplicas": 9}), CHECKPOINT)
    assert base == replicas.revision_of(blueprint(), CHECKPOINT.model_copy(update={"loss": "2.0", "revision": "x"}))
    others = [
        replicas.revision_of(blueprint(limits={"maxQueue": 1}), CHECKPOINT),
        replicas.revision_of(blueprint(pods={"env": [{"name": "A", "value": "1"}]}), CHECKPOINT),
        replicas.revision_of(blueprint(), CHECKPOINT.model_copy(update={"uri": "s3://bucket/8/export"})),
    ]
    assert len({base, *others}) == 4


def test_clients_reach_gateways_and_only_these_reach_replicas() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d, _ in surroundings(blueprint()) if d["kind"] == "NetworkPolicy"}
    inside = policies["model-serve-replica"]["ingress"]
    assert inside[0]["from"][0]["podSelector"]["matchLabels"]["opt-operator.io/role"] == "gateway"
    assert policies["model-serve-gate"]["ingress"] == []
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())
    assert not any(port["port"] == 9000 for rule in policies["model-serve-gateway"]["egress"] for port in rule["ports"])


def test_names_fit() -> None:
    made = blueprint("a" * 40)
    revision = Revision(replicas.revision_of(made, CHECKPOINT), CHECKPOINT)
    documents = [
        replicas.workload(made, revision, 1), gateway.deployment(made), gateway.routes_map(made, ""),
        gate.job(made, 99_999, current=None, loss=None, rejected=(), keep=()), *(d for d, _ in surroundings(made)),
    ]  # fmt: skip
    assert all(len(document["metadata"]["name"]) <= 63 for document in documents)
    assert len({(d["kind"], d["metadata"]["name"]) for d in documents}) == len(documents)
