"""Every kind of bad input, as a real file: an error that names the object, or a counted drop; never a manifest."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from opt_api.documents.exit_report import EXIT_CODES
from opt_api.training.data import QualityRules
from opt_dataprep.errors import BadInput, DataprepError, SourceChanged
from opt_dataprep.planning import make_plan
from opt_dataprep.sources import read_part
from opt_dataprep.work.preparation import save_plan
from opt_dataprep.work.stage import run_task
from opt_dataprep.work.table import BY_NAME
from opt_store import open_store
from support.corpora import as_jsonl, library_texts, read_all, source, spec, training_file, written

LINES = [f"line {i} of several, each a document of its own" for i in range(50)]


def facts(tmp_path, data) -> list[dict]:
    """Run the read stage in this process and return each part's facts."""
    (tmp_path / "store").mkdir(exist_ok=True)
    preparation = save_plan(open_store((tmp_path / "store").as_uri()), "data", make_plan(data))
    return [run_task(preparation, BY_NAME["read"], i)[0].facts for i in range(len(preparation.plan.parts))]


@pytest.mark.integration
def test_broken_utf8_and_nul_are_repaired_and_counted(tmp_path):
    written(tmp_path / "src/a.txt", b"caf\xe9 and \x00 and \xff\xfe bytes, \xef\xbf\xbd")
    written(tmp_path / "src/b.txt", "all well: é\ufeff".encode())
    (fact,) = facts(tmp_path, spec(source(tmp_path / "src")))
    assert fact["repaired"] == {"invalid_utf8": 1, "nul": 1}
    assert (fact["documents"], fact["kept"], fact["dropped"]) == (2, 2, {})


@pytest.mark.integration
def test_broken_utf8_is_a_counted_drop_where_nothing_repairs_it(tmp_path):
    written(tmp_path / "src/a.txt", b"caf\xe9")
    written(tmp_path / "src/b.txt", b"well")
    (fact,) = facts(tmp_path, spec(source(tmp_path / "src", normalisation=("whitespace",))))
    assert (fact["dropped"], fact["kept"]) == ({"invalid_utf8": 1}, 1)


@pytest.mark.integration
def test_lone_surrogates_in_json_escapes(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"text": "broken \\ud800 escape"}\n{"text": "well"}\n')
    (fact,) = facts(tmp_path, spec(source(path)))
    assert fact["repaired"] == {"invalid_utf8": 1}
    assert fact["kept"] == 2


@pytest.mark.integration
def test_lines_that_are_no_json_are_counted(tmp_path):
    content = (
        as_jsonl(LINES[:3]) + b'{"text": \n[1]\n{"text": 5}\n\n"x"\n' + b'{"text": "\xff"}\n' + as_jsonl(LINES[3:5])
    )
    (fact,) = facts(tmp_path, spec(source(written(tmp_path / "a.jsonl", content))))
    assert fact["dropped"] == {"invalid_json": 4, "missing_text": 1}
    assert (fact["documents"], fact["kept"]) == (10, 5)


