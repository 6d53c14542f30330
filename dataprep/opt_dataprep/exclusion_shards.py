"""Samples of what was dropped, one Arrow file a reason, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from opt_dataprep.steps.exclusions import EXCLUDED, to_ipc
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import commits_of, read
from opt_dataprep.work.stage import Task

PER_REASON = 200
"""Samples of one reason kept in the data set: the first ones, part by part."""


def write_exclusions(task: Task) -> None:
    """Write `exclusions/<reason>.arrow` for every reason that dropped a document."""
    for reason, table in exclusion_tables(task.preparation):
        task.publish(f"exclusions/{reason}.arrow", [to_ipc(table)])


def exclusion_tables(preparation: Preparation) -> Iterator[tuple[str, pa.Table]]:
    """Yield each reason, by name, with its samples."""
    parts = range(len(preparation.plan.parts))
    every = pa.concat_tables([_of_part(preparation, stage, i) for stage in ("read", "tokenise") for i in parts])
    for reason in sorted({str(reason) for reason in every["reason"].to_pylist()}):
        chosen = every.filter(pc.equal(every["reason"], pa.scalar(reason)))
        yield reason, chosen.slice(0, PER_REASON).combine_chunks()


def _of_part(preparation: Preparation, stage: str, part: int) -> pa.Table:
    """The part's samples, their slices turned into objects of the manifest."""
    commit = commits_of(preparation, stage)[part]
    table = pa.ipc.open_file(read(preparation, commit, EXCLUDED)).read_all()
    objects = [piece.object for piece in preparation.plan.parts[part].slices]
    column = pa.array([objects[int(i)] for i in table["slice"].to_numpy()], pa.uint32())
    return table.set_column(table.schema.get_field_index("slice"), "object", column)
