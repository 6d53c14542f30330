"""Order, hold-out, blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_dataprep.packing.blocks import Span, cut_blocks
from opt_dataprep.packing.documents import Documents, copies
from opt_dataprep.packing.hold_out import RECORD, HoldOut, Quota, quotas
from opt_dataprep.packing.permutation import Permutation
from opt_dataprep.packing.select_stage import pass_tokens

pytestmark = pytest.mark.integration


@given(st.integers(1, 3000), st.integers(0, 2**31))
def test_a_permutation_is_one_and_has_an_inverse(size, seed):
    order = Permutation(size, seed)
    places = order.forward(np.arange(size))
    assert sorted(places.tolist()) == list(range(size))
    assert order.back(places).tolist() == list(range(size))


def test_permutations_depend_on_the_seed_and_are_fixed_for_ever():
    assert (
        Permutation(1000, 1).forward(np.arange(1000)).tolist() != Permutation(1000, 2).forward(np.arange(1000)).tolist()
    )
    assert Permutation(10, 1).forward(np.arange(10)).tolist() == FIRST_TEN


FIRST_TEN = [6, 8, 7, 9, 0, 3, 2, 4, 5, 1]


def test_a_permutation_leaves_no_order():
    """Neighbours land far apart: mean distance of a random order is a third of the size."""
    places = Permutation(10_000, 5).forward(np.arange(10_000))
    assert abs(np.abs(np.diff(places)).mean() / 10_000 - 1 / 3) < 0.02
    assert abs(np.corrcoef(np.arange(10_000), places)[0, 1]) < 0.04


def test_a_permutation_of_a_whole_corpus_needs_no_table():
    order = Permutation(88_000_000_000, 1)
    places = np.array([0, 1, 87_999_999_999])
    assert order.back(order.forward(places)).tolist() == places.tolist()


def documents(tokens: list[int]) -> Documents:
    count = len(tokens)
    zeros = np.zeros(count, np.uint64)
    hashes = np.random.default_rng(1).integers(0, 2**63, count).astype(np.uint64)
    counts = np.array(tokens, np.uint32)
    return Documents(counts, counts, hashes, zeros.astype(np.uint32), zeros, zeros)


@pytest.mark.parametrize("weight", [0.25, 1.0, 2.5])
def test_weights_are_kept_in_the_mean_and_chosen_by_text(weight):
    counts = copies(documents([1] * 20_000), weight, seed=3)
    assert set(counts.tolist()) <= {int(weight), int(weight) + 1}
    assert abs(counts.mean() - weight) < 0.02
    assert copies(documents([1] * 20_000), weight, seed=3).tolist() == counts.tolist()


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), max_size=20))
def test_passes_hold_every_copy_once(pairs):
    tokens, counts = [t for t, _ in pairs], np.array([c for _, c in pairs], np.int64)
    passes = pass_tokens(documents(tokens), counts)
    assert sum(passes) == sum(t * c for t, c in pairs)
    assert passes == sorted(passes, reverse=True)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=5), st.floats(0, 0.5), st.integers(0, 10_000))
def test_quotas_are_in_proportion_and_within_bounds(counts, fraction, most):
    found = quotas(counts, [count * 10 for count in counts], fraction, most)
    assert sum(q.bytes for q in found) <= most
    assert all(q.documents <= n // 2 for q, n in zip(found, counts, strict=True))
    if most == 0:
        assert all(q.documents == 0 for q in found)


@given(st.lists(st.integers(1, 100), max_size=60), st.integers(0, 30), st.integers(0, 1500), st.randoms())
def test_the_hold_out_is_the_smallest_draws_that_fit(sizes, most, room, rng):
    records = np.zeros(len(sizes), RECORD)
    records["draw"] = rng.sample(range(1000), len(sizes))
    records["row"], records["bytes"] = np.arange(len(sizes)), sizes
    chooser = HoldOut(Quota(most, room))
    for piece in np.array_split(records, 3):
        chooser.add(piece)
    wanted, held = [], 0
    for record in sorted(records.tolist())[:most]:
        if held + record[3] > room:
            break
        held += record[3]
        wanted.append(record[2])
    assert chooser.chosen()["row"].tolist() == sorted(wanted)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(2, 33))
def test_blocks_and_their_documents(lengths, width):
    total = sum(lengths)
    blocks = total // width
    if not blocks:
        return
    starts = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(len(lengths)), lengths)
    span = Span(
        tokens=np.arange(total).astype(np.uint16),
        starts=starts,
        object=np.arange(len(lengths), dtype=np.uint32),
        position=np.arange(len(lengths), dtype=np.uint64) * np.uint64(10),
        length=np.array(lengths, np.uint64),
    )
    batch = cut_blocks(span, np.arange(blocks) * width, width)
    assert batch.column("tokens").flatten().to_numpy().tolist() == list(range(blocks * width))
    for row, found in enumerate(batch.column("documents").to_pylist()):
        inside = owner[row * width : (row + 1) * width]
        assert [d["object"] for d in found] == list(dict.fromkeys(inside.tolist()))
        for document in found:
            first = row * width + document["start"]
            assert owner[first] == document["object"]
            assert first - starts[document["object"]] == document["skipped"]
