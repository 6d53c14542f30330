"""`optctl checkpoints`, `export` and `audit` on a run that the real trainer left in a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from opt_api.documents.keys import manifest_key, mark_key, run_prefix
from opt_api.documents.plan import Plan
from opt_cli.main import main
from opt_store import Store
from opt_trainer.checkpoint.catalog import Found, catalog
from support.datasets import write_dataset
from support.plans import SEQUENCE
from support.runs import RunFolder, plan_for
from support.warm import Warm

pytestmark = pytest.mark.integration

RUN = "tiny"
STEPS = 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two workers, six steps, checkpoints after 3 and 6; the data set lies where `optctl run` prepares it."""
    folder = RunFolder(tmp_path_factory.mktemp("finished"))
    plan = plan_for(STEPS, workers=2)
    with Warm() as warm:
        assert warm.run(folder.gang(plan, 0)) == [0, 0]
    write_dataset(folder.store, "data/abc", train=(55, 9), sequence_length=SEQUENCE, vocabulary=96)
    sources = [{"name": "manual", "uri": "file:///pages", "format": "text"}]
    tokenizer = {"train": {"vocabularySize": 512, "sampleBytes": 1_000_000}}
    data = {"dataset": None, "sources": sources, "tokenizer": tokenizer}
    own = plan_for(STEPS, workers=2, data=data, model={"vocabularySize": 512})
    folder.store.put(f"{run_prefix(RUN)}/{Plan.file_name}", own.to_bytes())
    return folder


def optctl(folder: RunFolder, *arguments: str) -> Result:
    return CliRunner().invoke(main, [arguments[0], RUN, *arguments[1:], "--store", folder.url])


def found_at(store: Store, step: int) -> Found:
    return next(f for f in catalog(store, RUN) if f.step == step)


def listed(folder: RunFolder, *more: str) -> list[dict[str, Any]]:
    done = optctl(folder, "checkpoints", "--json", *more)
    return json.loads(done.stdout)


def test_checkpoints_are_listed_with_their_states(finished: RunFolder) -> None:
    newest, older = listed(finished)
    assert [(one["step"], one["state"]) for one in (newest, older)] == [(6, "Verified"), (3, "Verified")]
    assert newest["worldSize"] == 2
    assert newest["lineage"]["identity"] == plan_for(STEPS, workers=2).identity
    assert all(one["problems"] == [] for one in listed(finished, "--verify"))
    text = optctl(finished, "checkpoints", "--verify").stdout
    assert "step        6  attempt 0  Verified" in text
    assert text.count("whole") == 2


