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
from opt_dataprep.sources.arrow_layout import batch_layouts, batch_rows
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
    for name, compression in (("a.arrow", None), ("b.arrow", "zstd")):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with (
            pa.OSFile(str(tmp_path / name), "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            writer.write_table(table, max_chunksize=5)
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        plan = make_plan(spec(source(tmp_path / name), part_bytes=1 << 20))
        found = [d for part in plan.parts for d in read_part(plan, part)]
        assert [d.content.decode() for d in found if isinstance(d, SourceDocument)] == texts
        assert [(d.position, d.reason) for d in found if isinstance(d, Rejected)] == [(40, "missing_text")]
        assert [d.position for d in found] == list(range(41))


@pytest.mark.unit
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_batches_of_arrow_are_described_without_being_read(tmp_path, compression):
    """Rows and unpacked bytes against what pyarrow finds, over nested, dictionary and absent values."""
    rows = [
        {"text": text[:i], "tags": [i] * (i % 3), "kind": "ab"[i % 2], "none": None} for i, text in enumerate(LINES)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(2, "kind", table["kind"].dictionary_encode())
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=11)
    with path.open("rb") as file:
        found = dict(batch_layouts(file))
        parts = [layout for name, layout in found.items() if name.startswith("record batch")]
        assert found["dictionary 0"].rows == 2
        assert [part.rows for part in parts] == [11, 11, 11, 11, 6]
        assert [batch_rows(file, count) for count in range(6)] == [0, 11, 22, 33, 44, 50]
        assert dict(batch_layouts(file, 1, 3)) == {
            name: found[name] for name in ("dictionary 0", "record batch 1", "record batch 2")
        }
    reader = pa.ipc.open_file(path)
    for number, part in enumerate(parts):
        buffers = [b.size for column in reader.get_batch(number).columns for b in column.buffers() if b is not None]
        dictionary = reader.get_batch(number)["kind"].dictionary
        own = sum(buffers) - sum(b.size for b in dictionary.buffers() if b is not None)
        assert own - 64 * len(buffers) <= part.unpacked <= own + 64 * len(buffers)


@pytest.mark.unit
def test_odd_bytes_in_a_name(tmp_path):
    written(tmp_path / "src/mit Leerzeichen & Ümlaut%20.txt", b"one")
    written(tmp_path / "src/[x]?*.txt", b"two")
    found = read_all(spec(source(tmp_path / "src")))
    assert sorted(d.content for d in found) == [b"one", b"two"]
