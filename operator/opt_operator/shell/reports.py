"""What coordinators say: polled, remembered for a moment, never waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import structlog
from pydantic import ValidationError
from pydantic_core import from_json
from yarl import URL

from opt_operator.core.builders.pods import COORDINATOR_PORT
from opt_operator.core.rules.coordinators import STEPPING
from opt_operator.core.snapshot import Key
from opt_operator.core.views import CoordinatorReport, PodView
from opt_operator.shell.cache import Cache
from opt_operator.shell.reach import CONNECT_S, Missed, open_session, url

POLL_S = 0.5
TURN_S = 0.1
RETRY_LIMIT_S = 20.0
PER_SECOND = 200
"""Polls a second at most, however many trainings there are; one that is not well is due each `POLL_S`."""
STALE_S, STALE_POLLS = 8.0, 3
"""A word is old after so long, or after so many turns where there are many trainings."""
TIMEOUT = aiohttp.ClientTimeout(total=3.0, sock_connect=CONNECT_S)
TELL_S = 0.3
"""So long a decision waits for a coordinator to hear it; then it goes on, and the word may still arrive."""
SILENT_S = 1.0
log = structlog.get_logger(__name__)


class Coordinators(Protocol):
    """How coordinators are spoken with."""

    def newest(self, key: Key) -> CoordinatorReport | None:
        """The newest word, if it is not an old one."""

    def unreached_s(self, key: Key) -> float:
        """Seconds since a coordinator was heard at whose address nothing is any more; 0 where that is not sure."""

    async def tell(self, pod: PodView, path: str, body: Mapping[str, Any]) -> bool:
        """Say something; whether it was heard."""


@dataclass
class Heard:
    """One coordinator's last word."""

    pod: str
    report: CoordinatorReport
    at_s: float


