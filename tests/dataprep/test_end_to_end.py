"""From files to a data set, and back to the same documents by an independent reader."""

from __future__ import annotations

import pytest

from opt_api.training.data import Source
from opt_dataprep.work.driver import prepare
from support.corpora import library_texts, spec, write_jsonl, write_texts
from support.dataset_checker import Decoder, check, folder_of

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return (tmp_path / "store").as_uri()


def test_every_document_comes_back_from_its_shards(tmp_path, store):
    texts = library_texts(40)
    write_texts(tmp_path / "files", texts[:20])
    write_jsonl(tmp_path / "lines.jsonl", [*texts[20:], "a document that says </s> and <pad> in its middle"])
    data = spec(
        Source(name="files", uri=(tmp_path / "files").as_uri(), normalisation=()),
        Source(name="lines", uri=(tmp_path / "lines.jsonl").as_uri(), normalisation=()),
    )
    prepared = prepare(data, store, workers=2)
    found = check(prepared.uri)
    decoder = Decoder(folder_of(prepared.uri) / "tokenizer/vocab.json")
    cut = [tokens for tokens in found.train.values() if tokens[-1] != 2]
    assert len(cut) <= 1, "only the document at the very end may lose tokens"
    whole = [tokens for tokens in [*found.train.values(), *found.validation.values()] if tokens[-1] == 2]
    wanted = {text.rstrip() for text in [*texts, "a document that says </s> and <pad> in its middle"]}
    back = {decoder.text(tokens) for tokens in whole}
    assert back <= wanted
    assert len(wanted - back) == len(cut)
    assert {c["source"]: c["documentsValidation"] for c in found.manifest["counts"]} == {"files": 2, "lines": 3}


def test_a_second_run_finds_the_data_set(tmp_path, store):
    write_jsonl(tmp_path / "lines.jsonl", library_texts(10))
    data = spec(Source(name="lines", uri=(tmp_path / "lines.jsonl").as_uri()))
    first = prepare(data, store, workers=1)
    events = []
    second = prepare(data, store, workers=1, told=events.append)
    assert second.uri == first.uri
    assert [event.stage for event in events] == ["done"]


def test_exact_duplicates_are_counted_and_the_first_is_kept(tmp_path, store):
    texts = library_texts(12)
    write_jsonl(tmp_path / "a.jsonl", [*texts[:6], texts[0], texts[1] + "  \n"])
    write_jsonl(tmp_path / "b.jsonl", [*texts[4:], texts[0]])
    data = spec(
        Source(name="a", uri=(tmp_path / "a.jsonl").as_uri()), Source(name="b", uri=(tmp_path / "b.jsonl").as_uri())
    )
    counts = {c.source: c for c in prepare(data, store, workers=2).manifest.counts}
    assert counts["a"].dropped == {"exact_duplicate": 2}
    assert counts["b"].dropped == {"exact_duplicate": 3}
    assert counts["b"].documents_kept == 6


def test_weights_repeat_and_thin_out(tmp_path, store):
    texts = library_texts(24)
    names = {"once": (texts[:8], 1.0), "thrice": (texts[8:16], 3.0), "half": (texts[16:], 0.5)}
    sources = [
        Source(name=name, uri=write_jsonl(tmp_path / f"{name}.jsonl", group).as_uri(), weight=weight)
        for name, (group, weight) in names.items()
    ]
    found = check(prepare(spec(*sources, validation={"fraction": 0}), store, workers=2).uri)
    counts = {c["source"]: c for c in found.manifest["counts"]}
    sizes = dict.fromkeys(names, 0)
    for (uri, _), tokens in found.train.items():
        sizes[next(name for name in names if f"/{name}.jsonl" in uri)] += len(tokens)
    assert counts["once"]["tokensTrain"] >= sizes["once"] > 0
    assert counts["thrice"]["tokensTrain"] == 3 * sizes["thrice"]
    assert sizes["half"] > 0
    assert len([k for k in found.train if "half" in k[0]]) < 8
