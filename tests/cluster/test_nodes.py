"""The cluster answers, its nodes are real, and pods on them find each other."""

import json

import pytest

from optcluster import network
from optcluster.api import Api, ApiError
from optcluster.cluster import Cluster
from support.cluster import NODES_WANTED, kubectl, pod, pod_is_ready, wait_pod

pytestmark = pytest.mark.cluster

PORT = 8080
SERVER = f"""
import http.server, socket, torch
class Me(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(socket.gethostname().encode())
    def log_message(self, *_): pass
print(torch.ones(2, 2).sum().item(), flush=True)
http.server.ThreadingHTTPServer(("", {PORT}), Me).serve_forever()
"""
ASK = """
import json, sys, urllib.request
print(json.dumps([urllib.request.urlopen(f"http://{host}:8080", timeout=10).read().decode() for host in sys.argv[1:]]))
"""


def test_control_plane_answers(cluster: Cluster):
    assert cluster.api.request("GET", "/readyz") == "ok"
    assert cluster.api.get("/version")["gitVersion"] == "v1.37.2"


def test_every_node_is_ready_and_real(cluster: Cluster):
    found = {node["metadata"]["name"]: node for node in cluster.api.items("/api/v1/nodes")}
    for one in cluster.nodes:
        assert one.is_ready(), one.describe()
        info = found[one.name]["status"]["nodeInfo"]
        assert info["containerRuntimeVersion"].startswith("containerd://2.")
        assert info["kubeletVersion"] == "v1.37.2"
    namespaces = {one.machine.inside("readlink", "/proc/self/ns/net") for one in cluster.nodes}
    assert len(namespaces) == NODES_WANTED


def test_plugging_nodes_in_does_not_change_the_bridges_address(cluster: Cluster):
    """If it did, everyone who knew the old one would be cut off for up to a minute."""
    (bridge,) = json.loads(cluster.hub.inside("ip", "-j", "link", "show", network.BRIDGE))
    assert bridge["address"] == f"02:00:0a:{cluster.record.block:02x}:00:02"


def test_pods_with_the_trainers_image_reach_each_other_and_a_service(cluster: Cluster, namespace: str):
    api, names = cluster.api, [f"web-{one.number}" for one in cluster.nodes]
    base = f"/api/v1/namespaces/{namespace}"
    for name, one in zip(names, cluster.nodes, strict=True):
        api.create(f"{base}/pods", pod(name, SERVER, one.name, labels={"app": "web"}))
    ports = [{"port": PORT}]
    api.create(f"{base}/services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}})
    ready = {name: wait_pod(api, namespace, name, pod_is_running_torch(api, base), 90, "serving") for name in names}

    assert {found["spec"]["nodeName"] for found in ready.values()} == {one.name for one in cluster.nodes}
    addresses = [found["status"]["podIP"] for found in ready.values()]
    for name in names:
        asked = ["exec", f"--namespace={namespace}", name, "--", "python3", "-c", ASK, *addresses, "web"]
        *peers, by_service = json.loads(kubectl(cluster.kubeconfig, *asked))
        assert peers == names
        assert by_service in names


def pod_is_running_torch(api: Api, base: str):
    """The server prints the sum of a 2 x 2 matrix of ones once torch is imported, and then serves."""

    def judge(found):
        return pod_is_ready(found) and "4.0" in api.request("GET", f"{base}/pods/{found['metadata']['name']}/log")

    return judge


def test_a_pod_that_is_not_restricted_is_refused_by_name(api: Api, namespace: str):
    careless = pod("careless", "pass")
    del careless["spec"]["securityContext"]
    with pytest.raises(ApiError, match="runAsNonRoot") as refused:
        api.create(f"/api/v1/namespaces/{namespace}/pods", careless)
    assert refused.value.status == 403


def test_a_node_may_not_touch_another_node(cluster: Cluster):
    as_node = Api.from_kubeconfig(cluster.folder / "node-1" / "etc" / "kubelet.kubeconfig")
    with pytest.raises(ApiError) as refused:
        as_node.patch("/api/v1/nodes/node-2", {"metadata": {"labels": {"stolen": "yes"}}})
    assert refused.value.status == 403
