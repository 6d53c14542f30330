"""The commands of data preparation's Jobs: the same data set as the local driver's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opt_api.documents.preparation_report import PreparationReport
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli import dataprep_stage, termination
from opt_dataprep.work.driver import prepare
from opt_store import open_store
from support import s3
from support.corpora import library_texts, write_jsonl
from support.kills import dataset_bytes
from support.small_spec import SPEC

pytestmark = pytest.mark.integration


def test_stages_as_jobs_make_what_the_local_driver_makes(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    plan = resolve(OPTTraining.model_validate(SPEC))
    (tmp_path / "plan.json").write_bytes(plan.to_bytes())
    (tmp_path / "store").mkdir()
    (tmp_path / "twin").mkdir()
    url = (tmp_path / "store").as_uri()
    monkeypatch.setattr(termination, "TERMINATION_LOG", tmp_path / "termination-log")
    (tmp_path / "termination-log").touch()

    def said() -> PreparationReport:
        return PreparationReport.from_bytes((tmp_path / "termination-log").read_bytes())

    planning = ["plan", "--plan", str(tmp_path / "plan.json"), "--store", url]
    assert dataprep_stage.main(planning) == 0
    first = said()
    assert first.stages == dataprep_stage.NAMES
    for stage in first.stages:
        given = ["stage", "--store", url, "--plan", first.plan, "--stage", stage, "--completions", "2"]
        for index in ("1", "0"):
            monkeypatch.setenv(dataprep_stage.INDEX, index)
            assert dataprep_stage.main(given) == 0
    last = said()
    twin = prepare(plan.data, (tmp_path / "twin").as_uri(), workers=1)
    assert (last.manifest_digest, last.stages) == (twin.manifest.digest(), ())
    assert last.dataset == f"{url}/{twin.uri.split('/twin/')[1]}"
    assert dataprep_stage.main(planning) == 0
    assert said() == last  # found, not made again
    capsys.readouterr()

    missing = SPEC["spec"]["data"] | {"sources": [{"name": "none", "uri": "file:///no/such/folder", "format": "text"}]}
    wrong = resolve(OPTTraining.model_validate(SPEC | {"spec": SPEC["spec"] | {"data": missing}}))
    (tmp_path / "plan.json").write_bytes(wrong.to_bytes())
    assert dataprep_stage.main(planning) == 65
    assert "/no/such/folder" in capsys.readouterr().err


AT_ONCE = 3
"""Completions of a stage that run side by side."""
SIDE_BY_SIDE = {"read", "tokenise"}
"""Stages whose completions are processes; the others run in this one."""


def start_completion(arguments: list[str], index: int) -> subprocess.Popen[str]:
    """Start one completion of a stage, as its pod does."""
    command = [sys.executable, "-m", "opt_cli.dataprep_stage", *arguments]
    env = {**os.environ, dataprep_stage.INDEX: str(index)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_side_by_side(arguments: list[str]) -> None:
    """Run all completions at once; one is killed, kill -9, when it has said what it did first, and made anew."""
    running = {index: start_completion(arguments, index) for index in range(AT_ONCE)}
    victim = running[AT_ONCE - 1]
    assert victim.stdout is not None
    victim.stdout.readline()
    victim.kill()
    victim.communicate()
    running[AT_ONCE - 1] = start_completion(arguments, AT_ONCE - 1)
    for process in running.values():
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def test_completions_side_by_side_on_a_server_one_of_them_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = library_texts(160)
    write_jsonl(tmp_path / "src/a.jsonl", [*texts, *(text + " tail" for text in texts[::10])])
    source = {"name": "library", "uri": (tmp_path / "src").as_uri()}
    data = SPEC["spec"]["data"] | {"sources": [source], "partBytes": 1 << 20}
    plan = resolve(OPTTraining.model_validate(SPEC | {"spec": SPEC["spec"] | {"data": data}}))
    (tmp_path / "twin").mkdir()
    prepare(plan.data, (tmp_path / "twin").as_uri(), workers=1)
    wanted = {f"data/{key}": content for key, content in dataset_bytes(tmp_path / "twin").items()}
    (tmp_path / "server").mkdir()
    with s3.seaweedfs_server(tmp_path / "server") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        url = f"s3://{server.bucket}/run"
        first = dataprep_stage.plan_preparation(plan, url)
        for stage in first.stages:
            given = ["stage", "--store", url, "--plan", first.plan, "--stage", stage]
            if stage in SIDE_BY_SIDE:
                run_side_by_side([*given, "--completions", str(AT_ONCE)])
            else:
                monkeypatch.setenv(dataprep_stage.INDEX, "0")
                assert dataprep_stage.main([*given, "--completions", "1"]) == 0
        store = open_store(url)
        keys = [found.key for found in store.list("data/") if not found.key.startswith("data/work/")]
        assert {key: store.get(key) for key in keys} == wanted
        assert dataprep_stage.plan_preparation(plan, url).stages == ()
