"""What a person gets wrong: secret, bucket, clock, endpoint; each is named before work starts."""

from __future__ import annotations

import time

import pytest

from opt_store import (
    AccessDenied,
    BadEndpoint,
    ClockSkew,
    Store,
    StoreError,
)
from opt_store.settings import S3Credentials
from support.fault_proxy import (
    AnswersWith,
    FaultProxy,
)
from support.s3 import S3Server
from support.store import open_on

pytestmark = pytest.mark.integration

ALWAYS = 1_000


def test_a_real_wrong_secret_and_a_real_wrong_bucket(server: S3Server, url: str):
    wrong = server.credentials.model_copy(
        update={"secret_key": S3Credentials(access_key="a", secret_key="wrong").secret_key}
    )
    for make, kind in (
        (lambda: open_on(server, url, credentials=wrong), AccessDenied),
        (lambda: open_on(server, "s3://no-such-bucket"), BadEndpoint),
    ):
        for call in (
            lambda s: s.check_access(),
            lambda s: s.stat("a"),
            lambda s: s.exists("a"),
            lambda s: s.put("a", b""),
        ):
            with pytest.raises(kind):
                call(make())


def test_a_real_clock_skew(server: S3Server, url: str, monkeypatch: pytest.MonkeyPatch):
    from datetime import timedelta

    from minio.time import utcnow

    from opt_store.s3 import client

    monkeypatch.setattr(client, "utcnow", lambda: utcnow() - timedelta(hours=1))
    for call in (lambda s: s.check_access(), lambda s: s.stat("a"), lambda s: s.put("a", b""), lambda s: s.get("a")):
        with pytest.raises(ClockSkew, match="clock"):
            call(open_on(server, url))


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["a web page", "no page", "an HTTPS port"],
)
def test_a_server_that_does_not_speak_s3(spoiled: Store, proxy: FaultProxy, response: bytes):
    proxy.spoil(AnswersWith(response), times=ALWAYS)
    with pytest.raises(BadEndpoint, match="http or https"):
        spoiled.check_access()


def test_an_endpoint_where_nothing_listens(server: S3Server, url: str):
    started = time.monotonic()
    with pytest.raises(BadEndpoint, match="nothing answers"):
        open_on(server, url, endpoint="http://127.0.0.1:1").check_access()
    with pytest.raises(BadEndpoint, match="nothing answers"):
        open_on(server, url, endpoint="http://no-such-host.invalid").check_access()
    assert time.monotonic() - started < 60
    with pytest.raises(BadEndpoint, match="http or https"):
        open_on(server, url, endpoint=server.endpoint.replace("http:", "https:")).check_access()
    with pytest.raises(StoreError, match="nothing answers"):
        open_on(server, url, endpoint="http://127.0.0.1:1").get("a")
