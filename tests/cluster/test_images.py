"""Every role's image holds this checkout's code and its own packages alone, and runs as strict as a pod may be."""

import json

import pytest

from optcluster import images, role_images
from optcluster.cluster import Cluster
from support.cluster import pod, wait_pod

pytestmark = pytest.mark.cluster

LOOK = """
import importlib.util, json, os, opt_api, subprocess
there = [name for name in ("torch", "kopf", "kubernetes", "pyarrow", "rensa") if importlib.util.find_spec(name)]
try:
    open("/etc/written", "w")
    written = True
except OSError as refused:
    written = refused.strerror
loops = None
if "torch" in there:
    from opt_trainer.recipe.kernel import load
    loops = os.path.dirname(load()._name)
told = subprocess.run(["optctl", "--help"], capture_output=True, text=True)
found = {"there": there, "written": written, "code": opt_api.__cached__, "user": os.getuid(), "help": told.stdout[:5]}
print(json.dumps(found | {"loops": loops}))
"""
CODE = "/usr/local/lib/python3.11/dist-packages"
PACKAGES = {
    "trainer": ["torch", "pyarrow"],
    "operator": ["kopf", "kubernetes"],
    "dataprep": ["pyarrow", "rensa"],
}


@pytest.mark.parametrize("role", role_images.TRAINING)
def test_an_image_holds_our_code_and_the_packages_of_its_role(role: str, cluster: Cluster, namespace: str):
    (base,), archive = role_images.archives([role]), role_images.with_code(role)
    assert archive.stat().st_size < base.stat().st_size / 5
    node = cluster.node(1)
    images.load(node.machine, archive)

    asked = pod(role, LOOK, node.name)
    asked["spec"] |= {"restartPolicy": "Never"}
    asked["spec"]["containers"][0]["image"] = role_images.ROLES[role].image
    path = f"/api/v1/namespaces/{namespace}/pods"
    cluster.api.create(path, asked)
    ended = ("Succeeded", "Failed")
    found = wait_pod(cluster.api, namespace, role, lambda one: one["status"]["phase"] in ended, 60, "ended")
    log = cluster.api.request("GET", f"{path}/{role}/log")
    assert found["status"]["phase"] == "Succeeded", log
    told = json.loads(log)
    there = PACKAGES[role]
    assert sorted(told["there"]) == sorted(there)
    assert told["written"] == "Read-only file system"
    assert told["code"].startswith(f"{CODE}/opt_api/__pycache__/")
    assert told["loops"] == (f"{CODE}/opt_trainer/recipe/built" if "torch" in there else None)
    assert (told["user"], told["help"]) == (65532, "Usage")
