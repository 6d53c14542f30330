"""Every type of source through the command, from a folder and from S3: the same documents, tokens and counts."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from opt_api.training.data import DataSpec, Deduplication, Source
from opt_store import open_store
from support import s3
from support.corpora import as_jsonl, library_texts, spec, training_file, write_texts, written
from support.dataset_checker import check, folder_of

pytestmark = pytest.mark.integration

OPTCTL = Path(sys.executable).parent / "optctl"
EACH = 6
"""Documents of each source."""


def write_sources(folder: Path) -> DataSpec:
    """Write a source of each type below `folder` and return the spec of all."""
    texts = iter(library_texts(6 * EACH))
    groups = {name: [next(texts) for _ in range(EACH)] for name in ("plain", "gz", "zst", "parquet", "arrow", "folder")}
    written(folder / "plain/a.jsonl", as_jsonl(groups["plain"]))
    written(folder / "gz/a.jsonl.gz", gzip.compress(as_jsonl(groups["gz"])))
    written(folder / "zst/a.jsonl.zst", zstandard.ZstdCompressor().compress(as_jsonl(groups["zst"])))
    (folder / "parquet").mkdir()
    pq.write_table(pa.table({"text": groups["parquet"]}), folder / "parquet/a.parquet", row_group_size=2)
    (folder / "arrow").mkdir()
    table = pa.table({"text": groups["arrow"]})
    with pa.OSFile(str(folder / "arrow/a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    write_texts(folder / "folder/deep", groups["folder"])
    (folder / "man").mkdir()
    pages = [page for page in sorted(Path("/usr/share/man/man1").glob("*.1.gz")) if page.stat().st_size > 2000][:EACH]
    assert len(pages) == EACH, "this test reads manual pages: install any packages with manual pages"
    for page in pages:
        shutil.copy(page, folder / "man")
    sources = [Source(name=name, uri=(folder / name).as_uri()) for name in groups]
    manual = Source(name="man", uri=(folder / "man").as_uri(), normalisation=("utf8", "man", "whitespace"))
    return spec(*sources, manual, deduplication=Deduplication(exact=False, near_enabled=False))


def prepared(data: DataSpec, folder: Path, store: str, **environment: str) -> dict:
    """Run the command; return its last event."""
    file = training_file(folder / "t.yaml", data)
    command = [OPTCTL, "dataprep", file, "--store", store, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_types_from_a_folder_and_from_s3(tmp_path):
    data = write_sources(tmp_path / "src")
    (tmp_path / "store").mkdir()
    local = check(prepared(data, tmp_path, (tmp_path / "store").as_uri())["dataset"])
    counts = local.manifest["counts"]
    assert {c["source"]: c["documentsKept"] for c in counts} == {source.name: EACH for source in data.sources}
    assert all(c["tokensTrain"] + c["tokensValidation"] > 0 for c in counts)
    (tmp_path / "server").mkdir()
    with s3.seaweedfs_server(tmp_path / "server") as server:
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        store = open_store(f"s3://{server.bucket}", s3=server.settings, credentials=server.credentials)
        for path in (tmp_path / "src").rglob("*.*"):
            store.upload(path.relative_to(tmp_path).as_posix(), path)
        remote = tuple(
            source.model_copy(update={"uri": f"s3://{server.bucket}/src/{source.name}"}) for source in data.sources
        )
        data = data.model_copy(update={"sources": remote})
        uri = prepared(data, tmp_path, f"s3://{server.bucket}/run", **environment)["dataset"]
        base = uri.removeprefix(f"s3://{server.bucket}/").rpartition("/")[0]
        for found in store.list(f"{base}/"):
            target = tmp_path / "copy" / found.key.removeprefix(f"{base}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            store.download(found.key, target, expect=found.digest)
    copied = check((tmp_path / "copy/manifest.json").as_uri())
    assert copied.manifest["counts"] == counts
    assert (copied.tokens == local.tokens).all()
    places = {(uri.rpartition("/src/")[2], position) for uri, position in local.train}
    assert {(uri.rpartition("/src/")[2], position) for uri, position in copied.train} == places
    assert folder_of(uri).name == base.rpartition("/")[2]