@pytest.mark.integration
def test_a_line_of_a_gigabyte_is_dropped_without_being_held(tmp_path):
    """Real: 1 GiB on one line, in a process that may not have 512 MiB in all beyond what its imports take."""
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        file.write(as_jsonl(LINES[:2]) + b'{"text": "')
        file.truncate(file.tell() + (1 << 30))
        file.seek(0, os.SEEK_END)
        file.write(b'"}\n' + as_jsonl(LINES[2:5]))
    program = f"""
import json, pathlib, resource
from support.corpora import source, spec
from opt_api.training.data import QualityRules
from opt_dataprep.planning import make_plan
from opt_dataprep.sources import Rejected, SourceDocument, read_part
data = spec(source(pathlib.Path({str(path)!r})), part_bytes=128 << 20, quality=QualityRules(max_document_bytes=1 << 20))
plan = make_plan(data)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [f for part in plan.parts for f in read_part(plan, part)]
print(json.dumps([len(plan.parts), sum(isinstance(f, SourceDocument) for f in found),
    [f.reason for f in found if isinstance(f, Rejected)], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    parts, kept, reasons, grown_kib = json.loads(done.stdout)
    assert (parts, kept, reasons) == (9, 5, ["max_document_bytes"])
    assert grown_kib < 200 << 10


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.integration
def test_cut_short_streams_name_object_and_offset(tmp_path, suffix, share):
    whole = as_jsonl(library_texts(20))
    packed = gzip.compress(whole) if suffix.endswith("gz") else zstandard.ZstdCompressor().compress(whole)
    path = written(tmp_path / f"a{suffix}", packed[: int(len(packed) * share)])
    with pytest.raises(BadInput, match=rf"a{suffix} at byte \d+: .*cut short"):
        read_all(spec(source(path)))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.integration
def test_damaged_streams_name_object_and_offset(tmp_path, suffix):
    whole = as_jsonl(library_texts(20))
    make = {".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.ZstdCompressor(write_checksum=True).compress}
    packed = bytearray(make[suffix](whole))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    path = written(tmp_path / f"a{suffix}", bytes(packed))
    with pytest.raises(BadInput, match=rf"a{suffix} at byte \d+: damaged"):
        read_all(spec(source(path)))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
@pytest.mark.integration
def test_what_only_claims_to_be_packed(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}", as_jsonl(LINES))
    with pytest.raises(BadInput, match=r"at byte 0: damaged"):
        read_all(spec(source(path)))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.integration
def test_a_bomb_in_a_text_file_is_dropped_at_the_limit(tmp_path, suffix):
    zeros = bytes(40 << 20)
    packed = gzip.compress(zeros, 9) if suffix == ".gz" else zstandard.ZstdCompressor().compress(zeros)
    path = written(tmp_path / f"src/bomb.txt{suffix}", packed)
    written(tmp_path / "src/fine.txt", b"fine")
    rules = QualityRules(max_document_bytes=10 << 20)
    (fact,) = facts(tmp_path, spec(source(path.parent), quality=rules))
    assert (fact["dropped"], fact["kept"]) == ({"max_document_bytes": 1}, 1)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.integration
def test_a_bomb_in_a_stream_of_lines_is_refused(tmp_path, suffix):
    lines = (b" " * 9999 + b"\n") * 4000
    packed = gzip.compress(lines, 9) if suffix == ".gz" else zstandard.ZstdCompressor().compress(lines)
    path = written(tmp_path / f"a.jsonl{suffix}", packed)
    with pytest.raises(BadInput, match="decompression bomb"):
        read_all(spec(source(path)))


@pytest.mark.integration
def test_a_bomb_in_parquet_is_refused(tmp_path):
    texts = [f"{i}" + " " * (1 << 20) for i in range(40)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(BadInput, match=r"a\.parquet: row group 0 expands to more than 250 times .*decompression bomb"):
        read_all(spec(source(tmp_path / "a.parquet")))


@pytest.mark.integration
def test_a_dictionary_bomb_in_parquet_is_refused(tmp_path):
    """Some hundred bytes: one value of 2 MB, and 3000 rows that repeat it; the footer counts it once."""
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 2_000_000]))
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": repeated}), path, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False
    )
    assert path.stat().st_size < 1000
    with pytest.raises(BadInput, match=r"a\.parquet: row group 0 expands to more than 250 times .*decompression bomb"):
        read_all(spec(source(path)))


def write_arrow(path: Path, table: pa.Table, **options) -> Path:
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return path


@pytest.mark.integration
def test_bombs_in_arrow_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    """In the text's batch, and in the dictionary of a column that nobody asked for; nothing of either is unpacked."""
    zeros = "0" * (40 << 20)
    batch = write_arrow(tmp_path / "a.arrow", pa.table({"text": ["a", zeros]}), compression="zstd")
    other = pa.table({"text": ["a"], "kind": pa.array([zeros]).dictionary_encode()})
    dictionary = write_arrow(tmp_path / "b.arrow", other, compression="zstd")
    monkeypatch.setattr(pa.RecordBatchFileReader, "get_batch", None)
    with pytest.raises(BadInput, match=r"a\.arrow: record batch 0 expands to more than 250 times .*decompression bomb"):
        read_all(spec(source(batch)))
    with pytest.raises(BadInput, match=r"b\.arrow: dictionary 0 expands to more than 250 times .*decompression bomb"):
        read_all(spec(source(dictionary)))


@pytest.mark.integration
def test_an_arrow_stream_is_called_one(tmp_path):
    table = pa.table({"text": LINES})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(BadInput, match=r"a\.arrow: not readable .*it is an Arrow IPC stream: write it anew"):
        make_plan(spec(source(tmp_path / "a.arrow")))


@pytest.mark.integration
def test_truncated_and_damaged_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": library_texts(30)}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"a\.parquet: not readable as Parquet"):
        make_plan(spec(source(path)))
    path.write_bytes(whole[:100] + b"\0" * (len(whole) // 2) + whole[100 + len(whole) // 2 :])
    with pytest.raises(BadInput, match=r"a\.parquet: not readable as Parquet"):
        read_all(spec(source(path)))


@pytest.mark.integration
def test_truncated_arrow(tmp_path):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": LINES})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"a\.arrow: not readable as an Arrow IPC file"):
        make_plan(spec(source(path)))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.integration
def test_a_wrong_column_names_those_there_are(tmp_path, name):
    table = pa.table({"body": LINES, "number": list(range(50))})
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(BadInput, match=r"no column 'text'; it has \['body', 'number'\]"):
        read_all(spec(source(tmp_path / name)))
    with pytest.raises(BadInput, match="column 'number' is int64"):
        read_all(spec(source(tmp_path / name, text_field="number")))


@pytest.mark.integration
def test_a_wrong_key_names_those_there_are(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"body": "x", "id": 1}\n{"body": "y", "id": 2}\n')
    with pytest.raises(BadInput, match=r"no line has a string under the key 'text'; the first has \['body', 'id'\]"):
        read_all(spec(source(path)))


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: written(p / "a.txt", b""), lambda p: None])
@pytest.mark.integration
def test_an_empty_or_absent_source(tmp_path, make):
    make(tmp_path / "src")
    with pytest.raises(BadInput, match="source 's'"):
        make_plan(spec(source(tmp_path / "src")))