def test_a_damaged_one_is_named_and_gives_an_exit_code(finished: RunFolder) -> None:
    store = finished.store
    path = finished.root / "store" / found_at(store, 6).prefix / "rank-000001.safetensors"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        done = optctl(finished, "checkpoints", "--verify")
        assert done.exit_code == 1
        assert "rank-000001.safetensors" in done.stdout
        refused = optctl(finished, "export", str(finished.root / "damaged"))
        assert (refused.exit_code, "digest is" in refused.stderr) == (1, True), refused.stderr
        assert not (finished.root / "damaged").exists()
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize(("step", "dtype"), [(None, None), (3, "bfloat16")])
def test_an_export_is_a_directory_that_transformers_loads(
    finished: RunFolder, tmp_path: Path, step: int | None, dtype: str | None
) -> None:
    from safetensors.torch import load_file
    from transformers import OPTForCausalLM

    out = tmp_path / "model"
    more = [*(["--step", str(step)] if step else []), *(["--dtype", dtype] if dtype else [])]
    done = optctl(finished, "export", str(out), *more, "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["step"] == (step or 6)
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt"} <= set(made["files"])
    assert made["bytes"] == sum(file.stat().st_size for file in out.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["model"], "nothing else is left behind"
    weights = load_file(out / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {getattr(torch, dtype or "float32")}
    theirs = OPTForCausalLM.from_pretrained(out)
    assert theirs.config.num_hidden_layers == 2


def test_what_cannot_be_exported_is_refused_with_what_there_is(finished: RunFolder, tmp_path: Path) -> None:
    missing = optctl(finished, "export", str(tmp_path / "x"), "--step", "5")
    assert missing.exit_code == 2
    assert "of step 5 that can be loaded; it has: 6 (Verified), 3 (Verified)" in missing.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    full = optctl(finished, "export", str(tmp_path / "full"))
    assert (full.exit_code, (tmp_path / "full" / "file").read_text()) == (2, "mine")
    assert "not empty" in full.stderr


def test_a_poisoned_one_is_passed_over(finished: RunFolder, tmp_path: Path) -> None:
    store = finished.store
    key = mark_key(found_at(store, 6).prefix, "Poisoned")
    store.put(key, b"{}")
    try:
        assert [one["state"] for one in listed(finished)] == ["Poisoned", "Verified"]
        done = optctl(finished, "export", str(tmp_path / "model"), "--json")
        assert json.loads(done.stdout)["step"] == 3
    finally:
        store.delete(key)


@pytest.mark.parametrize("mark", ["pinned", "known-good", "poisoned"])
def test_a_person_marks_a_checkpoint_and_takes_it_back(finished: RunFolder, mark: str) -> None:
    name = {"pinned": "Pinned", "known-good": "KnownGood", "poisoned": "Poisoned"}[mark]
    done = optctl(finished, "mark", "3", mark, "--reason", "seen")
    assert done.exit_code == 0, done.output
    assert found_at(finished.store, 3).marked(name)
    assert listed(finished, "--verify")[1]["problems"] == []
    assert (listed(finished)[1]["state"] == "Poisoned") == (mark == "poisoned")
    assert optctl(finished, "mark", "3", mark, "--remove").exit_code == 0
    assert not found_at(finished.store, 3).marked(name)


def test_a_step_without_a_checkpoint_cannot_be_marked(finished: RunFolder) -> None:
    done = optctl(finished, "mark", "4", "pinned")
    assert (done.exit_code, "of step 4; it has: 6 (Verified), 3 (Verified)" in done.stderr) == (2, True)


def test_a_save_that_was_killed_is_shown_as_uploading(finished: RunFolder) -> None:
    store, prefix = finished.store, found_at(finished.store, 3).prefix
    manifest = store.get(manifest_key(prefix))
    store.delete(manifest_key(prefix))
    try:
        assert [one["state"] for one in listed(finished, "--verify")] == ["Verified", "Uploading"]
    finally:
        store.put(manifest_key(prefix), manifest)


def test_the_audit_tells_what_a_step_really_trained_on(finished: RunFolder) -> None:
    given: dict[int, list[int]] = {}
    for path in (finished.root / "work").glob("blocks-*"):
        for step, *blocks in map(json.loads, path.read_text().splitlines()):
            given.setdefault(step, []).extend(blocks)
    for step in (1, 4, STEPS):
        done = optctl(finished, "audit", "--step", str(step), "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert not told["skipped"]
        assert sorted({d["block"] for d in told["documents"]}) == sorted(given[step])
        assert {d["source"] for d in told["documents"]} == {"manual"}
    text = optctl(finished, "audit", "--step", "1").stdout
    assert text.startswith(f"step 1 of {RUN}: ")
    assert "file:///pages at " in text


def test_a_step_that_the_run_does_not_have_is_refused(finished: RunFolder) -> None:
    done = optctl(finished, "audit", "--step", "7")
    assert done.exit_code == 2
    assert "found --step 7, the run has steps 1 to 6" in done.stderr


def test_a_run_that_is_not_there(finished: RunFolder) -> None:
    for arguments in (["checkpoints", "absent"], ["export", "absent", "x"], ["audit", "absent", "--step", "1"]):
        done = CliRunner().invoke(main, [*arguments, "--store", finished.url])
        assert done.exit_code == 1
        assert "'absent'" in done.stderr
