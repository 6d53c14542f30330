"""One bucket and prefix on one server: requests with retries, bodies in both directions with their checks."""

import base64
import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from isal import isal_zlib
from minio.credentials.providers import Provider
from urllib3.response import HTTPResponse

from opt_store.digest import Buffer, Hasher
from opt_store.s3.client import Client
from opt_store.s3.connection import DirectResponse
from opt_store.s3.faults import DamagedError
from opt_store.s3.retry import again
from opt_store.settings import S3Settings, StoreSettings

_BLOCK = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
CRC32 = "x-amz-checksum-crc32"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Requests to one bucket, under one prefix."""

    def __init__(
        self, bucket: str, prefix: str, where: S3Settings, provider: Provider, settings: StoreSettings
    ) -> None:
        self.bucket, self.prefix, self.endpoint, self.settings = bucket, prefix, where.endpoint, settings
        self._where, self._provider = where, provider
        self._client, self._process = Client(where, provider, settings), os.getpid()

    def with_settings(self, settings: StoreSettings) -> "Wire":
        """Return the same bucket with other patience."""
        return Wire(self.bucket, self.prefix, self._where, self._provider, settings)

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def name(self, key: str | None) -> str:
        """Return how messages call an object, or the bucket itself."""
        what = f"object {self.prefix + key!r} in bucket" if key is not None else "bucket"
        return f"{what} {self.bucket!r} at {self.endpoint}"

    def call(
        self,
        method: str,
        key: str | None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> Answer:
        """Make a request, try again as the table of faults says, and return the whole answer.

        Raises:
            StoreError: See `opt_store.errors`.
        """
        return again(
            self.name(key), self.settings, lambda _: self.once(method, key, query=query, headers=headers, body=body)
        )

    def once(
        self,
        method: str,
        key: str | None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> Answer:
        """As `call`, but a single attempt that raises the client's own faults."""
        response = self.open(method, key, query=query, headers=headers, body=body)
        try:
            content = response.read()
        finally:
            response.release_conn()
        return Answer({name.lower(): value for name, value in response.headers.items()}, content)

    def send(self, key: str, body: memoryview, checksum: str, *, query: dict[str, str], headers: dict[str, str]) -> str:
        """Put a body with its CRC-32 once and make sure it arrived as it is here; return its etag.

        The server checks the CRC-32 and says so by returning it. One that does not know of it returns an etag, which
        is the MD5 of the body on all but encrypted buckets.

        Raises:
            DamagedError: It arrived differently.
        """
        answer = self.once("PUT", key, query=query, headers={**headers, CRC32: checksum}, body=body)
        etag = answer.headers.get("etag", "").strip('"')
        seen = answer.headers.get(CRC32)
        if seen is None and _MD5.fullmatch(etag):
            seen, wanted = etag, hashlib.md5(body, usedforsecurity=False).hexdigest()
        else:
            wanted = checksum
        if seen not in {None, wanted}:
            raise DamagedError(f"the server received a body with checksum {seen}, sent was {wanted}")
        return etag

    def open(
        self,
        method: str,
        key: str | None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> HTTPResponse:
        """Make a request once; the body of the response is still to be read."""
        if os.getpid() != self._process:  # a forked child must not talk over its parent's connections
            self._client, self._process = Client(self._where, self._provider, self.settings), os.getpid()
        path = None if key is None else self.prefix + key
        return self._client.request(method, self.bucket, path, query=query, headers=headers, body=body)

    def receive(self, response: HTTPResponse, buffer: memoryview, running: Hasher | None = None) -> None:
        """Fill `buffer` with the body of a response and give its connection back when it is used up.

        Args:
            response: As `open` returns it.
            buffer: Its size is that of the body, or of as much of it as is wanted.
            running: Takes in each piece as it comes, while it is in the cache.

        Raises:
            DamagedError: The body ended early, or dripped longer than one part may take.
        """
        raw = response._original_response  # the one way past urllib3's copies
        assert isinstance(raw, DirectResponse)
        try:
            self._fill(raw, buffer, running)
        except BaseException:
            response.close()
            raise
        if raw.length:
            response.close()  # more follows that is not wanted
        response.release_conn()

    def _fill(self, raw: DirectResponse, buffer: memoryview, running: Hasher | None) -> None:
        deadline, done = time.monotonic() + self.settings.part_timeout_s, 0
        while done < buffer.nbytes:
            count = raw.receive_into(buffer[done : done + _BLOCK])
            if not count:
                raise DamagedError(f"the body ended after {done} of {buffer.nbytes} bytes")
            if running is not None:
                running.update(buffer[done : done + count])
            done += count
            if time.monotonic() > deadline and done < buffer.nbytes:
                raise DamagedError(f"only {done} of {buffer.nbytes} bytes came in {self.settings.part_timeout_s} s")


class Crc32:
    """A running CRC-32."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        """Take in more bytes."""
        self._value = isal_zlib.crc32(data, self._value)

    def written(self) -> str:
        """Return it as S3 writes it: four bytes, big end first, in base 64."""
        return base64.b64encode(self._value.to_bytes(4, "big")).decode()


def crc32(data: memoryview) -> str:
    """Return the CRC-32 of data as S3 writes it."""
    running = Crc32()
    running.update(data)
    return running.written()
