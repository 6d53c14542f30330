"""Near-duplicates through the whole pipeline, against the exact answer."""

from __future__ import annotations

import json
import random

import pytest

from opt_api.training.data import Deduplication, Source
from opt_dataprep.dedup.drops import drops_of_part
from opt_dataprep.dedup.numbering import bases
from opt_dataprep.steps.documents import read_texts
from opt_dataprep.work.driver import prepare
from opt_dataprep.work.preparation import load_preparation
from opt_dataprep.work.results import commits_of
from opt_store import open_store
from support.corpora import library_texts, spec, write_jsonl
from support.dataset_checker import check, folder_of
from support.duplicates import edited, planted, shingles, similar_pairs, similarity, survivors

pytestmark = pytest.mark.integration


def found_by(prepared, store):
    """Texts by number, and drops as (number, keeper, similarity)."""
    folder = folder_of(prepared.uri)
    preparation = load_preparation(open_store(store), f"data/{folder.name}/plan.json")
    parts = range(len(preparation.plan.parts))
    texts = [
        text
        for part in parts
        for _, batch in read_texts(preparation, commits_of(preparation, "read")[part], ["text"])
        for text in batch["text"].to_pylist()
    ]
    assert len(texts) == bases(preparation)[-1]
    drops = [tuple(row) for part in parts for row in drops_of_part(preparation, "verify", part).tolist()]
    return texts, drops


def test_planted_near_duplicates_are_found_and_nothing_below_is_dropped(tmp_path):
    originals = [text for text in library_texts(160) if len(text.split()) > 120]
    texts = planted(originals[:120], 30, seed=11)
    random.Random(5).shuffle(texts)
    for number, part in enumerate((texts[::2], texts[1::2])):
        write_jsonl(tmp_path / "src" / f"{number}.jsonl", part)
    (tmp_path / "store").mkdir()
    store = (tmp_path / "store").as_uri()
    data = spec(Source(name="a", uri=(tmp_path / "src").as_uri()), deduplication=Deduplication())
    prepared = prepare(data, store, workers=2)
    check(prepared.uri)
    texts, drops = found_by(prepared, store)
    assert len(drops) == prepared.manifest.counts[0].dropped["near_duplicate"] > 50
    gone = {number for number, _, _ in drops}
    for number, keeper, value in drops:
        exact = similarity(shingles(texts[number]), shingles(texts[keeper]))
        assert exact >= 0.95, "a removal below the threshold"
        assert abs(value - exact) < 1e-6
        assert keeper not in gone, "the keeper is kept"
        assert (-len(texts[keeper].encode()), keeper) < (-len(texts[number].encode()), number)
    exact_copies = _exact(texts)
    pairs = [pair for pair in similar_pairs(texts, 0.95) if not exact_copies & set(pair)]
    missed = [pair for pair in pairs if not gone & set(pair)]
    assert len(missed) <= 0.01 * len(pairs), f"{len(missed)} of {len(pairs)} pairs are both kept"


def _exact(texts: list[str]) -> set[int]:
    first: dict[str, int] = {}
    return {i for i, text in enumerate(texts) if first.setdefault(text, i) != i}


def test_with_wide_bands_the_answer_is_the_exact_one(tmp_path):
    """With 64 bands of 2 rows no pair at 0.95 is missed (chance below 1e-60): survivors are those of brute force."""
    originals = [text for text in library_texts(120) if len(text.split()) > 60]
    texts = planted(originals[:60], 12, seed=3)
    write_jsonl(tmp_path / "src.jsonl", texts)
    (tmp_path / "store").mkdir()
    store = (tmp_path / "store").as_uri()
    near = {"bands": 64, "rows": 2}
    data = spec(
        Source(name="a", uri=(tmp_path / "src.jsonl").as_uri()),
        deduplication=Deduplication(near=near),
        part_bytes=1 << 20,
    )
    texts, drops = found_by(prepare(data, store, workers=2), store)
    exact = _exact(texts)
    left = [i for i in range(len(texts)) if i not in exact]
    wanted = {left[i] for i in survivors([texts[i] for i in left], 0.95)}
    assert set(left) - {number for number, _, _ in drops} == wanted


def test_planted_duplicates_are_counted_exactly(tmp_path):
    """At the default bands: copies, copies with an edit (Jaccard 0.98 and more) and with many (0.85 to 0.94)."""
    rng = random.Random(19)
    originals = [text for text in library_texts(160) if len(set(shingles(text))) > 600][:60]
    assert not similar_pairs(originals, 0.8), "the originals are no duplicates of one another"
    near = [edited(text, 1, rng) for text in originals[:40]]
    far = [edited(text, len(text.split()) // 90, rng) for text in originals[20:]]
    assert all(similarity(shingles(a), shingles(b)) >= 0.98 for a, b in zip(originals, near, strict=False))
    assert all(0.85 < similarity(shingles(a), shingles(b)) < 0.94 for a, b in zip(originals[20:], far, strict=True))
    texts = [*originals, *originals[:25], *near, *far]
    rng.shuffle(texts)
    for number in range(3):
        write_jsonl(tmp_path / "src" / f"{number}.jsonl", texts[number::3])
    (tmp_path / "store").mkdir()
    data = spec(Source(name="a", uri=(tmp_path / "src").as_uri()), deduplication=Deduplication())
    (counts,) = prepare(data, (tmp_path / "store").as_uri(), workers=2).manifest.counts
    assert counts.dropped == {"exact_duplicate": 25, "near_duplicate": 40}
    assert (counts.documents_read, counts.documents_kept) == (165, 100)


def test_documents_across_sources_and_the_longest_is_kept(tmp_path):
    rng = random.Random(1)
    base = library_texts(1)[0] + " tail"
    longer = base + " and"
    other = edited(base, 1, rng)[: len(base) - 3]
    write_jsonl(tmp_path / "a.jsonl", [other])
    write_jsonl(tmp_path / "b.jsonl", [base, longer])
    (tmp_path / "store").mkdir()
    store = (tmp_path / "store").as_uri()
    data = spec(
        Source(name="a", uri=(tmp_path / "a.jsonl").as_uri()),
        Source(name="b", uri=(tmp_path / "b.jsonl").as_uri()),
        deduplication=Deduplication(),
    )
    prepared = prepare(data, store, workers=1)
    manifest = json.loads((folder_of(prepared.uri) / "manifest.json").read_text())
    assert [c["documentsKept"] for c in manifest["counts"]] == [0, 1]
    _, drops = found_by(prepared, store)
    assert {(number, keeper) for number, keeper, _ in drops} == {(0, 2), (1, 2)}
