"""The chart on a real cluster: installs, upgrades without touching a training, passes its own test, leaves no trace."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from optcluster import programs
from optcluster.api import Api
from optcluster.cluster import Cluster
from optcluster.wait import wait_for
from support.charts import CHART, HELMS, VALUES, forget_definitions, helm, rendered
from support.cluster import fresh_namespace
from support.evaluation_store import give_seaweedfs, store_values
from support.kubernetes_schemas import write_schemas
from support.pod_run import give_images

pytestmark = pytest.mark.cluster

SKIPPED = "CustomResourceDefinition,ServiceMonitor,PrometheusRule"
LISTED = ("clusterroles", "clusterrolebindings")
GROUPS = {
    "/apis/rbac.authorization.k8s.io/v1/": LISTED,
    "/apis/admissionregistration.k8s.io/v1/": ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    "/apis/apiextensions.k8s.io/v1/": ("customresourcedefinitions",),
}


@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_valid_for_this_api_server(name: str, cluster: Cluster, schemas: str, tmp_path: Path):
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(rendered(VALUES[name])))
    command = [programs.find("kubeconform"), "-strict", "-skip", SKIPPED, "-schema-location", schemas]
    done = subprocess.run([*command, tmp_path / "all.yaml"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def schemas(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_schemas(cluster.api, tmp_path_factory.mktemp("kubeconform") / "schemas")


@pytest.fixture
def system(cluster: Cluster) -> Iterator[str]:
    """A namespace for the operator, in which only `restricted` pods are let in."""
    give_images(cluster, "operator")
    give_seaweedfs(cluster)
    forget_definitions(cluster.api)
    with fresh_namespace(cluster.api) as name:
        yield name


def everything(api: Api) -> set[str]:
    """What lies outside namespaces and could be left behind."""
    return {
        f"{kind}/{one['metadata']['name']}" for group, kinds in GROUPS.items() for kind in kinds
        for one in api.items(group + kind)
    }  # fmt: skip


def inside(api: Api, namespace: str) -> set[str]:
    """What a release could leave behind in its namespace."""
    core, paths = f"/api/v1/namespaces/{namespace}/", ("secrets", "services", "serviceaccounts", "pods", "configmaps")
    listed = {core + path for path in paths} | {f"/apis/apps/v1/namespaces/{namespace}/deployments"}
    listed |= {
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    }
    return {f"{path}/{one['metadata']['name']}" for path in listed for one in api.items(path)}


@pytest.mark.parametrize("by", HELMS)
def test_install_upgrade_test_and_uninstall_without_a_trace(by: str, cluster: Cluster, system: str, tmp_path: Path):
    outside, before = everything(cluster.api), inside(cluster.api, system)
    config = {"kubeconfig": cluster.kubeconfig, "by": by}

    def values(**more: Any) -> Path:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(store_values(system) | {"crds": {"keep": False}} | more))
        return path

    common = ["--namespace", system, "--wait", "--timeout", "4m", "--values"]
    told = helm("install", "opt", CHART, *common, values(), **config)
    assert "kubectl apply --filename examples/quickstart.yaml" in told
    helm("test", "opt", "--namespace", system, **config)
    login = cluster.api.get(f"/api/v1/namespaces/{system}/secrets/object-store-credentials")["data"]
    helm("upgrade", "opt", CHART, *common, values(replicas=1), **config)
    deployment = cluster.api.get(f"/apis/apps/v1/namespaces/{system}/deployments/opt")
    assert deployment["spec"]["replicas"] == 1
    assert cluster.api.get(f"/api/v1/namespaces/{system}/secrets/object-store-credentials")["data"] == login
    helm("uninstall", "opt", "--namespace", system, "--wait", **config)
    wait_for(lambda: everything(cluster.api) == outside, 30, "nothing left outside the namespace",
             lambda: str(everything(cluster.api) - outside))  # fmt: skip
    wait_for(lambda: inside(cluster.api, system) == before, 60, "nothing left inside",
             lambda: str(inside(cluster.api, system) - before))  # fmt: skip


def test_definitions_outlive_the_release_by_default(cluster: Cluster, system: str, tmp_path: Path):
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump({"replicas": 1}))
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/opttrainings.opt-operator.io"
    helm("install", "opt", CHART, "--namespace", system, "--values", path, kubeconfig=cluster.kubeconfig)
    helm("uninstall", "opt", "--namespace", system, "--wait", kubeconfig=cluster.kubeconfig)
    assert cluster.api.get(crd)["metadata"]["name"]
    helm("install", "opt", CHART, "--namespace", system, "--values", path, kubeconfig=cluster.kubeconfig)
    helm("uninstall", "opt", "--namespace", system, "--wait", kubeconfig=cluster.kubeconfig)
