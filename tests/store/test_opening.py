"""From a URL, an environment and settings to a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from opt_store import (
    AccessDenied,
    BadEndpoint,
    BadKey,
    Corrupt,
    NotFound,
    S3Credentials,
    S3Settings,
    Store,
    StoreSettings,
    open_store,
)
from opt_store.opening import s3_from_environment
from opt_store.s3.credentials import DIRECTORY, provider_of

pytestmark = pytest.mark.unit
WHERE, WHO = S3Settings(endpoint="http://127.0.0.1:1"), S3Credentials(access_key="a", secret_key="b")


def test_a_folder(tmp_path: Path):
    store = open_store(tmp_path.as_uri())
    assert isinstance(store, Store)
    assert store.url == tmp_path.as_uri()
    with pytest.raises(NotFound):
        store.get("a")


def test_a_folder_that_is_not_there(tmp_path: Path):
    store = open_store((tmp_path / "none").as_uri())
    for call in (store.check_access, lambda: store.put("a", b"")):
        with pytest.raises(BadEndpoint, match="does not exist"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("url", "shown"), [("s3://bucket", "s3://bucket"), ("s3://bucket/a/b/", "s3://bucket/a/b")])
def test_a_bucket(url: str, shown: str):
    store = open_store(url, s3=WHERE, credentials=WHO)
    assert isinstance(store, Store)
    assert store.url == shown


@pytest.mark.parametrize(
    "url",
    ["", "bucket", "/folder", "http://host/bucket", "s3://", "s3:///a", "file://host/a", "file:a", "s3://b/a?x=1"],
)
def test_other_urls_are_refused(url: str):
    with pytest.raises(BadEndpoint, match="allowed are"):
        open_store(url, s3=WHERE, credentials=WHO)


def test_a_prefix_that_no_key_could_have():
    with pytest.raises(BadKey):
        open_store("s3://bucket/../a", s3=WHERE, credentials=WHO)


@pytest.mark.parametrize(
    "endpoint", ["", "host:9000", "ftp://host", "http://", "http://host/path", "http://u:p@host", "http://host?x=1"]
)
def test_an_endpoint_of_another_form(endpoint: str):
    with pytest.raises(BadEndpoint, match="endpoint"):
        open_store("s3://bucket", s3=S3Settings(endpoint=endpoint), credentials=WHO)


def test_settings_from_the_environment():
    found = s3_from_environment({"AWS_ENDPOINT_URL": "http://a", "AWS_REGION": "r", "AWS_CA_BUNDLE": "/ca.pem"})
    assert found == S3Settings(endpoint="http://a", region="r", ca_file=Path("/ca.pem"))
    assert (
        s3_from_environment({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"}).endpoint == "http://b"
    )
    with pytest.raises(BadEndpoint, match="AWS_ENDPOINT_URL"):
        s3_from_environment({})


def test_credentials_from_the_environment():
    found = provider_of(None, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}).retrieve()
    assert (found.access_key, found.secret_key, found.session_token) == ("a", "b", None)
    with pytest.raises(AccessDenied, match="AWS_SECRET_ACCESS_KEY is missing or empty in the environment"):
        provider_of(None, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": ""})


def test_credentials_from_a_mounted_secret_are_read_again_when_it_changes(tmp_path: Path):
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("a\n")
    provider = provider_of(None, {DIRECTORY: str(tmp_path)})
    with pytest.raises(AccessDenied, match=f"AWS_SECRET_ACCESS_KEY is missing or empty in folder {tmp_path}"):
        provider.retrieve()
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("b")
    assert provider.retrieve().session_token is None
    (tmp_path / "AWS_SESSION_TOKEN").write_text("t")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("c")
    assert (provider.retrieve().secret_key, provider.retrieve().session_token) == ("c", "t")


@pytest.mark.parametrize(
    "given", [{}, {"access_key": "a"}, {"secret_key": "b"}, {"access_key": "a", "secret_key": "b", "directory": "/d"}]
)
def test_credentials_are_given_one_way(given: dict[str, str]):
    with pytest.raises(ValidationError, match="either access_key and secret_key, or directory"):
        S3Credentials(**given)


def test_settings_have_limits():
    for wrong in ({"part_bytes": 1000}, {"parallel": 0}, {"attempts": 0}, {"stall_timeout_s": 0}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            StoreSettings(**wrong)


def test_a_folder_of_a_store_opened_by_itself_has_its_digests(tmp_path: Path):
    outer = open_store(tmp_path.as_uri())
    written = outer.put("runs/a/weights", b"0123456789")
    inner = open_store((tmp_path / "runs" / "a").as_uri())
    assert inner.stat("weights").digest == written.digest
    path, then = tmp_path / "runs/a/weights", (tmp_path / "runs/a/weights").stat()
    path.write_bytes(b"0123456788")
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    with pytest.raises(Corrupt, match="weights"):
        inner.get("weights")
    path.write_bytes(b"other")
    assert inner.stat("weights").digest is None
