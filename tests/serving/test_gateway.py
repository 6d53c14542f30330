"""The gateway before real servers: requests are spread, held, tried again; none is lost while servers come and go."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from opt_serving.gateway.routing import Endpoint, choose
from support.gateways import INSTANCE, Gateway, gateway, replica
from support.served_models import Server, serving
from support.vanishing import vanishing

ENDLESS = {"prompt": "The quick", "max_tokens": 240, "ignore_eos": True}
SHORT = {"prompt": "The quick", "max_tokens": 2, "ignore_eos": True}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    with replica(tmp_path, "one") as a, replica(tmp_path, "two") as b:
        yield a, b


def until(true: Callable[[], Any], what: str) -> Any:
    for _ in range(1200):
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def ready(gate: Gateway, count: int) -> None:
    until(lambda: list(gate.status()["endpoints"].values()).count("Ready") == count, f"{count} endpoints are ready")


class Load:
    """Clients that ask without a pause, each answer counted."""

    def __init__(self, gate: Gateway, clients: int = 4) -> None:
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []
        self._gate, self._stop = gate, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, stream: bool) -> None:
        body = {**SHORT, "max_tokens": 12, "stream": stream}
        while not self._stop.is_set():
            try:
                answer = self._gate.post("/v1/completions", body)
            except requests.RequestException as fault:
                self.broken.append(repr(fault))
                continue
            self.statuses[answer.status_code] += 1
            if stream and not answer.text.endswith("data: [DONE]\n\n"):
                self.broken.append(answer.text[-200:])

    def more(self, count: int) -> None:
        """Until so many more were answered."""
        goal = sum(self.statuses.values()) + count
        until(lambda: sum(self.statuses.values()) >= goal or self.broken, "answers come")


@pytest.mark.integration
def test_requests_reach_a_real_server_and_its_answers_come_back(folder: Path, tmp_path: Path):
    instance = {"OPT_SERVE_INSTANCE": f"{INSTANCE}real"}
    with gateway(tmp_path) as gate, serving(folder, tmp_path / "log", "--model-name", "tiny", **instance) as server:
        assert gate.get("/health").status_code == 503
        gate.route(("real", 1, [server]))
        ready(gate, 1)
        direct, through = server.complete("The quick", max_tokens=8), gate.complete("The quick", max_tokens=8)
        assert direct["choices"] == through["choices"]
        body = {"prompt": "The quick", "max_tokens": 4, "temperature": 0}
        assert [e["choices"] for e in gate.events(body)] == [e["choices"] for e in server.events(body)]
        assert gate.post("/v1/completions", {"prompt": 3.5}).status_code == 400
        assert gate.get("/v1/nothing").status_code == 404
        assert gate.get("/v1/models").json()["data"][0]["id"] == "tiny"
        with requests.post(
            f"{gate.url}/v1/completions", json={**ENDLESS, "n": 4, "stream": True}, stream=True, timeout=120
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(server.pid, signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == b"data: [DONE]"


@pytest.mark.integration
def test_weights_move_requests(pair: tuple[Server, Server], tmp_path: Path):
    a, b = pair
    with gateway(tmp_path) as gate:
        gate.route(("one", 1, [a]), ("two", 0, [b]))
        ready(gate, 2)
        assert gate.post("/v1/completions", SHORT).headers["x-opt-revision"] == "one"
        gate.route(("one", 0, [a]), ("two", 1, [b]))
        until(lambda: gate.post("/v1/completions", SHORT).headers["x-opt-revision"] == "two", "the other gets all")
        assert gate.post("/v1/completions", {"fail": True}).status_code == 500
        counts = gate.status()["revisions"]["two"]
        assert counts["requests"] >= 2
        assert counts["failures"] == 1
        assert "opt_gateway_requests_total" in requests.get(f"{gate.admin}/metrics", timeout=10).text


@pytest.mark.integration
def test_a_full_server_sends_requests_to_the_next(tmp_path: Path, pair: tuple[Server, Server]):
    with gateway(tmp_path) as gate, replica(tmp_path, "full", MOST="0") as full:
        gate.route(("full", 1, [full]), ("two", 1, [pair[1]]))
        ready(gate, 2)
        assert {gate.post("/v1/completions", SHORT).status_code for _ in range(12)} == {200}
        gate.route(("full", 1, [full]))
        until(lambda: len(gate.status()["endpoints"]) == 1, "only the full one is left")
        assert gate.post("/v1/completions", SHORT).status_code == 429


@pytest.mark.integration
def test_a_request_that_kills_replicas_does_not_kill_them_all(tmp_path: Path):
    with gateway(tmp_path) as gate, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(replica(tmp_path, f"r{n}")) for n in range(5)]
        gate.route(*((f"r{n}", 1, [server]) for n, server in enumerate(servers)))
        ready(gate, 5)
        killed = gate.post("/v1/completions", {"die": True})
        assert (killed.status_code, killed.json()["error"]["code"]) == (502, "replica_lost")
        assert gate.post("/v1/completions", SHORT).status_code == 200


@pytest.mark.integration
def test_an_older_generation_does_not_count(pair: tuple[Server, Server], tmp_path: Path):
    a, b = pair
    with gateway(tmp_path) as gate:
        gate.generation = 10
        gate.route(("one", 1, [a]))
        ready(gate, 1)
        gate.generation = 5
        gate.route(("two", 1, [b]))
        gate.file.write_text("{")
        time.sleep(0.6)
        assert gate.post("/v1/completions", SHORT).headers["x-opt-revision"] == "one"


@pytest.mark.integration
def test_a_sleeping_model_holds_requests_until_it_wakes(pair: tuple[Server, Server], tmp_path: Path):
    with gateway(tmp_path, "--max-held", "2") as gate:
        gate.route(("one", 1, []), replicas=0)
        until(lambda: gate.get("/health").status_code == 200, "routes are read")
        assert gate.get("/health").json()["status"] == "asleep"
        assert gate.get("/v1/models").json()["data"][0]["id"] == "tiny"
        answers: list[int] = []
        crowd = [
            threading.Thread(target=lambda: answers.append(gate.post("/v1/completions", SHORT).status_code))
            for _ in range(2)
        ]
        for one in crowd:
            one.start()
        until(lambda: gate.status()["held"] == 2, "both are held")
        refused = gate.post("/v1/completions", SHORT)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        gate.route(("one", 1, [pair[0]]))
        for one in crowd:
            one.join()
        assert answers == [200, 200]
        assert gate.status()["demand"] == 0
        assert "max_model_len" in gate.get("/v1/models").json()["data"][0]


@pytest.mark.integration
def test_holding_has_an_end(tmp_path: Path):
    with gateway(tmp_path, "--hold", "0.2") as gate:
        gate.route(("one", 1, []), replicas=0)
        until(lambda: gate.get("/health").status_code == 200, "routes are read")
        late = gate.post("/v1/completions", SHORT)
        assert (late.status_code, late.headers["retry-after"]) == (503, "2")
        assert late.json()["error"]["code"] == "asleep"


@pytest.mark.integration
def test_a_server_that_drains_under_load_costs_no_request(pair: tuple[Server, Server], tmp_path: Path):
    with gateway(tmp_path) as gate, replica(tmp_path, "leaving") as leaving:
        gate.route(("leaving", 1, [leaving]), ("two", 1, [pair[1]]))
        ready(gate, 2)
        with Load(gate) as load:
            load.more(20)
            os.kill(leaving.pid, signal.SIGTERM)
            load.more(40)
        assert not load.broken
        assert set(load.statuses) == {200}


@pytest.mark.integration
def test_a_killed_server_costs_only_its_own_streams(pair: tuple[Server, Server], tmp_path: Path):
    with gateway(tmp_path) as gate, replica(tmp_path, "victim") as victim:
        gate.route(("victim", 1, [victim]), ("two", 0, [pair[1]]))
        ready(gate, 2)
        body = {**ENDLESS, "stream": True}
        whole: list[int] = []
        with requests.post(f"{gate.url}/v1/completions", json=body, stream=True, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            waiting = threading.Thread(
                target=lambda: whole.append(gate.post("/v1/completions", {"max_tokens": 50}).status_code)
            )
            waiting.start()
            until(lambda: gate.status()["inFlight"] == 2, "both are at the server")
            os.kill(victim.pid, signal.SIGKILL)
            rest = [line for line in lines if line]
            waiting.join()
        assert json.loads(rest[-1].removeprefix(b"data: "))["error"]["code"] == "replica_lost"
        assert whole == [200]
        assert gate.status()["revisions"]["victim"]["failures"] == 0


@pytest.mark.integration
def test_what_a_lost_machine_was_asked_is_asked_of_another_at_once(pair: tuple[Server, Server], tmp_path: Path):
    """Its connections stay open and silent; only that nothing takes new ones tells that it is gone."""
    with gateway(tmp_path) as gate, vanishing(f"{INSTANCE}lost") as lost:
        machine = Server(lost.url, 0, tmp_path / "none.log")
        gate.route(("lost", 1, [machine]), ("one", 0, [pair[0]]))
        ready(gate, 2)
        answers: list[int] = []
        client = threading.Thread(target=lambda: answers.append(gate.post("/v1/completions", SHORT).status_code))
        client.start()
        until(lambda: lost.kept, "it has the request")
        lost.vanish()
        address = lost.url.removeprefix("http://")
        until(lambda: gate.status()["endpoints"][address] == "Unreached", "it is missed")
        client.join()
        assert answers == [200]
        assert gate.status()["revisions"]["one"]["requests"] == 1


@pytest.mark.integration
def test_where_nobody_else_answers_it_may_be_the_gateway_that_is_cut_off(tmp_path: Path):
    with gateway(tmp_path) as gate, vanishing(f"{INSTANCE}only") as only:
        gate.route(("only", 1, [Server(only.url, 0, tmp_path / "none.log")]))
        ready(gate, 1)
        only.vanish()
        address = only.url.removeprefix("http://")
        until(lambda: gate.status()["endpoints"][address] != "Ready", "it is missed")
        time.sleep(3)
        assert gate.status()["endpoints"][address] == "Silent"


@pytest.mark.integration
def test_a_stranger_at_the_address_gets_nothing(tmp_path: Path):
    with gateway(tmp_path, "--hold", "1") as gate, replica(tmp_path, "one", instance="other/model/") as stranger:
        gate.route(("one", 1, [stranger]))
        address = stranger.url.removeprefix("http://")
        until(lambda: gate.status()["endpoints"].get(address) == "Silent", "it is known")
        assert gate.post("/v1/completions", SHORT).status_code == 503


@pytest.mark.integration
def test_a_client_that_leaves_frees_its_place(pair: tuple[Server, Server], tmp_path: Path):
    with gateway(tmp_path) as gate:
        gate.route(("one", 1, [pair[0]]))
        ready(gate, 1)
        body = {**ENDLESS, "max_tokens": 10_000, "stream": True}
        with requests.post(f"{gate.url}/v1/completions", json=body, stream=True, timeout=60) as answer:
            next(answer.iter_lines())
            until(lambda: pair[0].get("/running").json()["running"], "it is computed")
        until(lambda: not pair[0].get("/running").json()["running"], "it is given up")
        until(lambda: gate.status()["inFlight"] == 0, "the gateway knows")


@pytest.mark.integration
def test_keys_and_sizes_are_checked_before_anything_wakes(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("right\n")
    with gateway(tmp_path, "--api-keys", str(keys), "--max-body-bytes", "1000", "--hold", "0.1") as gate:
        gate.route(("one", 1, []), replicas=0)
        until(lambda: gate.get("/health").status_code == 200, "routes are read")
        assert gate.post("/v1/completions", SHORT).status_code == 401
        gate.headers = {"Authorization": "Bearer right"}
        assert gate.post("/v1/completions", {"prompt": "a" * 2000}).status_code == 413
        assert gate.post("/v1/completions", SHORT).status_code == 503


@pytest.mark.integration
def test_a_gateway_that_ends_ends_its_streams_first(pair: tuple[Server, Server], tmp_path: Path):
    with gateway(tmp_path, "--linger", "0.5") as gate:
        gate.route(("one", 1, [pair[0]]))
        ready(gate, 1)
        body = {**ENDLESS, "stream": True}
        with requests.post(f"{gate.url}/v1/completions", json=body, stream=True, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(gate.pid, signal.SIGTERM)
            until(lambda: requests.get(f"{gate.admin}/healthz", timeout=10).status_code == 503, "it says so")
            still = gate.post("/v1/completions", SHORT)
            assert (still.status_code, still.headers["connection"]) == (200, "close")
            rest = [line for line in lines if line]
        assert rest[-1] == b"data: [DONE]"


def endpoints(**revisions: int) -> list[Endpoint]:
    return [Endpoint(f"{name}-{number}", name, "Ready") for name, count in revisions.items() for number in range(count)]


@pytest.mark.unit
def test_weights_are_shares():
    dice, found = random.Random(1), endpoints(old=2, new=1)
    drawn = Counter(str(getattr(choose(found, {"old": 80, "new": 20}, (), dice), "revision", "")) for _ in range(5000))
    assert 0.17 < drawn["new"] / 5000 < 0.23


@pytest.mark.unit
def test_the_least_busy_of_a_revision_is_chosen():
    busy, idle = endpoints(one=2)
    busy.in_flight = 3
    assert choose([busy, idle], {"one": 1}, (), random.Random(1)) is idle
    assert choose([busy, idle], {"one": 1}, {idle.address}, random.Random(1)) is busy
    assert choose([busy, idle], {"two": 1}, (), random.Random(1)) is None


@pytest.mark.unit
def test_one_without_a_share_answers_rather_than_nobody():
    old, new = endpoints(old=1, new=1)
    dice = random.Random(1)
    assert choose([old, new], {"old": 1, "new": 0}, (), dice) is old
    old.state = "Silent"
    assert choose([old, new], {"old": 1, "new": 0}, (), dice) is new
