"""What the operator's account may do in a real cluster: its rights, and the admission policy as a belt."""

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opt_api.parsing import parse_mapping
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from optcluster import programs
from optcluster.api import Object
from optcluster.cluster import Cluster
from support.charts import CHART, forget_definitions, helm
from support.cluster import fresh_namespace
from support.made_objects import built, documents

pytestmark = pytest.mark.cluster

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The operator's service account of a release whose operator does not run."""
    values = tmp_path_factory.mktemp("release") / "values.yaml"
    values.write_text(yaml.safe_dump({"replicas": 1, "nodeSelector": {"no": "node"}}))
    forget_definitions(cluster.api)
    with fresh_namespace(cluster.api) as system:
        helm("install", "opt", CHART, "--namespace", system, "--values", values, kubeconfig=cluster.kubeconfig)
        yield f"system:serviceaccount:{system}:opt"
        helm("uninstall", "opt", "--namespace", system, "--wait", kubeconfig=cluster.kubeconfig)


@pytest.fixture(scope="module")
def open_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that lets any pod in: what is refused here, our policy refuses."""
    with fresh_namespace(cluster.api, "privileged") as name:
        yield name


def made(namespace: str) -> dict[str, Object]:
    """The pods and Jobs of a training."""
    training = parse_mapping(documents()["s3"])
    assert isinstance(training, OPTTraining)
    found = {}
    for one in built(training, resolve(training)):
        one["metadata"]["namespace"] = namespace
        found[f"{one['kind']}/{one['metadata']['name']}"] = one
    return found


def as_operator(cluster: Cluster, account: str, document: Object) -> subprocess.CompletedProcess[str]:
    """The API server's word on an object from the operator, without making it."""
    command = [str(programs.find("kubectl")), f"--kubeconfig={cluster.kubeconfig}", f"--as={account}", "create",
               "--dry-run=server", "--filename=-"]  # fmt: skip
    given = json.dumps(document)
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)


def test_everything_that_the_operator_makes_is_let_in(cluster: Cluster, account: str, namespace: str):
    for name, document in made(namespace).items():
        done = as_operator(cluster, account, document)
        assert done.returncode == 0, f"{name}: {done.stderr}"


def volume(**source: Any) -> Change:
    return lambda pod: pod["volumes"].append({"name": "bad", **source})


def first(**fields: Any) -> Change:
    return lambda pod: pod["containers"][0].update(fields)


def security(**fields: Any) -> Change:
    return lambda pod: pod["containers"][0]["securityContext"].update(fields)


def top(**fields: Any) -> Change:
    return lambda pod: pod.update(fields)


