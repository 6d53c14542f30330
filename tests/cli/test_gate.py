"""The gate of a served model on a run that the real trainer left in a store."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opt_api.documents.gate_report import GateReport
from opt_api.documents.keys import export_prefix, mark_key, run_prefix, served_key
from opt_api.documents.plan import Plan
from opt_cli.fetch_model import main as fetch_model
from opt_cli.gate_choice import Candidate, Nothing, Wish, candidates, choose, mark_served
from opt_cli.gate_job import Judgement, main
from opt_store import open_store
from opt_trainer.checkpoint.catalog import catalog
from opt_trainer.checkpoint.retention import doomed
from support.datasets import write_dataset
from support.plans import SEQUENCE
from support.runs import RunFolder, plan_for
from support.warm import Warm

RUN, STEPS = "tiny", 6
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Six steps, checkpoints after 3 and 6 without exports; the data set lies where `optctl run` prepares it."""
    folder = RunFolder(tmp_path_factory.mktemp("finished"))
    plan = plan_for(STEPS)
    with Warm() as warm:
        assert warm.run(folder.gang(plan, 0)) == [0]
    write_dataset(folder.store, "data/abc", train=(55, 9), sequence_length=SEQUENCE, vocabulary=96)
    sources = [{"name": "manual", "uri": "file:///pages", "format": "text"}]
    tokenizer = {"train": {"vocabularySize": 512, "sampleBytes": 1_000_000}}
    data = {"dataset": None, "sources": sources, "tokenizer": tokenizer}
    own = plan_for(STEPS, data=data, model={"vocabularySize": 512})
    folder.store.put(f"{run_prefix(RUN)}/{Plan.file_name}", own.to_bytes())
    return folder


def gate(folder: RunFolder, capsys: pytest.CaptureFixture[str], *more: str, checkpoint: str = "latest") -> GateReport:
    arguments = ["--store", folder.url, "--run", RUN, "--serve", "model", "--checkpoint", checkpoint, *more]
    assert main(arguments) == 0
    return GateReport.from_bytes(capsys.readouterr().out.splitlines()[-1].encode())


