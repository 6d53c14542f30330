"""What gateways say: polled, remembered for a moment, never waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from pydantic import ValidationError
from yarl import URL

from opt_operator.core.serving.builders.gateway import ADMIN_PORT
from opt_operator.core.serving.views import GatewayReport
from opt_operator.core.snapshot import Key
from opt_operator.core.views import PodView
from opt_operator.shell.cache import Cache
from opt_operator.shell.reach import CONNECT_S, Missed, open_session, url

POLL_S, POLL_LIMIT_S = 1.0, 15.0
STALE_S = 5.0
TIMEOUT = aiohttp.ClientTimeout(total=2.0, sock_connect=CONNECT_S)


class Gateways(Protocol):
    """How gateways are heard."""

    def reports(self, key: Key) -> Mapping[str, GatewayReport]:
        """The newest word of each gateway by pod, without old ones."""

    def unreached(self, key: Key) -> frozenset[str]:
        """Gateways at whose address nothing is any more, while another one was heard."""


@dataclass
class Heard:
    """One gateway's last word."""

    key: Key
    report: GatewayReport
    at_s: float


class HttpGateways:
    """Polls the gateways of all served models.

    Args:
        cache: Knows their pods.
        changed: Called with a served model whose gateway says something new.
    """

    def __init__(self, cache: Cache, changed: Callable[[Key], None]) -> None:
        self._cache, self._changed = cache, changed
        self._heard: dict[str, Heard] = {}
        self._next: dict[str, float] = {}
        self._missed: dict[str, Missed] = {}
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Poll until cancelled."""
        async with (
            open_session(TIMEOUT) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await asyncio.sleep(0.1)
                for key, pod in self._due():
                    self._busy.add(pod.metadata.uid)
                    group.create_task(self._poll(session, key, pod))

    def reports(self, key: Key) -> Mapping[str, GatewayReport]:
        """The newest word of each gateway by pod, without old ones."""
        now = self._now()
        pods = {pod.metadata.uid: pod.metadata.name for pod in gateways_of(self._cache, key)}
        found = {uid: self._heard.get(uid) for uid in pods}
        return {pods[uid]: heard.report for uid, heard in found.items() if heard and now - heard.at_s <= STALE_S}

    def unreached(self, key: Key) -> frozenset[str]:
        """Gateways at whose address nothing is any more, while another one was heard.

        One that was never heard may be out of our sight; where no other is heard either, it is we who do not see.
        """
        newest = max((heard.at_s for heard in self._heard.values()), default=0.0)
        pods = ((pod, self._missed.get(pod.metadata.uid)) for pod in gateways_of(self._cache, key))
        lost = [pod for pod, missed in pods if missed and missed.gone and missed.since_s <= newest]
        return frozenset(pod.metadata.name for pod in lost if pod.metadata.uid in self._heard)

    def _due(self) -> list[tuple[Key, PodView]]:
        now = self._now()
        known = [(key, pod) for key in self._cache.resources("OPTServe") for pod in gateways_of(self._cache, key)]
        self._forget({pod.metadata.uid for _, pod in known})
        due = [
            (k, p) for k, p in known if p.metadata.uid not in self._busy and self._next.get(p.metadata.uid, 0) <= now
        ]
        self._next |= {pod.metadata.uid: now + POLL_S for _, pod in due}
        return due

    def _forget(self, there: set[str]) -> None:
        for kept in (self._heard, self._next, self._missed):
            for uid in set(kept) - there:
                del kept[uid]

    async def _poll(self, session: aiohttp.ClientSession, key: Key, pod: PodView) -> None:
        uid = pod.metadata.uid
        try:
            async with session.get(_url(pod)) as answer:
                report = GatewayReport.model_validate(json.loads(await answer.text()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ValidationError) as fault:
            missed = self._missed.setdefault(uid, Missed(pod.metadata.name))
            missed.add(self._now(), fault)
            self._next[uid] = self._now() + missed.wait_s(POLL_LIMIT_S)
            if missed.gone:
                self._changed(key)
            return
        finally:
            self._busy.discard(uid)
        self._missed.pop(uid, None)
        before = self._heard.get(uid)
        self._heard[uid] = Heard(key, report, self._now())
        if before is None or signature(before.report) != signature(report):
            self._changed(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def signature(report: GatewayReport) -> tuple[Any, ...]:
    """What of a report calls for a new decision."""
    failures = tuple((name, count.failures) for name, count in sorted(report.revisions.items()))
    return report.generation, report.held > 0, report.in_flight, failures, tuple(sorted(report.endpoints.items()))


def gateways_of(cache: Cache, key: Key) -> list[PodView]:
    """Gateway pods that can be asked."""
    pods = [pod for pod in cache.of("Pod", key) if pod.role == "gateway"]
    return [pod for pod in pods if pod.status.pod_ip and not pod.ended and pod.status.phase == "Running"]


def _url(pod: PodView) -> URL:
    return url(pod.status.pod_ip, ADMIN_PORT, "/status")
