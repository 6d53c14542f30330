"""Parts of ranks become one manifest, or an error that names the tensor."""

from __future__ import annotations

import pytest

from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.sealing import open_sealed
from opt_trainer.checkpoint.writer.assembling import assemble
from support.manifests import manifest_of, parts_of

pytestmark = pytest.mark.unit


def test_parts_join_in_the_order_of_ranks():
    whole = manifest_of(["a", "b"], pieces=4)
    draft = whole.model_copy(update={"objects": (), "tensors": ()})
    joined = assemble(draft, parts_of(whole)[::-1])
    assert joined == whole
    assert open_sealed(joined.to_bytes(), "m") == whole


def with_group(part, **changed):
    return part.model_copy(update={"groups": (part.groups[0].model_copy(update=changed),)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p[:1], "'a': pieces hold 160 elements, the shape"),
        (lambda p: [p[0], p[1].model_copy(update={"groups": p[0].groups})], "'a': the pieces at .* overlap"),
        (lambda p: [p[0], with_group(p[1], dtype="float16")], "'a': rank 1 has float16 .*, a lower rank float32"),
        (lambda p: [p[0], with_group(p[1], names=("a",))], "'b': pieces hold 160 elements"),
    ],
)
def test_what_does_not_fit_is_named(spoil, message):
    whole = manifest_of(["a", "b"])
    with pytest.raises(SaveFailed, match=message):
        assemble(whole, spoil(parts_of(whole)))


def test_the_manifest_grows_with_tensors_plus_ranks_and_not_with_their_product():
    def size(tensors: int, ranks: int) -> int:
        return len(manifest_of([f"t{n}" for n in range(tensors)], rows=4000, pieces=ranks).to_bytes())

    alone = size(1, 1)
    both = size(400, 200) - alone
    assert both < 1.1 * ((size(400, 1) - alone) + (size(1, 200) - alone))
