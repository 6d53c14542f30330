"""The served model of the soak, and what happens to it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import OURS, Case, case_of
from serving_load import TOKENS, Asked, Load

from optcluster import lifecycle, procs, role_images
from optcluster.wait import wait_for
from support.operator_run import Release, Training, released
from support.serve_run import Serve

NODES, PLACES = 4, 8
SECONDS, QUICK_SECONDS = 300.0, 60.0
SHARE = 0.8
SETTINGS = {
    "engine": {"device": "cpu", "weights": "float32", "maxSequences": PLACES},
    "limits": {"maxQueue": 4096},
}
"""One of two replicas cannot do four fifths of what both can: requests wait rather than be sent away with a 429."""
EVENTS = ("calm", "roll", "killed pod", "lost node")
"""What happens at the beginning of each quarter of the time."""
OWN = "replica_lost"
"""What a gateway says of a stream whose replica is no more."""


def soak(quick: bool) -> list[Case]:
    """Start everything, and measure."""
    cluster = lifecycle.up("soak", NODES, procs.me(), role_images.archives())
    try:
        with tempfile.TemporaryDirectory() as folder, released(cluster, Path(folder), "serving") as release:
            steps = _trained(release)
            serve = Serve(release, "pair", "served", {"replicas": 2, "source": _source(steps[0]), **SETTINGS})
            serve.apply()
            serve.until_served_after(0, deadline_s=600)
            cases = _measured(release, serve, steps[-1], QUICK_SECONDS if quick else SECONDS)
            serve.delete()
    finally:
        lifecycle.down(cluster)
    return cases


def _source(step: int) -> dict[str, object]:
    return {"training": {"name": "served", "checkpoint": "step", "step": step}}


def _trained(release: Release) -> list[int]:
    """Steps of the checkpoints of a training that is at its end, so that it takes no processor from what serves."""
    training = Training(release, "served", "served", steps=100, resilience={})
    training.apply()
    training.until_phase("Succeeded", deadline_s=600)
    return [50, 100]


def _measured(release: Release, serve: Serve, newer: int, seconds: float) -> list[Case]:
    load = Load(serve.url)
    load.at_once(2 * PLACES, seconds / 30)
    rate = load.at_once(2 * PLACES, seconds / 10)
    acts: dict[str, Callable[[], None]] = {
        "calm": lambda: None,
        "roll": lambda: _roll(serve, newer),
        "killed pod": lambda: _kill_pod(release, serve),
        "lost node": lambda: _lose_node(release, serve),
    }
    began: dict[str, tuple[float, float]] = {}
    with load.at_rate(SHARE * rate):
        for name in EVENTS:
            start = time.monotonic()
            acts[name]()
            began[name] = start, time.monotonic()
            time.sleep(max(0.0, start + seconds / len(EVENTS) - time.monotonic()))
    wait_for(lambda: serve.served() == newer, 60, f"step {newer} is served", serve.describe)
    return cases_of(load.asked, began, rate)


def _roll(serve: Serve, newer: int) -> None:
    serve.spec["source"] = _source(newer)
    serve.apply()


def _kill_pod(release: Release, serve: Serve) -> None:
    victim = serve.pods("replica")[0]["metadata"]["name"]
    release.cluster.api.delete(f"/api/v1/namespaces/{release.namespace}/pods/{victim}", grace_s=0)


def _lose_node(release: Release, serve: Serve) -> None:
    """A node with a replica, and with a gateway where one is on such a node."""
    replicas = {pod["spec"]["nodeName"] for pod in serve.pods("replica")} - {"node-1"}
    gateways = {pod["spec"]["nodeName"] for pod in serve.pods("gateway")}
    name = min(replicas & gateways or replicas)
    release.cluster.node(int(name.rpartition("-")[2])).kill()


def cases_of(asked: Sequence[Asked], began: dict[str, tuple[float, float]], rate: float) -> list[Case]:
    """Lost requests and first tokens, for each event, of which its beginning and the moment after it are given."""
    bounds = [*(before for before, _ in began.values()), float("inf")]
    cases = []
    for name, start, end in zip(EVENTS, bounds, bounds[1:], strict=False):
        mine = [one for one in asked if start <= one.ended < end]
        lost = [one for one in mine if one.problem]
        own = [one for one in lost if _went_along(one, name, began[name][1])]
        again = sum(one.tries > 1 for one in mine)
        words = "; ".join(sorted({one.problem[:90] for one in lost if one not in own})) or "none"
        note = (
            f"{len(mine)} requests of {TOKENS} tokens at {SHARE:.0%} of {rate:.1f} a second, {again} connected again; "
            f"{len(own)} lost with what died, not counted; other problems: {words}"
        )
        cases.append(Case(f"requests lost, {name}", "requests", "lower", len(lost) - len(own), {}, 1, 0.0, notes=note))
        first = [1000 * one.first_s for one in mine if one.first_s is not None]
        cases.append(case_of(f"first token, {name}, p50", "ms", "lower", {OURS: first}))
        worst = statistics.quantiles(first, n=100)[98] if len(first) > 1 else first[0]
        cases.append(Case(f"first token, {name}, p99", "ms", "lower", round(worst, 1), {}, len(first), 0.0))
    return cases


def _went_along(asked: Asked, event: str, at: float) -> bool:
    """Whether a request was lost with what died then, and not for want of care."""
    if event == "lost node":
        return OWN in asked.problem or asked.began < at
    return event == "killed pod" and OWN in asked.problem
