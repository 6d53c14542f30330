"""Source URIs: the store each is in, the key there, and the way back."""

from __future__ import annotations

import functools
from urllib.parse import quote, unquote, urlsplit

from opt_api.documents.dataprep import PlannedObject
from opt_store import Store, open_store


@functools.lru_cache(maxsize=64)
def store_at(uri: str) -> Store:
    """Open the store at `uri`, once per process."""
    return open_store(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """Return the URI of the folder and the key in it."""
    parts = urlsplit(uri)
    folder, _, name = parts.path.rstrip("/").rpartition("/")
    clean = unquote(name) if parts.scheme == "file" else name
    return f"{parts.scheme}://{parts.netloc}{folder or ('/' if parts.scheme == 'file' else '')}", clean


def object_uri(planned: PlannedObject) -> str:
    """The object's own URI, for people and manifests."""
    return f"{planned.uri.rstrip('/')}/{quote(planned.key)}"
