"""Attacks through every field of the spec: refused, or without effect on anything but the value that was meant."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from opt_api.parsing import parse_mapping
from opt_api.problems import Problems
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from support.made_objects import NAMESPACE, built, documents
from support.specs import Place, minimal

pytestmark = pytest.mark.integration

ATTACKS = (
    "../../../etc/shadow",
    "/etc/kubernetes/admin.conf",
    "; cat /var/run/secrets/kubernetes.io/serviceaccount/token",
    "$(cat /proc/1/environ)",
    "$(OPT_HARDWARE)",
    "`id`",
    "x\n  hostNetwork: true",
    "--listen=0.0.0.0:1",
    "-c",
    "kube-system/admin-token",
    "file:///proc/self/environ",
    "http://169.254.169.254/latest/meta-data",
    "http://user:word@store:9000",
    "s3://bucket/../other",
    "system:masters",
    "a" * 5000,
    "{{ .Values }}",
    "é\u202e\u0000",
)
ALLOWED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected"}
FOREIGN = {
    "serviceAccountName", "serviceAccount", "hostNetwork", "hostPID", "hostIPC", "hostUsers", "nodeName",
    "shareProcessNamespace", "runtimeClassName", "schedulerName", "priority", "dnsConfig", "hostAliases",
}  # fmt: skip


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    else:
        yield place, value


def with_value(document: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    parent: Any = changed
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    return changed


def pod_spec_of(made: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = made["spec"] if made["kind"] == "Pod" else made["spec"]["template"]["spec"]
    return spec


def judge(made: list[dict[str, Any]], spec: dict[str, Any]) -> None:
    """What must hold whatever the spec says."""
    for one in made:
        assert one["metadata"]["namespace"] == NAMESPACE
        assert [owner["kind"] for owner in one["metadata"]["ownerReferences"]] == ["OPTTraining"]
    for one in made:
        if one["kind"] in ("Pod", "Job"):
            judge_pod(pod_spec_of(one), spec)
            labels = one["metadata"]["labels"]
            assert labels["app.kubernetes.io/managed-by"] == "opt-operator"
            assert "opt-operator.io/component" not in {
                **labels,
                **one["spec"].get("template", {}).get("metadata", {}).get("labels", {}),
            }


def judge_pod(pod: dict[str, Any], spec: dict[str, Any]) -> None:
    assert not FOREIGN & set(pod)
    assert pod["automountServiceAccountToken"] is False
    storage = spec.get("storage") or {}
    named = {(storage.get("s3") or {}).get("credentialsSecret")}
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= ALLOWED_VOLUMES
        for source in volume.get("projected", {}).get("sources", []):
            assert set(source) == {"secret"}
            assert source["secret"]["name"] in named
            assert {item["key"] for item in source["secret"]["items"]} <= {
                "accessKeyId",
                "secretAccessKey",
                "sessionToken",
            }
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        security = container["securityContext"]
        assert (security["privileged"], security["allowPrivilegeEscalation"]) == (False, False)
        assert security["capabilities"] == {"drop": ["ALL"]}
        ours = [entry["name"] for entry in container.get("env", [])]
        assert len(ours) == len(set(ours))
        assert all(
            "valueFrom" not in entry or set(entry["valueFrom"]) == {"fieldRef"} for entry in container.get("env", [])
        )
        assert not any("hostPort" in port for port in container.get("ports", []))
        judge_command(container["command"])


def judge_command(command: list[str]) -> None:
    """A program and a module of ours; a shell runs nothing but the one constant script."""
    if command[0] == "sh":
        assert command == ["sh", "-c", "until [ -s /etc/opt-host/hardware ]; do sleep 0.1; done"]
        return
    assert command[:2] == ["python3", "-m"]
    assert command[2].split(".")[0] in ("opt_runtime", "opt_cli")
    options = [word for word in command[3:] if word.startswith("-")]
    assert len(set(options)) == len(options)
    assert all(word.startswith("--") and "=" not in word for word in options), command


@pytest.mark.parametrize("start", documents())
def test_no_text_in_any_field_breaks_out(start: str):
    document = documents()[start]
    resolve(cast("OPTTraining", parse_mapping(document)))
    texts = [place for place, value in leaves(document["spec"]) if isinstance(value, str)]
    if start != "s3":  # the rest of the document is the same
        texts = [place for place in texts if place[0] in ("storage", "data")]
    assert texts
    taken = 0
    for place in texts:
        for attack in ATTACKS:
            hostile = with_value(document, ("spec", *place), attack)
            try:
                training = parse_mapping(hostile)
                assert isinstance(training, OPTTraining)
                plan = resolve(training)
            except Problems:
                continue
            taken += 1
            judge(built(training, plan), json.loads(training.model_dump_json(by_alias=True))["spec"])
    assert taken  # free text exists: descriptions, values of variables


@pytest.mark.parametrize("name", ATTACKS)
def test_no_name_breaks_out(name: str):
    with pytest.raises(Problems):
        parse_mapping(minimal("OPTTraining", name))


UNKNOWN = (
    ("pods", "hostNetwork"), ("pods", "serviceAccountName"), ("pods", "securityContext"), ("pods", "volumes"),
    ("pods", "command"), ("pods", "args"), ("pods", "initContainers"), ("pods", "runtimeClassName"),
    ("pods", "priorityClassName"), ("pods", "nodeName"), ("pods", "hostPath"), ("storage", "hostPath"),
    ("storage", "namespace"), ("data", "namespace"), ("parallelism", "privileged"),
)  # fmt: skip


@pytest.mark.parametrize("place", UNKNOWN, ids=".".join)
def test_fields_that_would_break_out_do_not_exist(place: tuple[str, str]):
    document = minimal("OPTTraining")
    document["spec"].setdefault(place[0], {})[place[1]] = "x"
    with pytest.raises(Problems, match=place[1]):
        parse_mapping(document)


@pytest.mark.parametrize(
    "name", ["OPT_RUN_STORE", "LD_PRELOAD", "PYTHONPATH", "AWS_ENDPOINT_URL", "KUBERNETES_SERVICE_HOST"]
)
def test_variables_that_steer_our_programs_are_refused(name: str):
    document = minimal("OPTTraining")
    document["spec"]["pods"] = {"env": [{"name": name, "value": "x"}]}
    with pytest.raises(Problems, match="must not start with"):
        parse_mapping(document)


@pytest.mark.parametrize("label", ["opt-operator.io/component", "opt-operator.io/role", "sub.opt-operator.io/x"])
def test_a_training_cannot_pass_for_the_operator(label: str):
    document = minimal("OPTTraining")
    document["spec"]["pods"] = {"labels": {label: "operator"}}
    with pytest.raises(Problems, match="are ours"):
        parse_mapping(document)
    (ingress,) = [rule for rule in _policy()["spec"]["ingress"] if "ports" in rule]
    assert set(ingress["from"][0]["podSelector"]["matchLabels"]) == {"opt-operator.io/component"}


def _policy() -> dict[str, Any]:
    training = parse_mapping(minimal("OPTTraining"))
    assert isinstance(training, OPTTraining)
    return next(one for one in built(training, resolve(training)) if one["kind"] == "NetworkPolicy")
