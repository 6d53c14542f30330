"""The proxy before the API server does what it says, to real requests over real sockets."""

import threading

import pytest

from optcluster.api import Api, ApiError
from optcluster.wait import wait_for
from support.api_faults import ApiFaults, Effect, Fault
from support.cluster import unique

pytestmark = pytest.mark.cluster

NAMESPACES = "/api/v1/namespaces"


@pytest.fixture
def client(api_faults: ApiFaults) -> Api:
    return Api.from_kubeconfig(api_faults.kubeconfig, timeout_s=5)


def config_map(name: str) -> dict:
    return {"metadata": {"name": name}, "data": {"a": "b"}}


def test_without_faults_everything_passes(client: Api):
    assert client.request("GET", "/readyz") == "ok"
    assert client.get(f"{NAMESPACES}/default")["metadata"]["name"] == "default"


def test_a_lost_answer_is_lost_after_the_write(client: Api, api: Api, api_faults: ApiFaults, namespace: str):
    path, name = f"{NAMESPACES}/{namespace}/configmaps", unique("written")
    with api_faults.fault(Fault(Effect.LOSE_ANSWER, method="POST", times=1)) as fault:
        with pytest.raises(OSError):
            client.create(path, config_map(name))
        assert fault.hits == 1
        with pytest.raises(ApiError) as again:
            client.create(path, config_map(name))
    assert again.value.status == 409
    assert api.get(f"{path}/{name}")["data"] == {"a": "b"}


def test_an_injected_answer_never_reaches_the_server(client: Api, api: Api, api_faults: ApiFaults, namespace: str):
    path, name = f"{NAMESPACES}/{namespace}/configmaps", unique("refused")
    busy = Fault(Effect.ANSWER, method="POST", status=429, headers={"Retry-After": "1"}, times=1)
    with api_faults.fault(busy), pytest.raises(ApiError) as refused:
        client.create(path, config_map(name))
    assert refused.value.status == 429
    with pytest.raises(ApiError) as missing:
        api.get(f"{path}/{name}")
    assert missing.value.status == 404


def test_a_delayed_answer_comes_late(api_faults: ApiFaults):
    hasty = Api.from_kubeconfig(api_faults.kubeconfig, timeout_s=0.5)
    with api_faults.fault(Fault(Effect.DELAY, path="/readyz", seconds=1.5)), pytest.raises(TimeoutError):
        hasty.request("GET", "/readyz")
    assert hasty.request("GET", "/readyz") == "ok"


def test_silence_holds_a_watch_back_and_then_lets_it_go_on(
    client: Api, api: Api, api_faults: ApiFaults, namespace: str
):
    path, seen = f"{NAMESPACES}/{namespace}/configmaps", []
    early, late = unique("early"), unique("late")

    def watch():
        seen.append(client.request("GET", f"{path}?watch=true&timeoutSeconds=4"))

    thread = threading.Thread(target=watch)
    with api_faults.silence():
        thread.start()
        api.create(path, config_map(early))
        assert not seen
    api.create(path, config_map(late))
    thread.join(30)
    assert seen
    assert early in seen[0]
    assert late in seen[0]


def test_an_outage_refuses_and_ends(client: Api, api_faults: ApiFaults):
    with api_faults.outage(), pytest.raises(OSError):
        client.request("GET", "/readyz")
    wait_for(lambda: client.request("GET", "/readyz") == "ok", 10, "the API server behind the proxy to be back")
