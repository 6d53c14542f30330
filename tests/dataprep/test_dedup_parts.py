"""The parts of duplicate detection, each against plain Python."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_dataprep.dedup import minhash
from opt_dataprep.dedup.bands_stage import star_edges
from opt_dataprep.dedup.exact import repeats
from opt_dataprep.dedup.join import Member, keep_longest
from opt_dataprep.dedup.runs import equal_groups, offsets_of
from opt_dataprep.dedup.shingles import Shingler, jaccard, shingle_set
from opt_dataprep.dedup.union_find import Components
from opt_dataprep.errors import DataprepError
from opt_dataprep.steps.read_stage import DIGEST_RECORD, digest_run
from support.duplicates import edited, shingles, similarity, survivors

pytestmark = pytest.mark.integration

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=40).map(" ".join)
IMPLEMENTATIONS = [minhash.minhash_version(), "numpy 1"]


def sets_of(texts: list[str], size: int = 5) -> list[np.ndarray]:
    values, offsets = Shingler(size).shingle(pa.array(texts, pa.string()))
    return [shingle_set(values[a:b]) for a, b in itertools.pairwise(offsets)]


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 6))
def test_shingles_are_told_apart_as_words_are(texts, size):
    for text, found in zip(texts, sets_of(texts, size), strict=True):
        assert len(found) == len(shingles(text, size))


@given(st.lists(st.text(alphabet="ab \n\t\x1c\x85\u3000é", max_size=12), max_size=8))
def test_words_are_those_of_str_split_whatever_parts_them(texts):
    values, bounds = Shingler(1).shingle(pa.array(texts, pa.string()))
    assert np.diff(bounds).tolist() == [len(text.split()) for text in texts]
    names = dict(zip((word for text in texts for word in text.split()), values.tolist(), strict=True))
    assert len(set(names.values())) == len(names)
    assert [names[word] for text in texts for word in text.split()] == values.tolist()


@given(st.lists(WORDS.filter(bool), min_size=2, max_size=5))
def test_jaccard_is_that_of_plain_sets(texts):
    found = sets_of(texts)
    for a in range(len(texts)):
        for b in range(len(texts)):
            assert jaccard(found[a], found[b]) == similarity(shingles(texts[a]), shingles(texts[b]))


def test_shingles_do_not_depend_on_the_documents_around():
    texts = [f"word{i} and more words of document {i}" for i in range(20)]
    alone = [sets_of([text])[0] for text in texts]
    for one, together in zip(alone, sets_of(texts), strict=True):
        assert np.array_equal(one, together)


def test_the_order_of_words_counts():
    one, other = sets_of(["a b c d e", "e d c b a"])
    assert jaccard(one, other) == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_sketches_estimate_jaccard(implementation):
    rng = random.Random(7)
    text = " ".join(f"w{rng.getrandbits(20)}" for _ in range(3000))
    texts = [text, *(edited(text, edits, rng) for edits in (10, 60, 150, 400))]
    values, offsets = Shingler(5).shingle(pa.array(texts, pa.string()))
    sketches = minhash.sketch(values, offsets, 512, implementation)
    found = sets_of(texts)
    for other in range(1, len(texts)):
        estimate = float((sketches[0] == sketches[other]).mean())
        exact = jaccard(found[0], found[other])
        assert abs(estimate - exact) < 5 * (exact * (1 - exact) / 512) ** 0.5 + 0.005


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equal_documents_have_equal_sketches_whatever_is_beside_them(implementation):
    texts = ["one two three", *[f"some text number {i} of several" for i in range(5)], "one two three"]
    values, offsets = Shingler(5).shingle(pa.array(texts, pa.string()))
    sketches = minhash.sketch(values, offsets, 128, implementation)
    assert np.array_equal(sketches[0], sketches[-1])
    assert not np.array_equal(sketches[0], sketches[1])
    keys = minhash.band_keys(sketches, 8, 16)
    assert keys.shape == (8, 7)
    assert np.array_equal(keys[:, 0], keys[:, -1])
    assert not (keys[:, 0] == keys[:, 1]).any()


def test_a_plan_of_another_implementation_is_refused():
    with pytest.raises(DataprepError, match=r"rensa 0\.0\.1"):
        minhash.sketch(np.ones(1, np.uint64), np.array([0, 1]), 8, "rensa 0.0.1")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40), st.randoms())
def test_components_are_those_of_a_plain_search(edges, rng):
    names = list(range(31))
    for one, other in edges:
        low, high = sorted((names[one], names[other]))
        names = [low if name == high else name for name in names]
    rng.shuffle(edges)
    components = Components(31)
    for part in (edges[::2], edges[1::2]):
        pairs = np.array(part, np.int64).reshape(-1, 2)
        components.union(pairs[:, 0], pairs[:, 1])
    assert components.find(np.arange(31)).tolist() == names


@settings(max_examples=60)
@given(st.lists(WORDS.filter(bool), min_size=1, max_size=14, unique=True), st.sampled_from([0.5, 0.7, 0.95]))
def test_who_stays_is_what_all_pairs_say(texts, threshold):
    members = [
        Member(i, 0, len(text), found) for i, (text, found) in enumerate(zip(texts, sets_of(texts), strict=True))
    ]
    result = keep_longest(members, threshold)
    assert set(range(len(texts))) - {number for number, _, _ in result.drops} == survivors(texts, threshold)
    for number, keeper, value in result.drops:
        assert value == similarity(shingles(texts[number]), shingles(texts[keeper])) >= threshold - 1e-9


def test_a_template_of_thousands_costs_one_comparison_each():
    base = np.sort(np.random.default_rng(1).integers(0, 2**63, 1000).astype(np.uint64))
    members = [Member(i, 0, 5000, np.sort(np.append(base, np.uint64(i)))) for i in range(2000)]
    result = keep_longest(members, 0.95)
    assert len(result.drops) == result.compared == 1999


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_offsets_cut_a_run_by_its_highest_bits(values):
    run = np.sort(np.array(values, np.uint64))
    offsets = offsets_of(run)
    for at in range(64):
        assert all(int(value) >> 58 == at for value in run[offsets[at] : offsets[at + 1]])
    assert (offsets[0], offsets[-1]) == (0, len(run))


@given(st.lists(st.integers(0, 5), max_size=30))
def test_groups_of_equal_values(values):
    ordered = sorted(values)
    starts, lengths = equal_groups(np.array(ordered))
    found = {ordered[s]: n for s, n in zip(starts, lengths, strict=True)}
    assert found == {v: ordered.count(v) for v in ordered if ordered.count(v) > 1}


@given(st.lists(st.integers(0, 4), max_size=30))
def test_exact_repeats_point_to_the_first(values):
    digests = [bytes(15) + bytes([value]) for value in values]
    run, _ = digest_run(digests)
    records = np.frombuffer(run, DIGEST_RECORD)
    sizes: dict[str, int] = {}
    drops = repeats(records["row"].astype(np.uint64), records, sizes)
    wanted = {i: values.index(value) for i, value in enumerate(values) if values.index(value) != i}
    assert dict(zip(drops["number"].tolist(), drops["keeper"].tolist(), strict=True)) == wanted
    assert sum(sizes.values()) == sum(values.count(value) > 1 for value in set(values))


def test_edges_of_a_band_are_stars():
    edges = star_edges(np.array([3, 5, 9, 1, 2], np.uint64), np.array([7, 7, 7, 8, 9], np.uint64))
    assert edges.tolist() == [(3, 5), (3, 9)]


def test_eight_bands_of_sixteen_find_what_the_formula_says():
    """P = 1 - (1 - s^16)^8 is 0.990 at 0.95 (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4.2)."""
    rng = np.random.default_rng(3)
    shared, own = 950, 25
    found, trials = 0, 250
    for _ in range(trials):
        both = rng.integers(0, 2**63, shared).astype(np.uint64)
        sets = [np.concatenate((both, rng.integers(0, 2**63, own).astype(np.uint64))) for _ in range(2)]
        values, offsets = np.concatenate(sets), np.array([0, shared + own, 2 * (shared + own)])
        keys = minhash.band_keys(minhash.sketch(values, offsets, 128, minhash.minhash_version()), 8, 16)
        found += bool((keys[:, 0] == keys[:, 1]).any())
    assert found / trials > 0.97
