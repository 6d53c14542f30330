"""What `optctl run` and its siblings say before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from opt_api.problems import Problems
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_cli.local_run import Wish, prepare
from opt_cli.logbook import logbook
from opt_cli.loss_chart import chart
from opt_cli.pause import pause
from opt_cli.run import run
from opt_cli.run_screen import View, duration
from opt_cli.set import set_
from opt_cli.status import status
from opt_runtime.records.journal import RuntimeEvent, journal_of
from opt_runtime.records.logbook import Logbook, entry_of
from opt_store import open_store
from support.small_spec import SPEC

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--fault", "melt rank 1 at step 3"], "kill rank NAME at step N"),
        (["--fault", "kill rank 7 at step 3"], "there is no rank '7'; there are 0, 1"),
        (["--fault-file", "nowhere.yaml"], "a readable YAML or JSON file"),
        (["--hosts", "1"], "spec.resilience.minHosts: found 2; allowed: must not exceed parallelism.hosts"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(folder: Path, arguments: list[str], word: str) -> None:
    spec = {**SPEC, "spec": {**SPEC["spec"], "resilience": {"minHosts": 2}}}
    (folder / "two.yaml").write_text(yaml.safe_dump(spec))
    found = CliRunner().invoke(run, ["two.yaml", *arguments])
    assert found.exit_code == 2
    assert word in found.stderr
    assert not list((folder / "runs").rglob("*.json"))


def test_another_run_under_the_name_is_refused_and_the_stored_one_stays(folder: Path) -> None:
    store = folder / "store"
    store.mkdir()
    wish = Wish(OPTTraining.model_validate(SPEC), store.as_uri(), folder / "scratch")
    prepare(wish)
    before = {path: path.read_bytes() for path in store.rglob("*.json")}
    assert before
    optimisation = {**SPEC["spec"]["optimisation"], "beta2": 0.98}
    other = {**SPEC, "spec": {**SPEC["spec"], "optimisation": optimisation}}
    with pytest.raises(Problems, match="differs in recipe"):
        prepare(Wish(OPTTraining.model_validate(other), store.as_uri(), folder / "scratch"))
    assert {path: path.read_bytes() for path in store.rglob("*.json")} == before
    prepare(wish)


def test_cuda_without_a_device_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opt_cli.local_run.CUDA_CONTROL", folder / "nvidiactl")
    spec = {**SPEC, "spec": {**SPEC["spec"], "parallelism": {"hosts": 1, "device": "cuda"}}}
    (folder / "cuda.yaml").write_text(yaml.safe_dump(spec))
    found = CliRunner().invoke(run, ["cuda.yaml"])
    assert found.exit_code == 2
    assert "no CUDA device on this machine" in found.stderr


@pytest.mark.parametrize("command", [status, logbook])
def test_a_run_that_is_not_there_is_named(folder: Path, command) -> None:
    found = CliRunner().invoke(command, ["nobody"])
    assert found.exit_code == 1
    assert "no folder runs/nobody" in found.stderr


def test_a_run_that_is_not_running_cannot_be_told_anything(folder: Path) -> None:
    found = CliRunner().invoke(pause, ["nobody"])
    assert found.exit_code == 1
    assert "not running on this machine" in found.stderr
    found = CliRunner().invoke(set_, ["nobody", "optimisation.clip", "--reason", "x"])
    assert found.exit_code == 2
    assert "expected FIELD=VALUE" in found.stderr


def test_a_stopped_run_is_told_from_its_store(folder: Path) -> None:
    store_folder = folder / "runs/old"
    store_folder.mkdir(parents=True)
    store = open_store(store_folder.as_uri())
    for what, more in (("AttemptStarted", {"attempt": 3, "gang": ("h",)}), ("Progress", {"step": 77})):
        journal = journal_of(store, "old")
        list(journal.read())
        journal.append(lambda n, w=what, m=more: RuntimeEvent(sequence=n, writer="w", time=1.0, what=w, **m))
    Logbook(store, "old").append(
        entry_of("old", attempt=3, cause="HostLost", rung=2, steps_lost=1, summary="swapped", evidence=("silent",))
    )
    found = json.loads(CliRunner().invoke(status, ["old", "--json"]).stdout)
    assert (found["phase"], found["attempt"], found["step"]) == ("stopped", 3, 77)
    words = CliRunner().invoke(logbook, ["old"]).stdout
    assert "attempt 3  HostLost  rung 2  1 step(s) redone  swapped" in words
    assert "silent" in words


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_shows_the_run(width: int) -> None:
    view = View(resolve(OPTTraining.model_validate(SPEC)))
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    status_now = {
        "phase": "running", "pausedFor": None, "attempt": 2, "step": 60, "totalSteps": 600, "loss": 3.5,
        "tokensPerSecond": 256.0, "ettr": 0.9, "section": "step", "checkpoints": [50], "goodput": {"productive": 12.0},
        "agents": [{"host": "host-0", "state": "InUse", "pid": 4, "gone": ""}],
        "workers": [{"rank": 0, "host": "host-0", "pid": 5, "section": "step", "step": 60}],
    }  # fmt: skip
    view.add({"status": status_now})
    view.add({"entry": {"cause": "WorkerKilled", "summary": "attempt 2", "rung": 1, "seconds": {"in_all": 0.5}}})
    view.add({"fault": "kill rank 1 at step 50"})
    console.print(view.render(width))
    console.file.close()
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width
    for word in (
        "small: running, attempt 2", "step 60/600", "loss 3.5000", "ETA 0:09:00", "ETTR 90.0%", "checkpoints 50",
        "rank 0 (pid 5) step 60", "WorkerKilled", "attempt 2 (0.50 s)", "fault", "productive 12",
    ):  # fmt: skip
        assert word in shown


def test_the_curve_falls_as_the_loss_does() -> None:
    assert chart({}, 40, 4, 10) == []
    rows = chart({step: 11.0 - step for step in range(1, 11)}, 40, 4, 10, marks=[5])
    assert rows[0].startswith(" 10.000 ┤█")
    assert rows[3].startswith("  1.000 ┤█")
    heights = [sum(row[9 + at] != " " for row in rows[:4]) for at in range(28)]
    assert heights == sorted(heights, reverse=True)
    assert "▲" in rows[4]
    assert rows[5].split() == ["0", "10"]
    assert max(map(len, rows)) <= 40
    assert (duration(None), duration(3725)) == ("-", "1:02:05")