@pytest.mark.integration
def test_the_newest_is_exported_loaded_and_scored(
    finished: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = catalog(finished.store, RUN)[0]
    assert f"{export_prefix(before.prefix)}/config.json" not in before.keys
    first = gate(finished, capsys)
    assert first.passed, first.reason
    assert first.checkpoint is not None
    assert first.checkpoint.step == STEPS
    assert first.checkpoint.loss is not None
    assert math.isfinite(first.checkpoint.loss)
    assert f"{export_prefix(before.prefix)}/config.json" in catalog(finished.store, RUN)[0].keys
    assert open_store(first.checkpoint.uri).get("config.json")

    # what is served is not looked at again, and stays where retention cannot reach it
    again = gate(finished, capsys, "--current", first.checkpoint.digest)
    assert (again.passed, again.checkpoint and again.checkpoint.loss) == (True, None)
    assert served_key(before.prefix, "model") in catalog(finished.store, RUN)[0].keys

    # a better baseline than it has
    worse = gate(finished, capsys, "--baseline", f"{first.checkpoint.loss / 2:.4f}")
    assert not worse.passed
    assert "held-out" in worse.reason

    # rejected: the one before it
    older = gate(finished, capsys, "--reject", first.checkpoint.digest, "--no-judgement")
    assert older.checkpoint is not None
    assert older.checkpoint.step == 3
    assert served_key(before.prefix, "model") not in catalog(finished.store, RUN)[0].keys

    assert fetch_model([first.checkpoint.uri, str(tmp_path / "model")]) == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "opt"
    assert (tmp_path / "model" / "vocab.json").is_file()


@pytest.mark.integration
def test_a_model_whose_numbers_are_not_finite_does_not_pass(
    finished: RunFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = gate(finished, capsys, "--no-judgement", checkpoint="3")
    assert report.checkpoint is not None
    assert fetch_model([report.checkpoint.uri, str(tmp_path / "model")]) == 0
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    state = load_file(weights)
    name = next(n for n in state if n.endswith("final_layer_norm.weight"))
    state[name] = torch.full_like(state[name], float("nan"))
    save_file(state, weights, metadata={"format": "pt"})
    assert main(["--uri", (tmp_path / "model").as_uri()]) == 0
    broken = GateReport.from_bytes(capsys.readouterr().out.splitlines()[-1].encode())
    assert (broken.passed, "not finite" in broken.reason) == (False, True), broken.reason
    (tmp_path / "model" / "config.json").unlink()
    assert main(["--uri", (tmp_path / "model").as_uri()]) == 0
    nothing = GateReport.from_bytes(capsys.readouterr().out.splitlines()[-1].encode())
    assert nothing.checkpoint is None
    assert "config.json" in nothing.reason


@pytest.mark.integration
def test_only_verified_ones_count(finished: RunFolder) -> None:
    newest, older = candidates(finished.store, RUN)
    key = mark_key(newest.found.prefix, "Poisoned")
    finished.store.put(key, b"{}")
    try:
        assert [c.manifest.step for c in candidates(finished.store, RUN)] == [older.manifest.step]
    finally:
        finished.store.delete(key)


@pytest.mark.integration
def test_what_is_served_stays(finished: RunFolder) -> None:
    from opt_api.training.checkpointing import Retention
    from opt_trainer.checkpoint.job import RetentionPolicy

    mark_served(finished.store, RUN, "model", set())
    policy = RetentionPolicy(retention=Retention(keep_last=1), pinned=())
    found = catalog(finished.store, RUN)
    older = found[-1]
    assert [f.step for f in doomed(found, 0, policy)] == [older.step]
    finished.store.put(served_key(older.prefix, "other"), b"{}")
    try:
        assert doomed(catalog(finished.store, RUN), 0, policy) == []
    finally:
        finished.store.delete(served_key(older.prefix, "other"))


def candidate(known: Candidate, step: int, age_s: float, loss: float | None) -> Candidate:
    update: dict[str, Any] = {"step": step, "time": NOW - timedelta(seconds=age_s)}
    update["validation_loss"] = {} if loss is None else {"a": loss, "b": loss + 1}
    return Candidate(known.found, known.manifest.model_copy(update=update), f"sha256:{step:064x}")


@pytest.mark.integration
def test_which_one_is_chosen(finished: RunFolder) -> None:
    base = candidates(finished.store, RUN)[0]
    known = [candidate(base, 30, 5, None), candidate(base, 20, 50, 3.0), candidate(base, 10, 500, 2.0)]

    def step(wish: Wish) -> int | Nothing:
        found = choose(known, wish)
        return found if isinstance(found, Nothing) else found.manifest.step

    assert step(Wish("latest", NOW)) == 30
    assert step(Wish("best", NOW)) == 10
    assert step(Wish("20", NOW)) == 20
    assert step(Wish("latest", NOW, timedelta(seconds=20))) == 20
    assert step(Wish("latest", NOW, rejected=frozenset({known[0].digest}))) == 20
    young = step(Wish("latest", NOW, timedelta(seconds=600)))
    assert isinstance(young, Nothing)
    assert young.later == NOW + timedelta(seconds=100)
    assert isinstance(step(Wish("99", NOW)), Nothing)
    assert "10" in step(Wish("99", NOW)).reason  # type: ignore[union-attr]
    assert isinstance(choose([], Wish("latest", NOW)), Nothing)
    assert isinstance(choose(known[:1], Wish("best", NOW)), Nothing)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("loss", "baseline", "good"), [(2.0, None, True), (2.1, 2.0, True), (2.11, 2.0, False), (None, 2.0, True)]
)
def test_how_much_worse_it_may_be(loss: float | None, baseline: float | None, good: bool) -> None:
    assert (Judgement(max_increase=0.05, baseline=baseline).verdict(loss) == "") == good
