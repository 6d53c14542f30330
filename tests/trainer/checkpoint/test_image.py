"""The laid-out image is a safetensors file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from opt_trainer.checkpoint.copier import copy_into
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.image import lay_out, owned
from opt_trainer.checkpoint.staging import Staging
from opt_trainer.state import LocalTensor
from support.checkpoints import boxes, columns, same_bits, whole_state

pytestmark = pytest.mark.unit


def image_bytes(tensors) -> bytes:
    staging = Staging()
    try:
        mine = owned(tensors)
        image = lay_out(mine)
        staging.reserve(image.size)
        copy_into(staging, image, mine)
        with open(staging.descriptor, "rb", closefd=False) as file:
            return file.read(image.size)
    finally:
        staging.close()


def test_the_reference_reader_reads_every_format_bit_for_bit():
    state = whole_state(3)
    assert same_bits(load(image_bytes(boxes(state))), state)


def test_views_that_are_not_contiguous_are_written_in_row_major_order():
    state = whole_state(4)
    read = load(image_bytes(columns(state, 0, 2)))
    assert torch.equal(read["deep"].view(torch.uint8), state["deep"][:, :1].contiguous().view(torch.uint8))


def test_every_tensor_is_aligned_to_its_element():
    mine = owned(boxes(whole_state(1)))
    for piece, t in zip(lay_out(mine).pieces, mine, strict=True):
        assert piece.start % t.tensor.element_size() == 0


def test_replicas_and_empty_pieces_are_left_out():
    t = torch.zeros(3)
    given = [
        LocalTensor("mine", t, (3,), (0,)),
        LocalTensor("replica", t, (3,), (0,), owner=False),
        LocalTensor("empty", t[:0], (3,), (3,)),
    ]
    assert [x.name for x in owned(given)] == ["mine"]


def test_a_name_twice_is_refused():
    t = LocalTensor("w", torch.zeros(3), (3,), (0,))
    with pytest.raises(ValueError, match="'w' comes more than once"):
        owned([t, t])


def test_a_format_that_cannot_be_stored_is_refused():
    with pytest.raises(ValueError, match=r"found torch.complex64, allowed are float32, .*uint8"):
        owned([LocalTensor("w", torch.zeros(3, dtype=torch.complex64), (3,), (0,))])


def test_memory_is_reused_and_grows():
    staging = Staging()
    try:
        staging.reserve(1000)
        staging.reserve(10)
        assert staging.size == 1000
        staging.reserve(5000)
        assert staging.size == 5000
        with pytest.raises(SaveFailed, match="bytes of shared memory are needed"):
            staging.reserve(1 << 60)
    finally:
        staging.close()
