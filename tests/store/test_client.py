"""Pins what is used beneath the `minio` client's public face, so that an update that changes it is seen here first."""

from __future__ import annotations

import inspect
import ssl

import pytest
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

from opt_store import errors
from opt_store.s3.client import Client
from opt_store.s3.connection import DirectResponse
from opt_store.s3.faults import BY_CODE, DamagedError, judge
from opt_store.settings import S3Settings, StoreSettings

pytestmark = pytest.mark.unit


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_private_calls_have_the_parameters_that_are_used():
    used = {"method", "bucket_name", "object_name", "body", "headers", "query_params", "preload_content"}
    assert used <= set(parameters(Minio._execute))
    assert (
        parameters(Minio._build_headers)
        == parameters(Client._build_headers)
        == ["self", "host", "headers", "body", "creds"]
    )


def test_bodies_are_not_signed_and_have_a_length():
    client = Client(S3Settings(endpoint="http://host:1"), StaticProvider("a", "b", "t"), StoreSettings())
    headers, _ = client._build_headers("host", {"x-amz-meta-a": "1"}, b"12345", client._provider.retrieve())
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert (headers["Content-Length"], headers["X-Amz-Security-Token"], headers["x-amz-meta-a"]) == ("5", "t", "1")
    assert "Content-MD5" not in headers


def test_connections_give_up_when_told():
    settings = StoreSettings(connect_timeout_s=3, stall_timeout_s=7)
    client = Client(S3Settings(endpoint="http://host:1"), StaticProvider("a", "b"), settings)
    pool = client._http.connection_from_url("http://host:1")
    assert (pool.timeout.connect_timeout, pool.timeout.read_timeout) == (3, 7)
    assert pool.retries.total is False
    assert pool.ConnectionCls.stall_s == 7
    assert pool.ConnectionCls.response_class is DirectResponse


def s3_error(code: str, status: int) -> S3Error:
    class Response:
        pass

    response = Response()
    response.status = status  # type: ignore[attr-defined]
    return S3Error(response, code, "message", "/r", "id", "host")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", BY_CODE)
def test_a_code_decides_whatever_the_status(code: str):
    assert judge(s3_error(code, 418)) == BY_CODE[code]


@pytest.mark.parametrize(
    ("fault", "kind", "retry"),
    [
        (s3_error("Unheard", 503), errors.Unavailable, True),
        (s3_error("Unheard", 403), errors.AccessDenied, False),
        (s3_error("Unheard", 507), errors.StoreFull, False),
        (s3_error("Unheard", 418), errors.BadEndpoint, False),
        (InvalidResponseError(502, "text/html", "<p>"), errors.Unavailable, True),
        (InvalidResponseError(404, "text/html", "<p>"), errors.BadEndpoint, False),
        (ServerError("507", 507), errors.StoreFull, False),
        (DamagedError("x"), errors.Unavailable, True),
        (ConnectionResetError(), errors.Unavailable, True),
        (TimeoutError(), errors.Unavailable, True),
        (ProtocolError("x", ConnectionResetError()), errors.Unavailable, True),
        (ReadTimeoutError(None, "", "x"), errors.Unavailable, True),  # type: ignore[arg-type]
        (NewConnectionError(None, "refused"), errors.Unreachable, True),  # type: ignore[arg-type]
        (SSLError(ssl.SSLCertVerificationError("x")), errors.BadEndpoint, False),
        (SSLError(ssl.SSLError("bad record")), errors.Unavailable, True),
    ],
)
def test_each_kind_of_fault_has_a_verdict(fault: Exception, kind: type, retry: bool):
    verdict = judge(fault)
    assert verdict is not None
    assert (verdict.kind, verdict.retry) == (kind, retry)


def test_what_is_no_fault_of_the_store_is_let_through():
    assert judge(KeyError("a bug")) is None