class HttpCoordinators:
    """Polls the coordinators of all trainings.

    Args:
        cache: Knows their pods.
        changed: Called with a training whose coordinator says something new.
    """

    def __init__(self, cache: Cache, changed: Callable[[Key], None]) -> None:
        self._cache, self._changed = cache, changed
        self._heard: dict[Key, Heard] = {}
        self._next: dict[Key, float] = {}
        self._missed: dict[Key, Missed] = {}
        self._busy: set[Key] = set()
        self._telling: set[asyncio.Task[bool]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Poll until cancelled."""
        async with (
            open_session(TIMEOUT) as self._session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await asyncio.sleep(TURN_S)
                for key, pod in self._due():
                    self._busy.add(key)
                    group.create_task(self._poll(key, pod))

    def newest(self, key: Key) -> CoordinatorReport | None:
        """The newest word, if it is not an old one."""
        heard = self._heard.get(key)
        pod = coordinator_of(self._cache, key)
        old = max(STALE_S, STALE_POLLS * self._pace())
        if heard is None or pod is None or heard.pod != pod.metadata.name or self._now() - heard.at_s > old:
            return None
        return heard.report

    def unreached_s(self, key: Key) -> float:
        """Seconds since a coordinator was heard at whose address nothing is any more; 0 where that is not sure.

        It is not sure where we never heard it, where something takes the connection and only does not answer, and
        where no other coordinator was heard meanwhile either: then it is we who do not see.
        """
        heard, missed = self._heard.get(key), self._missed.get(key)
        if heard is None or missed is None or not missed.gone:
            return 0.0
        pod = coordinator_of(self._cache, key)
        others = [other.at_s for name, other in self._heard.items() if name != key]
        blind = bool(others) and max(others) < missed.since_s
        if blind or pod is None or {heard.pod, missed.pod} != {pod.metadata.name}:
            return 0.0
        return self._now() - heard.at_s

    def hurry(self, key: Key) -> None:
        """Something happened to one of its pods: ask at the next moment, not at the next turn.

        Not one that does not answer: it is asked ever more seldom. Its successor is another one.
        """
        missed = self._missed.get(key)
        if missed is not None:
            pod = coordinator_of(self._cache, key)
            if pod is None or pod.metadata.name == missed.pod:
                return
        self._next.pop(key, None)

    def _pace(self) -> float:
        """Seconds between two polls of a training that is well."""
        return max(POLL_S, len(self._heard) / PER_SECOND)

    async def tell(self, pod: PodView, path: str, body: Mapping[str, Any]) -> bool:
        """Say something; whether it was heard soon."""
        if self._session is None or not pod.status.pod_ip:
            return False
        task = asyncio.create_task(self._post(self._session, pod, path, body))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        await asyncio.wait({task}, timeout=TELL_S)
        return task.done() and task.result()

    async def _post(self, session: aiohttp.ClientSession, pod: PodView, path: str, body: Mapping[str, Any]) -> bool:
        try:
            async with session.post(_url(pod, path), json=dict(body)) as answer:
                text = await answer.text()
                log.info("told", pod=pod.metadata.name, path=path, status=answer.status, answer=text[:200])
                return answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            log.warning("not heard", pod=pod.metadata.name, path=path, fault=repr(fault))
            return False

    def _due(self) -> list[tuple[Key, PodView]]:
        """Who is asked now: those that have waited longest, no more than this turn's share."""
        found: list[tuple[Key, PodView]] = []
        now, there = self._now(), self._cache.resources("OPTTraining")
        for key in [key for key in self._next if key not in there]:
            for held in (self._next, self._heard, self._missed):
                held.pop(key, None)
        waiting = [(due, key) for key in there - self._busy if (due := self._next.get(key, 0.0)) <= now]
        for _, key in sorted(waiting, key=lambda one: one[0]):
            if len(found) >= PER_SECOND * TURN_S:
                break
            pod = coordinator_of(self._cache, key)
            if pod is None or pod.ended or not pod.status.pod_ip:
                self._heard.pop(key, None)
                self._next[key] = now + POLL_S
            else:
                found.append((key, pod))
        pace = self._pace()
        for key, _ in found:
            heard = self._heard.get(key)
            self._next[key] = now + (pace if heard and well(heard.report) else POLL_S)
        return found

    async def _poll(self, key: Key, pod: PodView) -> None:
        try:
            assert self._session is not None
            async with self._session.get(_url(pod, "/status")) as answer:
                report = CoordinatorReport.model_validate(from_json(await answer.read()))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ValidationError) as fault:
            self._miss(key, pod, fault)
            return
        finally:
            self._busy.discard(key)
        self._missed.pop(key, None)
        before = self._heard.get(key)
        self._heard[key] = Heard(pod.metadata.name, report, self._now())
        if before is None or before.pod != pod.metadata.name or signature(before.report) != signature(report):
            self._changed(key)

    def _miss(self, key: Key, pod: PodView, fault: Exception) -> None:
        missed = self._missed.get(key)
        if missed is None or missed.pod != pod.metadata.name:
            missed = self._missed[key] = Missed(pod.metadata.name)
        missed.add(self._now(), fault)
        self._next[key] = self._now() + missed.wait_s(RETRY_LIMIT_S)
        if missed.gone:
            self._changed(key)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def well(report: CoordinatorReport) -> bool:
    """Whether nothing is expected to change soon."""
    fine = all(not agent.gone and agent.silent_seconds <= SILENT_S for agent in report.agents)
    return report.phase == "running" and not report.suspend and fine


def signature(report: CoordinatorReport) -> tuple[Any, ...]:
    """What of a report calls for a new decision; steps and losses do not."""
    return (
        report.phase, report.paused_for, report.attempt, report.suspend, report.newest_verified, report.gang,
        json.dumps(report.values, sort_keys=True),
        tuple((a.host, a.state, a.gone, a.silent_seconds > SILENT_S) for a in report.agents),
        any(worker.section in STEPPING for worker in report.workers),
    )  # fmt: skip


def coordinator_of(cache: Cache, key: Key) -> PodView | None:
    """The newest coordinator pod of a training."""
    pods = [pod for pod in cache.of("Pod", key) if pod.role == "coordinator"]
    return max(pods, key=lambda pod: pod.metadata.attempt, default=None)


def _url(pod: PodView, path: str) -> URL:
    return url(pod.status.pod_ip, COORDINATOR_PORT, path)
