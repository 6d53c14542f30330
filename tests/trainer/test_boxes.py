"""The boxes of all workers cover each tensor, and count each number once."""

import numpy as np
import pytest

from opt_api.architecture import Architecture
from opt_model.exchange.names import shapes_of
from opt_trainer.parallelism.boxes import box_of
from opt_trainer.parallelism.place import Place
from support.shapes import TINY, TINY_POST

LAYOUTS = [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1), (1, 1, 4), (1, 3, 2), (2, 2, 2), (1, 7, 1), (1, 64, 2)]


@pytest.mark.unit
@pytest.mark.parametrize("shape", [TINY, TINY_POST])
@pytest.mark.parametrize(("replicate", "shard", "tensor"), LAYOUTS)
def test_boxes_cover_every_tensor(shape: Architecture, replicate: int, shard: int, tensor: int) -> None:
    places = [Place(rank, replicate, shard, tensor) for rank in range(replicate * shard * tensor)]
    for name, whole in shapes_of(shape).items():
        held, weight, written = np.zeros(whole), np.zeros(whole), np.zeros(whole)
        for box in (box_of(name, whole, place) for place in places):
            where = tuple(slice(o, o + n) for o, n in zip(box.offset, box.shape, strict=True))
            held[where] += 1
            weight[where] += 1 / box.copies
            written[where] += box.owner
        assert held.min() >= 1, name
        assert np.allclose(weight, 1), name
        assert np.array_equal(written, np.ones(whole)), name
