"""A rank asks for the bytes it needs, rounded to chunks, and for no others."""

from __future__ import annotations

import pytest
import torch

from opt_trainer.checkpoint.boxes import Box
from opt_trainer.checkpoint.contents import Contents
from opt_trainer.checkpoint.errors import WrongCheckpoint
from opt_trainer.checkpoint.reads import check_fits, plan_fetches, wanted_by
from opt_trainer.state import LocalTensor
from support.manifests import CHUNK, entries_of, manifest_of

pytestmark = pytest.mark.unit


def rows(name: str, a: int, b: int) -> LocalTensor:
    return LocalTensor(name, torch.zeros(b - a, 8), (40, 8), (a, 0))


def planned(names, tensors, **more):
    return plan_fetches(entries_of(names), tensors, CHUNK, **more)


def spans(fetches):
    return [(f.object, f.start, f.end) for f in fetches]


def test_all_of_it_is_one_request_an_object():
    assert spans(planned(["a", "b"], [rows("a", 0, 40), rows("b", 0, 40)])) == [(0, 8, 1288), (1, 8, 1288)]


def test_a_part_is_fetched_alone_rounded_to_chunks():
    # Rows 3 to 8 are bytes 96 to 256 of the slice: chunks 1 to 3 of 64 bytes.
    (fetch,) = planned(["a"], [rows("a", 3, 8)])
    assert spans([fetch]) == [(0, 8 + 64, 8 + 256)]
    (read,) = fetch.reads
    assert (read.skip, len(read.digests)) == (32, 3)


def test_a_part_over_two_objects_takes_from_both():
    assert spans(planned(["a"], [rows("a", 18, 22)])) == [(0, 8 + 576, 8 + 640), (1, 8, 72)]


def test_an_empty_part_needs_nothing():
    assert planned(["a"], [rows("a", 40, 40)]) == []


def test_large_pieces_are_fetched_in_blocks():
    fetches = planned(["a"], [rows("a", 0, 40)], block_bytes=128)
    assert max(f.end - f.start for f in fetches) == 128
    assert sum(read.wanted.size for f in fetches for read in f.reads) == 320


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (LocalTensor("b", torch.zeros(40, 8), (40, 8), (0, 0)), "'b': the model has it, the checkpoint does not"),
        (LocalTensor("a", torch.zeros(41, 8), (41, 8), (0, 0)), r"shape \(40, 8\), the model \(41, 8\)"),
        (
            LocalTensor("a", torch.zeros(40, 8, dtype=torch.float16), (40, 8), (0, 0)),
            "float32, the model torch.float16",
        ),
    ],
)
def test_another_model_is_refused_with_both_numbers(target, message):
    with pytest.raises(WrongCheckpoint, match=message):
        check_fits(manifest_of(["a"]).tensors, [target])


class Asked(Contents):
    """Notes which indexes are read, and finds nothing in them."""

    def index(self, number):
        self._indexes.setdefault(number, None)
        return self._listed(number)


@pytest.mark.parametrize(
    ("tensors", "indexes"),
    [
        ([rows("a", 0, 40)], [0, 1, 2, 3]),
        ([rows("a", 10, 20)], [1]),
        ([rows("a", 9, 11)], [0, 1]),
        ([rows("a", 40, 40)], []),
        ([LocalTensor("a", torch.zeros(40, 2), (40, 8), (0, 3))], [0, 1, 2, 3]),
    ],
)
def test_only_the_indexes_of_objects_that_hold_a_part_are_read(tensors, indexes):
    contents = Asked(None, "prefix", manifest_of(["a"], pieces=4))
    contents.entries(wanted_by(tensors))
    assert sorted(contents._indexes) == indexes


def test_boxes_of_tensors_of_another_shape_are_not_taken_for_those_wanted():
    contents = Asked(None, "prefix", manifest_of(["a"], pieces=4))
    contents.entries([((41, 8), Box((0, 0), (41, 8)))])
    assert not contents._indexes
