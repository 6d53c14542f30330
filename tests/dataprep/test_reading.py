"""What is well is read whole, once, and with its place: every framing, every cut."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from opt_dataprep.planning import make_plan
from opt_dataprep.sources import Rejected, SourceDocument, read_part
from support.corpora import as_jsonl, library_texts, read_all, source, spec, written

LINES = [f"line {i} of several, each a document of its own" for i in range(50)]


@pytest.mark.unit
def test_lines_belong_to_one_part_each_wherever_the_cuts_fall(tmp_path):
    texts = [text for text in library_texts(60) if text] * 2
    path = written(tmp_path / "a.jsonl", as_jsonl(texts))
    data = spec(source(path))
    plan = make_plan(data)
    assert len(plan.parts) > 2
    found = [d for part in plan.parts for d in read_part(plan, part)]
    assert [d.content for d in found] == texts
    content = path.read_bytes()
    for document in found:
        line = content[document.position : document.position + document.length]
        assert json.loads(line)["text"] == document.content
        assert content[document.position + document.length : document.position + document.length + 1] == b"\n"


@pytest.mark.parametrize("cut", range(40))
@pytest.mark.unit
def test_every_cut_of_a_small_file(tmp_path, cut):
    content = b'{"text":"a"}\n\n{"text":"bc"}\r\n{"text":"d"}'
    path = written(tmp_path / "a.jsonl", content)
    plan = make_plan(spec(source(path)))
    piece = plan.parts[0].slices[0]
    halves = [piece.model_copy(update={"end": cut}), piece.model_copy(update={"start": cut})]
    if cut == 0:
        halves = halves[1:]
    part = plan.parts[0].model_copy(update={"slices": tuple(halves)})
    assert [d.content for d in read_part(plan, part)] == ["a", "bc", "d"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.unit
def test_whole_streams_of_several_members(tmp_path, suffix):
    make = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    packed = b"".join(make(as_jsonl(LINES[i : i + 10])) for i in range(0, 50, 10))
    found = read_all(spec(source(written(tmp_path / f"a.jsonl{suffix}", packed))))
    assert [d.content for d in found] == LINES


@pytest.mark.unit
def test_parquet_and_arrow_rows_come_back(tmp_path):
    texts = library_texts(40)
    table = pa.table({"id": list(range(41)), "text": [*texts, None]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    for name in ("a.parquet", "a.arrow"):
        plan = make_plan(spec(source(tmp_path / name), part_bytes=1 << 20))
        found = [d for part in plan.parts for d in read_part(plan, part)]
        assert [d.content.decode() for d in found if isinstance(d, SourceDocument)] == texts
        assert [(d.position, d.reason) for d in found if isinstance(d, Rejected)] == [(40, "missing_text")]
        assert [d.position for d in found] == list(range(41))


@pytest.mark.unit
def test_odd_bytes_in_a_name(tmp_path):
    written(tmp_path / "src/mit Leerzeichen & Ümlaut%20.txt", b"one")
    written(tmp_path / "src/[x]?*.txt", b"two")
    found = read_all(spec(source(tmp_path / "src")))
    assert sorted(d.content for d in found) == [b"one", b"two"]