TOKEN = {"sources": [{"serviceAccountToken": {"path": "token"}}]}
ATTACKS: dict[str, tuple[Change, str]] = {
    "token": (top(automountServiceAccountToken=True), "API token"),
    "token in a volume": (volume(projected=TOKEN), "a volume is neither"),
    "account": (top(serviceAccountName="admin"), "service account"),
    "host path": (volume(hostPath={"path": "/"}), "a volume is neither"),
    "host network": (top(hostNetwork=True), "name space of the node"),
    "host processes": (top(hostPID=True), "name space of the node"),
    "host memory": (top(hostIPC=True), "name space of the node"),
    "priority": (top(priorityClassName="system-node-critical"), "priority of the system"),
    "root": (lambda pod: pod["securityContext"].update(runAsUser=0, runAsNonRoot=False), "run as root"),
    "root in a container": (security(runAsUser=0, runAsNonRoot=False), "a container is privileged"),
    "privileged": (security(privileged=True, allowPrivilegeEscalation=True), "a container is privileged"),
    "capability": (security(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "a container is privileged"),
    "writable root": (security(readOnlyRootFilesystem=False), "a container is privileged"),
    "host port": (first(ports=[{"containerPort": 80, "hostPort": 80}]), "port of the node"),
}


@pytest.mark.parametrize("kind", ["Pod", "Job"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_fooled_operator_is_stopped(attack: str, kind: str, cluster: Cluster, account: str, open_namespace: str):
    change, word = ATTACKS[attack]
    document = copy.deepcopy(next(one for one in made(open_namespace).values() if one["kind"] == kind))
    change(document["spec"] if kind == "Pod" else document["spec"]["template"]["spec"])
    done = as_operator(cluster, account, document)
    assert done.returncode != 0
    assert word in done.stderr


@pytest.mark.parametrize("part", ["labels", "ownerReferences"])
def test_it_makes_nothing_but_what_belongs_to_a_training(
    part: str, cluster: Cluster, account: str, open_namespace: str
):
    document = copy.deepcopy(next(one for one in made(open_namespace).values() if one["kind"] == "Pod"))
    document["metadata"].pop(part)
    done = as_operator(cluster, account, document)
    assert done.returncode != 0
    assert "opt-operator may not create this" in done.stderr


def test_its_rights_reach_no_secret_and_no_right(cluster: Cluster, account: str, namespace: str):
    def may(verb: str, resource: str, group: str = "", sub: str = "", space: str = namespace) -> bool:
        asked = {"verb": verb, "resource": resource, "group": group, "subresource": sub, "namespace": space}
        review = {"user": account, "groups": ["system:serviceaccounts"], "resourceAttributes": asked}
        answer = cluster.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": review})
        return bool(answer["status"]["allowed"])

    assert may("create", "pods")
    assert may("list", "nodes", space="")
    for space in (namespace, "kube-system", account.split(":")[2]):
        assert not any(
            may(verb, "secrets", space=space) for verb in ("get", "list", "watch", "create", "patch", "delete")
        )
        assert not may("create", "pods", sub="exec", space=space)
        assert not may("create", "serviceaccounts", sub="token", space=space)
        assert not may("create", "rolebindings", "rbac.authorization.k8s.io", space=space)
        assert not may("patch", "daemonsets", "apps", space=space)
    assert not any(may(verb, "nodes", space="") for verb in ("delete", "update"))
    assert not may("impersonate", "users", space="")
    assert not may("patch", "validatingadmissionpolicies", "admissionregistration.k8s.io", space="")


NODE_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "our taint": ({"spec": {"taints": [{"key": "opt-operator.io/quarantined", "effect": "NoSchedule"}]}}, ""),
    "our annotation": ({"metadata": {"annotations": {"opt-operator.io/quarantined-by": "a/b"}}}, ""),
    "another taint": ({"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}}, "a taint of another key"),
    "labels": ({"metadata": {"labels": {"pool": "mine"}}}, "labels"),
    "cordon": ({"spec": {"unschedulable": True}}, "whether it is cordoned"),
    "annotation": ({"metadata": {"annotations": {"mine": "1"}}}, "annotations that are not ours"),
}


@pytest.mark.parametrize("change", NODE_CHANGES)
def test_of_a_node_it_may_change_its_own_taint_and_nothing_else(change: str, cluster: Cluster, account: str):
    patch, word = copy.deepcopy(NODE_CHANGES[change])
    if "taints" in patch.get("spec", {}):  # the list is replaced whole
        patch["spec"]["taints"] += cluster.api.get("/api/v1/nodes/node-1")["spec"].get("taints", [])
    command = [str(programs.find("kubectl")), f"--kubeconfig={cluster.kubeconfig}", f"--as={account}", "patch",
               "node", "node-1", "--type=merge", "--dry-run=server", f"--patch={json.dumps(patch)}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) == (not word), done.stderr
    assert word in done.stderr


def test_definitions_refuse_what_the_models_refuse(cluster: Cluster, account: str, namespace: str, tmp_path: Path):
    """The same belts hold for whoever goes past our own tools: the API server knows the fields."""
    document = documents()["s3"]
    document["metadata"]["namespace"] = namespace
    good = copy.deepcopy(document)
    assert cluster.api.apply(good)[0]["metadata"]["name"] == "quickstart"
    bad = copy.deepcopy(document)
    bad["spec"]["pods"]["env"] = [{"name": "LD_PRELOAD", "value": "/tmp/x.so"}]
    bad["metadata"]["name"] = "bad"
    with pytest.raises(Exception, match="must not start with"):
        cluster.api.apply(bad)
    cluster.api.delete(f"/apis/opt-operator.io/v1alpha1/namespaces/{namespace}/opttrainings/quickstart")
