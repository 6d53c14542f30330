"""What happens to a fleet, and what is read off it: lost nodes and their successors, quantiles, slopes."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optcluster.api import Api, Object
from optcluster.wait import wait_for
from support.fleet import Fleet


@contextlib.contextmanager
def watching(api: Api) -> Iterator[deque[tuple[float, str, Object]]]:
    """Every event of nodes and of our pods with the moment it came, from now on."""
    events: deque[tuple[float, str, Object]] = deque()
    stop = threading.Event()
    sockets: list[Any] = []

    def follow(path: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream(api, path, sockets):
                if stop.is_set():
                    return
                event = json.loads(line)
                events.append((time.time(), event["type"], event["object"]))

    pods = "/api/v1/pods?labelSelector=app.kubernetes.io/managed-by%3Dopt-operator&"
    threads = [threading.Thread(target=follow, args=(path,), daemon=True) for path in ("/api/v1/nodes?", pods)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(sockets) == len(threads), 30, "both watches")
    try:
        yield events
    finally:
        stop.set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(2)
        for thread in threads:
            thread.join(10)


def stream(api: Api, path: str, sockets: list[Any]) -> Iterator[str]:
    """The lines of a watch that begins now, over HTTP/1.0, which has no chunks."""
    version = json.loads(api.request("GET", f"{path}limit=1"))["metadata"]["resourceVersion"]
    connection = api.connect()
    connection.settimeout(None)
    query = f"{path}watch=true&resourceVersion={version}&timeoutSeconds=3000"
    connection.sendall(f"GET {query} HTTP/1.0\r\nHost: fleet\r\nAccept: application/json\r\n\r\n".encode())
    sockets.append(connection)
    file = connection.makefile("rb")
    while (file.readline()).strip():
        pass
    for raw in file:
        yield raw.decode()


@dataclass(frozen=True)
class Loss:
    """What came of many nodes lost at once; seconds.

    Attributes:
        each: Of each pod on a lost node, from its node being Unknown to its successor being there.
        noticed: From the silence of the nodes to the first that the control plane called Unknown.
        whole: From that to the last successor: the time in which all were acted on.
    """

    each: dict[str, float]
    noticed: float
    whole: float


def lose_nodes(fleet: Fleet, pool: int, deadline_s: float = 300) -> Loss:
    """All nodes of a pool fall silent at once; every pod on them gets a successor.

    Raises:
        WaitError: A pod was not replaced in time.
    """
    doomed = fleet.names_of(pool)
    pods = fleet.api.items("/api/v1/pods", labelSelector="app.kubernetes.io/managed-by=opt-operator")
    places = {place(pod): pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName") in doomed}
    assert places, "no pod is on a doomed node"
    unknown: dict[str, float] = {}
    successors: dict[str, float] = {}
    with watching(fleet.api) as events:
        silent = time.time()
        fleet.lost_file.write_text("\n".join(sorted(doomed)))
        fleet.pools[pool].fall_silent()

        def all_done() -> bool:
            while events:
                at, what, item = events.popleft()
                if item["kind"] == "Node" and item["metadata"]["name"] in doomed and _unknown(item):
                    unknown.setdefault(item["metadata"]["name"], at)
                elif item["kind"] == "Pod" and what == "ADDED" and place(item) in places:
                    successors.setdefault(place(item), at)
            return len(successors) == len(places)

        wait_for(all_done, deadline_s, "a successor of every lost pod", lambda: f"{len(successors)} of {len(places)}")
    early = set(places.values()) - unknown.keys()
    assert not early, f"replaced before the control plane called their nodes lost: {sorted(early)[:5]}"
    each = {name: successors[name] - unknown[places[name]] for name in places}
    return Loss(each, min(unknown.values()) - silent, max(successors.values()) - min(unknown.values()))


def place(pod: Object) -> str:
    """Training and slot: what a successor shares with the pod it replaces."""
    labels = pod["metadata"]["labels"]
    return f"{labels['opt-operator.io/training']}/{labels.get('opt-operator.io/slot', 'coordinator')}"


def _unknown(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "Unknown" for c in conditions)


def quantile(before: dict[str, float], after: dict[str, float], share: float) -> float:
    """A quantile of `opt_operator_reconcile_seconds` between two readings, within its bucket by interpolation."""
    counts: dict[float, float] = defaultdict(float)
    for name, value in after.items():
        if name.startswith("opt_operator_reconcile_seconds_bucket"):
            counts[float(re.findall(r'le="([^"]+)"', name)[0])] += value - before.get(name, 0.0)
    total, low, below = counts[math.inf], 0.0, 0.0
    for edge, count in sorted(counts.items()):
        if total and count >= share * total:
            return low if math.isinf(edge) else low + (edge - low) * (share * total - below) / max(count - below, 1)
        low, below = edge, count
    return 0.0


def slope(samples: list[tuple[float, float]]) -> float:
    """Least squares through (seconds, MiB), in MiB an hour."""
    n = len(samples)
    at, value = sum(t for t, _ in samples) / n, sum(v for _, v in samples) / n
    spread = sum((t - at) ** 2 for t, _ in samples)
    return 3600 * sum((t - at) * (v - value) for t, v in samples) / spread
