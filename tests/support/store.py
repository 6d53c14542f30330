"""How tests open a store on a server under test."""

from __future__ import annotations

from opt_store import S3Credentials, Store, StoreSettings, open_store
from support.s3 import S3Server

MIB = 1 << 20
QUICK = StoreSettings(
    part_bytes=5 * MIB,
    parallel=3,
    stall_timeout_s=1.0,
    part_timeout_s=4.0,
    connect_timeout_s=2.0,
    backoff_s=0.02,
    backoff_limit_s=0.1,
)
"""Small parts, so that a few MiB are many; short waits, so that a stall ends soon."""


def open_on(
    server: S3Server,
    url: str,
    *,
    endpoint: str | None = None,
    credentials: S3Credentials | None = None,
    settings: StoreSettings = QUICK,
) -> Store:
    """Open a URL on a server, or on what stands at `endpoint` before it."""
    where = server.settings.model_copy(update={"endpoint": endpoint or server.endpoint})
    return open_store(url, s3=where, credentials=credentials or server.credentials, settings=settings)
