"""The few XML documents of S3 that the store reads and writes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from opt_store.s3.faults import DamagedError


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart upload; the checksum is None where the server does not keep it."""

    number: int
    size: int
    etag: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: (key, size, etag) each, and the token of the next page."""

    entries: list[tuple[str, int, str]]
    next_token: str | None


def read_page(body: bytes) -> Page:
    """Read a ListObjectsV2 result."""
    root = _root(body, "ListBucketResult")
    entries = [(_text(e, "Key"), int(_text(e, "Size")), _etag(e)) for e in _all(root, "Contents")]
    more = _text(root, "IsTruncated", "false") == "true"
    return Page(entries, _text(root, "NextContinuationToken") if more else None)


def read_parts(body: bytes) -> tuple[list[Part], str | None]:
    """Read a ListParts result: the parts, and the marker of the next page."""
    root = _root(body, "ListPartsResult")
    parts = [
        Part(int(_text(e, "PartNumber")), int(_text(e, "Size")), _etag(e), _text(e, "ChecksumCRC32", "") or None)
        for e in _all(root, "Part")
    ]
    more = _text(root, "IsTruncated", "false") == "true"
    return parts, (_text(root, "NextPartNumberMarker") if more else None)


def read_upload_id(body: bytes) -> str:
    """Read an InitiateMultipartUpload result."""
    return _text(_root(body, "InitiateMultipartUploadResult"), "UploadId")


def read_completion(body: bytes) -> str:
    """Read a CompleteMultipartUpload result, which can be an error although its status is 200; return the etag.

    Raises:
        DamagedError: It is an error, or nothing that can be read; whether the object is there must be looked up.
    """
    return _etag(_root(body, "CompleteMultipartUploadResult"))


def write_completion(parts: Iterable[Part]) -> bytes:
    """Write a CompleteMultipartUpload request."""
    items = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>"
        f"<ChecksumCRC32>{part.checksum}</ChecksumCRC32></Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


def _root(body: bytes, wanted: str) -> ET.Element:
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat of the pinned Python is safe from entity expansion
    except ET.ParseError as fault:
        raise DamagedError(f"{wanted} expected, found unreadable XML: {fault}") from fault
    if _local(root.tag) != wanted:
        code = "".join(element.text or "" for element in root if _local(element.tag) == "Code")
        raise DamagedError(f"{wanted} expected, found {_local(root.tag)} {code}")
    return root


def _all(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element if _local(child.tag) == name)


def _text(element: ET.Element, name: str, default: str | None = None) -> str:
    found = next(_all(element, name), None)
    if found is None or found.text is None:
        if default is None:
            raise DamagedError(f"<{name}> is missing in <{_local(element.tag)}>")
        return default
    return found.text


def _etag(element: ET.Element) -> str:
    return _text(element, "ETag", "").strip('"')


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
