"""A run whose store is a real S3 server behind a proxy that makes it absent, slow, and cut its answers short."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fault_proxy import Answers, CutsDownload, Fault, FaultProxy, Shortens, fault_proxy
from support.real_run import STEPS, real_run
from support.s3 import minio_server

pytestmark = pytest.mark.long


class Slow(Fault):
    """Every answer takes half a second."""

    async def before_response(self) -> None:
        await asyncio.sleep(0.5)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy in front of MinIO; the environment says where, as in a pod."""
    folder = tmp_path / "minio"
    folder.mkdir()
    with minio_server(folder) as server, fault_proxy(server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("OPT_TEST_BUCKET", server.bucket)
        yield proxy


def test_a_store_that_is_away_slow_and_cuts_its_answers_costs_no_step(
    tmp_path: Path, text: str, real_twin, proxy: FaultProxy
) -> None:
    url = f"s3://{os.environ['OPT_TEST_BUCKET']}/faults"
    with real_run(tmp_path, text, store=url, pace=0.3) as run:
        run.until(lambda s: s["step"] >= 10)
        away_until = time.monotonic() + 8.0
        proxy.spoil(Answers(503, "SlowDown"), lambda _: time.monotonic() < away_until, times=10**6)
        run.until(lambda s: time.monotonic() > away_until)
        slow_until = time.monotonic() + 6.0
        proxy.spoil(Slow(), lambda _: time.monotonic() < slow_until, times=10**6)
        run.until(lambda s: 40 in s["verified"])
        for host in ("host-0", "host-1"):
            run.signal_program(host, signal.SIGKILL)
        run.until(lambda s: s["pausedFor"] == "SparesSpent")
        cut = [proxy.spoil(Shortens(1000), is_checkpoint, times=2), proxy.spoil(CutsDownload(500, True), is_checkpoint)]
        for host in ("host-0", "host-1"):
            run.cluster.host_returns(host)
        entries = run.until_finished()
        assert all(rule.times < 2 for rule in proxy._rules if rule.fault in cut), "answers were cut short"
        assert [entry.cause for entry in entries if entry.rung not in (0, 5)] == []
        assert entries[-1].to_step == STEPS
        assert run.losses() == real_twin


def is_checkpoint(request) -> bool:
    return request.method == "GET" and "/checkpoints/" in request.key and "manifest" not in request.key
