"""Finding a source's objects: a file, or all that match a pattern below a folder or prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator

from opt_api.documents.dataprep import Compression, Framing, PlannedObject
from opt_api.training.data import Source
from opt_dataprep.errors import BadInput
from opt_dataprep.sources.uris import split_uri, store_at
from opt_store import BadEndpoint, NotFound, ObjectInfo

_SUFFIXES: tuple[tuple[str, Framing], ...] = (
    (".jsonl", "jsonl"),
    (".ndjson", "jsonl"),
    (".json", "jsonl"),
    (".parquet", "parquet"),
    (".arrow", "arrow"),
    (".feather", "arrow"),
    (".ipc", "arrow"),
)
_COMPRESSIONS: tuple[tuple[str, Compression], ...] = ((".gz", "gzip"), (".zst", "zstd"))


def list_objects(source: Source) -> Iterator[PlannedObject]:
    """Yield the objects of a source in the order of their keys' bytes.

    Raises:
        BadInput: There is none, or none with content.
        StoreError: The store cannot be read.
    """
    uri, infos = _find(source)
    framings = [(info, *framing_of(info.key, source)) for info in infos if info.size]
    if not framings:
        raise BadInput(
            f"source {source.name!r} ({source.uri}, pattern {source.pattern!r})",
            None,
            f"no object with content among {len(infos)} found; correct the uri or pattern, or remove the source",
        )
    for info, framing, compression in framings:
        etag = info.etag
        yield PlannedObject(uri=uri, key=info.key, etag=etag, size=info.size, framing=framing, compression=compression)


def framing_of(key: str, source: Source) -> tuple[Framing, Compression]:
    """Tell how documents are framed and packed, by the object's name; a declared format overrides the former."""
    name = key.lower()
    compression: Compression = next((c for suffix, c in _COMPRESSIONS if name.endswith(suffix)), "none")
    stem = name if compression == "none" else name.rpartition(".")[0]
    by_name: Framing = next((f for suffix, f in _SUFFIXES if stem.endswith(suffix)), "text")
    framing = by_name if source.format == "auto" else source.format
    return framing, "none" if framing in {"parquet", "arrow"} else compression


def glob_expression(pattern: str) -> re.Pattern[str]:
    """Compile a glob over keys: `**` crosses folders, `*` and `?` do not, `[...]` is a set."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern)
    sets = re.compile(r"\[(!?)([^\]]+)\]")
    return re.compile("".join(tokens.get(p) or _set_or_literal(sets.fullmatch(p), p) for p in parts) + r"\Z", re.DOTALL)


def _set_or_literal(found: re.Match[str] | None, text: str) -> str:
    if found is None:
        return re.escape(text)
    return f"[{'^' if found[1] else ''}{found[2].replace(chr(92), chr(92) * 2)}]"


def _find(source: Source) -> tuple[str, list[ObjectInfo]]:
    parent, key = split_uri(source.uri)
    if key:
        single = _single(parent, key)
        if single is not None:
            return parent, [single]
    folder = source.uri.rstrip("/")
    store, wanted = store_at(folder), glob_expression(source.pattern)
    try:
        store.check_access(write=False)
    except BadEndpoint as fault:
        raise BadInput(f"source {source.name!r} ({source.uri})", None, str(fault)) from fault
    return folder, [info for info in store.list() if wanted.match(info.key)]


def _single(parent: str, key: str) -> ObjectInfo | None:
    try:
        return store_at(parent).stat(key)
    except NotFound:
        return None
