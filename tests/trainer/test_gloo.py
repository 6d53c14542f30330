"""Shards and sums between real ranks arrive whole and in place, in the order of ranks; a peer that left is noticed."""

from __future__ import annotations

import pytest
import torch

from support.gloo import run_gang
from support.straight_run import GATHERS, averaged, gathered, left_alone, parts_of, shard_of, summed

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_shards_are_gathered_though_several_gathers_are_under_way(ranks: int) -> None:
    wanted = [torch.cat([shard_of(rank, number) for rank in range(ranks)]) for number in range(GATHERS)]
    for found in run_gang(ranks, gathered):
        assert all(torch.equal(mine, right) for mine, right in zip(found, wanted, strict=True))


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_part_is_summed_in_the_order_of_ranks(ranks: int) -> None:
    total = parts_of(0, ranks)
    for rank in range(1, ranks):
        total = total + parts_of(rank, ranks)
    assert torch.equal(torch.cat(run_gang(ranks, summed)), total)


def test_nothing_but_a_sum_is_made() -> None:
    for said in run_gang(2, averaged):
        assert "only sums" in said


def test_a_peer_that_left_is_an_error_not_a_wait() -> None:
    cause, _ = run_gang(2, left_alone)
    assert cause == "LostPeer"
