"""Parts of ranks become one manifest, or an error that names the tensor."""

from __future__ import annotations

import pytest

from opt_api.documents.manifests import TensorEntry
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import CheckpointPart
from opt_trainer.checkpoint.sealing import open_sealed
from opt_trainer.checkpoint.writer.gathering import assemble
from support.manifests import manifest_of

pytestmark = pytest.mark.unit


def parts_of(manifest):
    def own(entry: TensorEntry, rank: int) -> TensorEntry:
        mine = tuple(s.model_copy(update={"object": 0}) for s in entry.slices if s.object == rank)
        return entry.model_copy(update={"slices": mine})

    return [
        CheckpointPart(rank=rank, object=entry, tensors=tuple(own(t, rank) for t in manifest.tensors))
        for rank, entry in enumerate(manifest.objects)
    ]


def test_parts_join_in_the_order_of_ranks():
    whole = manifest_of(["a", "b"], pieces=4)
    draft = whole.model_copy(update={"objects": (), "tensors": ()})
    joined = assemble(draft, parts_of(whole)[::-1])
    assert joined == whole
    assert open_sealed(joined.to_bytes(), "m") == whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[:1], "'a': pieces hold 160 elements, the shape"),
        (lambda p: [p[0], p[1].model_copy(update={"tensors": p[0].tensors})], "'a': the pieces at .* overlap"),
        (
            lambda p: [
                p[0],
                p[1].model_copy(update={"tensors": (p[1].tensors[0].model_copy(update={"dtype": "float16"}),)}),
            ],
            "'a': rank 1 has float16 .*, a lower rank float32",
        ),
    ],
)
def test_what_does_not_fit_is_named(spoil, message):
    whole = manifest_of(["a"])
    with pytest.raises(SaveFailed, match=message):
        assemble(whole, spoil(parts_of(whole)))
