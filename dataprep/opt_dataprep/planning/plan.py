"""The plan document: objects, parts, and every setting that shapes the result."""

from __future__ import annotations

from opt_api.documents.dataprep import DataprepPlan, Part, PlannedObject
from opt_api.training.data import DataSpec
from opt_dataprep.code_version import code_versions
from opt_dataprep.dedup.minhash import minhash_version
from opt_dataprep.errors import BadInput
from opt_dataprep.planning.listing import list_objects
from opt_dataprep.planning.split import split_objects
from opt_dataprep.tokens.tokenizer_stage import pinned


def make_plan(data: DataSpec) -> DataprepPlan:
    """List the sources and cut them into parts.

    Raises:
        BadInput: A source has no objects, or it or the tokenizer's files cannot be read as what they claim to be.
        StoreError: A source's or the tokenizer's store cannot be read.
    """
    data = shaping(data)
    objects: list[PlannedObject] = []
    parts: list[Part] = []
    for number, source in enumerate(data.sources or ()):
        found = list(list_objects(source))
        fresh = list(split_objects(found, len(objects), number, data.part_bytes))
        if not fresh:
            raise BadInput(f"source {source.name!r} ({source.uri})", None, "no rows in any of its objects")
        parts += fresh
        objects += found
    return DataprepPlan(
        data=data,
        objects=tuple(objects),
        parts=tuple(parts),
        code={**code_versions(), "minhash": minhash_version()},
    )


def shaping(data: DataSpec) -> DataSpec:
    """The spec with the fields that do not shape the result at their defaults, and the tokenizer's files pinned."""
    defaults = DataSpec.model_fields
    changes: dict[str, object] = {name: defaults[name].default for name in ("workers", "skip_batches")}
    tokenizer = data.tokenizer
    if tokenizer is not None and tokenizer.files is not None:
        changes["tokenizer"] = tokenizer.model_copy(update={"files": pinned(tokenizer.files)})
    return data.model_copy(update=changes)
