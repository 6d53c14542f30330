"""From a URL to a store."""
# ruff: noqa: PLC0415 - a folder needs no client for S3, which takes 0.15 s to import

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from opt_store.errors import BadEndpoint
from opt_store.folder import FolderStore
from opt_store.interface import Store
from opt_store.keys import check_key
from opt_store.settings import S3Credentials, S3Settings, StoreSettings

SCHEMES = ("file://", "s3://")
"""How addresses in a store begin."""


def open_store(
    url: str,
    *,
    s3: S3Settings | None = None,
    credentials: S3Credentials | None = None,
    settings: StoreSettings | None = None,
) -> Store:
    """Open the store at `url`; nothing is contacted yet (see `Store.check_access`).

    Args:
        url: ``file:///absolute/folder`` or ``s3://bucket/prefix``; keys are relative to it.
        s3: Where the server is; None for the environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE).
        credentials: Who is calling; None for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
            AWS_SESSION_TOKEN, or a folder of files with these names in OPT_STORE_CREDENTIALS_DIR).
        settings: Sizes, time-outs, retries.

    Raises:
        BadEndpoint: The URL is of another kind, or a part of it is missing.
    """
    parts, settings = urlsplit(url), settings or StoreSettings()
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and not parts.query and not parts.fragment:
        from opt_store.s3 import S3Store
        from opt_store.s3.credentials import provider_of
        from opt_store.s3.wire import Wire

        prefix = unquote(parts.path).strip("/")
        where = s3 or s3_from_environment(os.environ)
        wire = Wire(parts.netloc, f"{check_key(prefix)}/" if prefix else "", where, provider_of(credentials), settings)
        return S3Store(wire)
    raise BadEndpoint(f"store URL {url!r}: allowed are 'file:///absolute/folder' and 's3://bucket/prefix'")


def open_object(url: str) -> tuple[Store, str]:
    """Open the store in whose folder an object lies; the key is the last part of `url`.

    Raises:
        BadEndpoint: See `open_store`.
    """
    folder, _, name = url.rpartition("/")
    return open_store(folder), name


def s3_from_environment(environment: Mapping[str, str]) -> S3Settings:
    """Read where the S3 server is, from the variables that Amazon's own tools use.

    Raises:
        BadEndpoint: No endpoint is given.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        raise BadEndpoint("S3 endpoint: none is given; set AWS_ENDPOINT_URL to http(s)://host[:port]")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    ca_file = environment.get("AWS_CA_BUNDLE")
    return S3Settings(endpoint=endpoint, region=region, ca_file=Path(ca_file) if ca_file else None)
