"""Whole small objects and their headers: the calls that take one request each."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from minio.error import S3Error

from opt_store.digest import finish, finish_checksum, hasher, is_checksum, is_digest, summer
from opt_store.errors import NotFound, PreconditionFailed, StoreError
from opt_store.interface import ObjectInfo
from opt_store.keys import RESERVED
from opt_store.s3.retry import again
from opt_store.s3.wire import Crc32, Wire
from opt_store.s3.xml import Page, read_page
from opt_store.source import feed

DIGEST, CHECKSUM = "x-amz-meta-opt-digest", "x-amz-meta-opt-checksum"
CONTENT_TYPE = {"Content-Type": "application/octet-stream"}


def info_of(key: str, headers: Mapping[str, str], size: int | None = None) -> ObjectInfo:
    """Read what the headers of a GET or HEAD say of an object (names in lower case)."""
    digest, checksum = headers.get(DIGEST), headers.get(CHECKSUM)
    total = int(headers["content-length"]) if size is None else size
    return ObjectInfo(
        key,
        total,
        headers.get("etag", "").strip('"'),
        digest if is_digest(digest) else None,
        checksum if is_checksum(checksum) else None,
    )


def stat(wire: Wire, key: str) -> ObjectInfo:
    """See `Store.stat`.

    The answer to HEAD has no body, so that a missing bucket looks like a missing object, and a wrong clock like a wrong
    key; a GET of one byte then names the cause.
    """
    try:
        return info_of(key, wire.call("HEAD", key).headers)
    except StoreError as fault:
        if fault.transient:
            raise
        wire.call("GET", key, headers={"Range": "bytes=0-0"})
    return info_of(key, wire.call("HEAD", key).headers)


def put(wire: Wire, key: str, body: memoryview, *, if_absent: bool = False, if_match: str | None = None) -> ObjectInfo:
    """See `Store.put`."""
    sha, xxh, crc = hasher(), summer(), Crc32()
    feed([body], sha, xxh, crc)
    digest, checksum = finish(sha), finish_checksum(xxh)
    headers = {**CONTENT_TYPE, DIGEST: digest, CHECKSUM: checksum}
    if if_absent:
        headers["If-None-Match"] = "*"
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'

    def act(attempt: int) -> ObjectInfo:
        try:
            etag = wire.send(key, body, crc.written(), query={}, headers=headers)
        except S3Error as fault:
            # The answer to an earlier attempt may have been lost after the object was written.
            if attempt and fault.code == "PreconditionFailed" and (found := written(wire, key, digest)):
                return found
            raise
        return ObjectInfo(key, body.nbytes, etag, digest, checksum)

    try:
        return again(wire.name(key), wire.settings, act)
    except NotFound as fault:  # what Amazon answers to If-Match where there is nothing
        if if_match is None:
            raise
        raise PreconditionFailed(f"{wire.name(key)}: it is gone, expected etag {if_match}") from fault


def written(wire: Wire, key: str, digest: str) -> ObjectInfo | None:
    """Return the object if its content has this digest."""
    try:
        found = stat(wire, key)
    except NotFound:
        return None
    return found if found.digest == digest else None


def listing(wire: Wire, prefix: str) -> Iterator[ObjectInfo]:
    """Yield objects page by page, in the server's order, without the store's own and without folder markers."""
    query = {"list-type": "2", "prefix": wire.prefix + prefix}
    while True:
        page = _page(wire, query)
        for name, size, etag in page.entries:
            key = name.removeprefix(wire.prefix)
            if RESERVED not in key.split("/") and not key.endswith("/"):
                yield ObjectInfo(key, size, etag)
        if page.next_token is None:
            return
        query = {**query, "continuation-token": page.next_token}


def _page(wire: Wire, query: dict[str, str]) -> Page:
    return again(wire.name(None), wire.settings, lambda _: read_page(wire.once("GET", None, query=query).body))


def read_note(wire: Wire, key: str) -> dict[str, Any] | None:
    """Read one of the store's own small JSON objects; None if there is none, or none that can be read."""
    try:
        note = json.loads(wire.call("GET", key).body)
    except (NotFound, ValueError):
        return None
    return note if isinstance(note, dict) else None


def write_note(wire: Wire, key: str, note: dict[str, Any]) -> None:
    """Write one of the store's own small JSON objects."""
    put(wire, key, memoryview(json.dumps(note).encode()))