@pytest.mark.integration
def test_a_source_that_changes_after_the_plan(tmp_path):
    path = written(tmp_path / "a.jsonl", as_jsonl(LINES))
    plan = make_plan(spec(source(path)))
    path.write_bytes(as_jsonl(LINES[::-1]))
    with pytest.raises(SourceChanged, match=r"a\.jsonl: planned with etag .*start again"):
        list(read_part(plan, plan.parts[0]))
    path.unlink()
    with pytest.raises(SourceChanged, match="it is gone"):
        list(read_part(plan, plan.parts[0]))


@pytest.mark.integration
def test_a_source_that_changes_while_it_is_read(tmp_path):
    path = written(tmp_path / "a.jsonl", as_jsonl(LINES * 400))
    plan = make_plan(spec(source(path)))
    documents = read_part(plan, plan.parts[0])
    next(documents)
    with path.open("ab") as file:
        file.write(as_jsonl(["grown"]))
    with pytest.raises(SourceChanged):
        list(documents)


@pytest.mark.integration
def test_a_source_that_is_cut_while_it_is_read(tmp_path):
    path = written(tmp_path / "a.jsonl", as_jsonl(library_texts(150) * 2))
    plan = make_plan(spec(source(path), part_bytes=1 << 30))
    documents = read_part(plan, plan.parts[0])
    next(documents)
    with path.open("r+b") as file:
        file.truncate(5 << 20)
    with pytest.raises(SourceChanged, match="now it has"):
        list(documents)


def worker(store: Path, plan_key: str) -> list[str]:
    command = [sys.executable, "-m", "opt_dataprep.work.worker", "--store", store.as_uri()]
    return [*command, "--plan", plan_key, "--stage", "read"]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.integration
def test_a_full_scratch_disk_leaves_an_error_and_no_commit(tmp_path):
    path = written(tmp_path / "a.jsonl", as_jsonl(library_texts(150)))
    (tmp_path / "store").mkdir()
    preparation = save_plan(open_store((tmp_path / "store").as_uri()), "data", make_plan(spec(source(path))))
    command = worker(tmp_path / "store", preparation.plan_key)
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, check=False)
    assert done.returncode == EXIT_CODES["BadHost"], done.stderr
    assert "NoScratch: scratch folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "store").rglob("commit.json"))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sum(json.loads(line)["facts"]["kept"] for line in again.stdout.splitlines()) > 100


@pytest.mark.integration
@pytest.mark.parametrize("stage", [[], ["--stage", "read"]], ids=["of a driver", "of a Job"])
def test_a_worker_whose_plan_cannot_be_read_says_so_and_does_not_die(tmp_path, stage):
    """As when the store was lost between a worker's start and its first task."""
    (tmp_path / "store").mkdir()
    command = [*worker(tmp_path / "store", "data/none/plan.json")[:-2], *stage]
    done = subprocess.run(command, input="read 0\n", capture_output=True, text=True, check=False)
    assert done.returncode == (EXIT_CODES["StoreUnavailable"] if stage else 0), done.stderr
    assert "NotFound" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.integration
def test_a_full_store_leaves_an_error_and_no_manifest(tmp_path):
    """A real file system of 3 MiB, in a mount namespace of its own."""
    path = written(tmp_path / "a.jsonl", as_jsonl(library_texts(150)))
    (tmp_path / "store").mkdir()
    resource_file = training_file(tmp_path / "t.yaml", spec(source(path)))
    optctl = Path(sys.executable).parent / "optctl"
    script = (
        'mount -t tmpfs -o size=3m none "$1" || exit 99; '
        '"$2" dataprep "$3" --store "file://$1" > "$4"; code=$?; find "$1" -name manifest.json; exit $code'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path / "store")]
    command += [str(optctl), str(resource_file), str(tmp_path / "events")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 99, f"this test needs user namespaces: {done.stderr}"
    assert done.returncode == 1, done.stderr
    assert "StoreFull: object" in done.stderr
    assert "no space is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "", "there is a manifest"


@pytest.mark.integration
def test_too_little_text_for_one_block(tmp_path):
    from opt_dataprep.work.driver import prepare

    path = written(tmp_path / "a.jsonl", as_jsonl(["a few words"]))
    (tmp_path / "store").mkdir()
    with pytest.raises(DataprepError, match="tokens are left for training, one block takes 33"):
        prepare(spec(source(path)), (tmp_path / "store").as_uri(), workers=1)
    assert not list((tmp_path / "store").rglob("manifest.json"))
