"""The `minio` client, with the few seams that the store needs: own connections, own payload headers.

The client signs, builds URLs and reads S3's errors. Its public calls have no argument for a conditional put, hash or
copy each body on the way, and wait up to five minutes; `_execute` beneath them has none of this. It is private, so
`tests/store/test_client.py` pins what is used of it.
"""

from datetime import datetime
from typing import cast

import certifi
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider
from minio.time import to_amz_date, utcnow
from urllib3.response import HTTPResponse
from urllib3.util import parse_url

from opt_store.errors import BadEndpoint
from opt_store.s3.connection import pool
from opt_store.settings import S3Settings, StoreSettings

UNSIGNED = "UNSIGNED-PAYLOAD"
"""Bodies carry a CRC-32 that the server checks, so that a signature over them would only cost another pass."""


_Headers = dict[str, str | list[str] | tuple[str]]


class Client(Minio):
    """One request at a time, without retries."""

    def __init__(self, where: S3Settings, provider: Provider, settings: StoreSettings) -> None:
        host, secure = _host(where.endpoint)
        super().__init__(
            endpoint=host,
            secure=secure,
            region=where.region,
            credentials=provider,
            http_client=pool(
                connect_s=settings.connect_timeout_s,
                stall_s=settings.stall_timeout_s,
                ca_file=str(where.ca_file or certifi.where()),
                connections=2 * settings.parallel,
            ),
        )
        if not where.path_style:
            self._base_url.virtual_style_flag = True

    def request(
        self,
        method: str,
        bucket: str,
        key: str | None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> HTTPResponse:
        """Make one signed request and return its response, whose body is still to be read.

        Raises:
            MinioException, urllib3.exceptions.HTTPError: As the client does; `faults.judge` knows them.
        """
        response = self._execute(
            method,
            bucket_name=bucket,
            object_name=key,
            body=cast("bytes | None", body),  # a view is sent without a copy
            headers=dict(headers or {}),
            query_params=dict(query or {}),
            preload_content=False,
        )
        assert isinstance(response, HTTPResponse)
        return response

    def _build_headers(
        self, host: str, headers: _Headers | None = None, body: bytes | None = None, creds: Credentials | None = None
    ) -> tuple[_Headers, datetime]:
        """Replace the client's own, which hashes every body once or twice."""
        now = utcnow()
        built = dict(headers or {})
        built |= {"Host": host, "User-Agent": self._user_agent, "x-amz-content-sha256": UNSIGNED}
        built |= {"x-amz-date": to_amz_date(now)}
        if body is not None:
            built["Content-Length"] = str(len(body))
        if creds and creds.session_token:
            built["X-Amz-Security-Token"] = creds.session_token
        return built, now


def _host(endpoint: str) -> tuple[str, bool]:
    allowed = "allowed is http(s)://host[:port] without a path"
    try:
        url = parse_url(endpoint)
    except ValueError as fault:
        raise BadEndpoint(f"S3 endpoint {endpoint!r}: it is no URL; {allowed}") from fault
    if url.scheme not in {"http", "https"} or not url.host or url.auth or url.path not in {None, "", "/"} or url.query:
        raise BadEndpoint(f"S3 endpoint {_without_secret(endpoint)!r}: {allowed}")
    return (url.netloc or url.host), url.scheme == "https"


def _without_secret(endpoint: str) -> str:
    """Cut a user and password out of what is shown."""
    scheme, mark, rest = endpoint.partition("://")
    return scheme + mark + rest.rpartition("@")[2]
