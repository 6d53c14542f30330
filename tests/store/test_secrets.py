"""Planted secrets turn up nowhere: no log, no error, no traceback with variables, no repr, no file."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from opt_store import S3Credentials, Store, StoreError, open_store
from opt_store.s3.credentials import provider_of
from support.fault_proxy import Answers, AnswersWith, CutsDownload, FaultProxy, LosesAnswer
from support.s3 import S3Server
from support.store import QUICK, open_on

pytestmark = pytest.mark.integration

TOKEN = "canary-session-token-7b1f"
FAULTS = {
    "ExpiredToken": Answers(400, "ExpiredToken"),
    "SignatureDoesNotMatch": Answers(403, "SignatureDoesNotMatch"),
    "InternalError": Answers(500, "InternalError"),
    "no XML": AnswersWith(b"HTTP/1.1 418 Teapot\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n<p"),
    "reset": LosesAnswer(),
    "cut": CutsDownload(0, hard=False),
}


def told_by(fault: BaseException) -> str:
    """Return everything that a log or an error reporter could show of a fault, variables of all frames included."""
    whole = traceback.TracebackException.from_exception(fault, capture_locals=True)
    return "".join(whole.format()) + repr(fault) + str(fault) + repr(vars(fault))


def reprs_below(thing: object, seen: set[int] | None = None) -> str:
    """Return the repr of an object and of all objects that can be reached through its attributes, but not of bare
    text: somewhere a key must be kept."""
    seen = set() if seen is None else seen
    if isinstance(thing, str | type) or id(thing) in seen or callable(thing):
        return ""
    seen.add(id(thing))
    return repr(thing) + "".join(reprs_below(value, seen) for value in getattr(thing, "__dict__", {}).values())


@pytest.mark.parametrize("name", FAULTS)
def test_no_secret_is_told(
    server: S3Server,
    url: str,
    proxy: FaultProxy,
    name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    caplog.set_level(logging.DEBUG)
    open_on(server, url).upload("there", [memoryview(os.urandom(11 << 20))])
    credentials = S3Credentials(access_key=server.access_key, secret_key=server.secret_key, session_token=TOKEN)
    store: Store = open_on(server, url, endpoint=proxy.endpoint, credentials=credentials)
    proxy.spoil(FAULTS[name], times=10_000)
    calls: list[Callable[[], object]] = [
        lambda: store.get("there"),
        lambda: store.put("new", b"x"),
        lambda: store.upload("new", [memoryview(os.urandom(6 << 20))]),
        lambda: store.download("there", tmp_path / "f"),
        lambda: list(store.list()),
        store.check_access,
    ]
    told = [repr(store), repr(credentials), credentials.model_dump_json(), str(credentials), reprs_below(store)]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        told.append(told_by(caught.value))
    told += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    told += [caplog.text, *map(repr, caplog.records), *capfd.readouterr()]
    assert any("there" in text for text in told)
    for secret in (server.secret_key, TOKEN):
        leaks = [text[max(0, text.find(secret) - 200) :][:400] for text in told if secret in text]
        assert leaks == []


def test_a_client_in_the_middle_of_a_request_does_not_show_its_keys(server: S3Server):
    """What a debugger or a crash report would print of the signing frames."""
    credentials = S3Credentials(access_key=server.access_key, secret_key=server.secret_key, session_token=TOKEN)
    provider = provider_of(credentials)
    assert server.secret_key not in reprs_below(provider) + repr(provider.retrieve())
    assert TOKEN not in reprs_below(provider) + repr(provider.retrieve())


@pytest.mark.parametrize("endpoint", ["http://user:canary-in-url@host", "http://user:canary-in-url@host:1/path?x=1"])
def test_a_secret_in_the_endpoint_is_refused_and_not_repeated(server: S3Server, url: str, endpoint: str):
    with pytest.raises(StoreError) as caught:
        open_on(server, url, endpoint=endpoint)
    assert "canary-in-url" not in told_by_message(caught.value)


def test_a_secret_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(StoreError) as caught:
        open_store("s3://user:canary-in-url@bucket/prefix", settings=QUICK)
    assert "canary-in-url" not in told_by_message(caught.value)


def told_by_message(fault: BaseException) -> str:
    return str(fault) + repr(fault)
