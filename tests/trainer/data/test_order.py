"""Every block exactly once per epoch, for any number of workers and any resume."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_api.training.data import BatchRange
from opt_trainer.data.order import DataOrder

pytestmark = pytest.mark.integration


@settings(max_examples=12)
@given(blocks=st.integers(1, 200), batch=st.integers(1, 50), seed=st.integers(0, 2**31 - 1), epochs=st.integers(1, 3))
def test_every_block_exactly_once_per_epoch(blocks, batch, seed, epochs):
    order = DataOrder(blocks, batch, seed)
    steps = -(-epochs * blocks // batch)
    seen = [b for step in range(1, steps + 1) for b in order.blocks(step)]
    for epoch in range(epochs):
        assert sorted(seen[epoch * blocks : (epoch + 1) * blocks]) == list(range(blocks))


@settings(max_examples=25)
@given(batch=st.integers(1, 40), ranks=st.integers(1, 9), step=st.integers(1, 10**9))
def test_shares_of_any_world_size_join_to_the_batch(batch, ranks, step):
    order = DataOrder(10**7, batch, 3)
    shares = [order.share(step, rank, ranks) for rank in range(ranks)]
    assert tuple(b for share in shares for b in share) == order.blocks(step)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_changing_the_world_size_on_every_resume_loses_and_repeats_nothing():
    draw = random.Random(5)
    order, seen = DataOrder(997, 16, 11), []
    step = 1
    while step <= 120:
        ranks = draw.choice([1, 2, 3, 4, 7])
        for _ in range(draw.randint(1, 10)):
            seen += [b for rank in range(ranks) for b in order.share(step, rank, ranks)]
            step += 1
    assert seen == [b for s in range(1, step) for b in order.blocks(s)]
    assert set(Counter(seen[:997]).values()) == {1}


def test_epochs_differ_and_seeds_differ():
    order = DataOrder(100, 100, 1)
    assert order.blocks(1) != order.blocks(2)
    assert order.blocks(1) != DataOrder(100, 100, 2).blocks(1)
    assert order.epoch(5) == 5.0


def test_a_skipped_batch_moves_no_other_batch():
    plain = DataOrder(1000, 10, 1)
    skipping = DataOrder(1000, 10, 1, (BatchRange(first=3, last=5), BatchRange(first=9, last=9)))
    assert [s for s in range(1, 12) if skipping.skipped(s)] == [3, 4, 5, 9]
    assert [plain.blocks(s) for s in range(1, 12)] == [skipping.blocks(s) for s in range(1, 12)]


@pytest.mark.parametrize(("step", "rank", "ranks"), [(0, 0, 1), (1, 2, 2), (1, -1, 2)])
def test_a_share_that_does_not_exist_is_refused(step, rank, ranks):
    with pytest.raises(ValueError, match="there is no such share"):
        DataOrder(10, 2, 1).share(step, rank, ranks)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="found 0 blocks and a batch of 2"):
        DataOrder(0, 2, 1)
