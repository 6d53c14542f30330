"""An S3 server killed while data is prepared: the run ends with the object's name, the next one completes it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.training.data import Deduplication, Source
from opt_store import open_store
from support import s3
from support.corpora import library_texts, spec, training_file, write_jsonl

OPTCTL = Path(sys.executable).parent / "optctl"


def environment(server: s3.S3Server) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }


def start(file: Path, server: s3.S3Server, store: str) -> subprocess.Popen[str]:
    command = [OPTCTL, "dataprep", file, "--store", store, "--workers", "2", "--json"]
    env = {**os.environ, **environment(server)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finished(process: subprocess.Popen[str]) -> list[dict]:
    """Events of a run that must end well."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines()]


def objects(store_url: str) -> dict[str, bytes]:
    """Every object of the data sets in a store, without the parts' work."""
    store = open_store(store_url)
    keys = [found.key for found in store.list("data/") if not found.key.startswith("data/work/")]
    return {key: store.get(key) for key in keys}


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["read", "tokenise"])
def test_a_server_that_is_killed_midway(tmp_path, monkeypatch, stage):
    """Source and store are on the server; it dies, kill -9, when the first task of a stage is done."""
    write_jsonl(tmp_path / "a.jsonl", library_texts(70))
    folder = tmp_path / "server"
    folder.mkdir()
    with s3.seaweedfs_server(folder) as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        open_store(f"s3://{server.bucket}").upload("src/a.jsonl", tmp_path / "a.jsonl")
        source = Source(name="a", uri=f"s3://{server.bucket}/src")
        data = spec(source, deduplication=Deduplication(near={"bands": 2, "rows": 8}))
        store = f"s3://{server.bucket}/run"
        file = training_file(tmp_path / "t.yaml", data)
        process = start(file, server, store)
        for line in process.stdout:
            event = json.loads(line)
            if event["stage"] == stage and event["done"]:
                assert event["done"] < event["tasks"], "the server is killed in the middle of the stage"
                break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert re.search(r"^(Unavailable|Unreachable): (object|source) '", errors, re.MULTILINE), errors
    assert "Traceback" not in errors
    with s3.seaweedfs_server(folder) as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        assert not [key for key in objects(store) if key.endswith("manifest.json")]
        kept = [found.key for found in open_store(store).list() if found.key.endswith("commit.json")]
        assert any(event["reused"] for event in finished(start(file, server, store))), f"not found again: {kept}"
        left, undisturbed = objects(store), f"s3://{server.bucket}/undisturbed"
        finished(start(file, server, undisturbed))
        assert left == objects(undisturbed)
        assert [key for key in left if key.endswith("manifest.json")]
