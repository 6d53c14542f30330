"""`optctl plan`: what a person and a program read of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from opt_api.documents.plan import Plan
from opt_api.estimate.estimate import estimate
from opt_api.resolve import resolve
from opt_cli.main import main
from opt_cli.plan import one_training
from opt_cli.plan_text import show
from support.trainings import document

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAININGS = ["quickstart", "opt-125m", "opt-175b"]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments], input=stdin)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_example_has_a_plan(name):
    result = run(str(EXAMPLES / f"{name}.yaml"))
    assert result.exit_code == 0, result.output
    assert "Yes: it fits." in result.output


def test_a_pipe_gets_plain_text():
    output = run(str(EXAMPLES / "opt-175b.yaml")).output
    assert "\x1b" not in output
    assert all(line == line.rstrip() for line in output.splitlines())
    for words in ("174.6 B", "143,051 steps", "992 = 124 hosts x 8 a100-80gb", "75.2 t", "813,655", "2031616"):
        assert words in output


def test_a_terminal_gets_colours_and_its_own_width():
    made = one_training(str(EXAMPLES / "opt-175b.yaml"))
    plan = resolve(made)
    screen = io.StringIO()
    show(made, plan, estimate(made, plan), Console(file=screen, force_terminal=True, width=80, highlight=False))
    assert "\x1b[1;32mYes: it fits." in screen.getvalue()


def test_json_is_one_document_of_plan_and_estimate():
    result = run("--json", str(EXAMPLES / "opt-125m.yaml"))
    found = json.loads(result.stdout)
    plan = Plan.model_validate(found["plan"])
    assert (found["fits"], found["digest"]) == (True, plan.digest())
    assert found["estimate"]["parameters"] == plan.architecture.parameters()


def test_a_layout_that_does_not_fit_is_a_clear_no():
    made = yaml.safe_dump(document(model={"preset": "opt-13b"}))
    result = run("-", stdin=made)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "No: - is valid, but it cannot run as it stands" in result.stderr
    assert "spec.parallelism: found" in result.stderr
    assert "nearest layout that fits: " in result.stderr


def test_json_of_a_no_names_every_problem():
    made = yaml.safe_dump(document(model={"preset": "opt-125m", "heads": 7}, optimisation={"batchTokens": 5}))
    result = run("-", "--json", stdin=made)
    found = json.loads(result.stdout)
    assert result.exit_code == 2
    assert not found["fits"]
    assert {item["path"] for item in found["problems"]} == {"spec.model.heads", "spec.optimisation.batchTokens"}


def test_preparing_data_alone_says_nothing_of_a_gang():
    made = yaml.safe_dump(document(model={"preset": "opt-175b"}, until="Data"))
    result = run("-", stdin=made)
    assert result.exit_code == 0
    assert "prepares data only" in result.stdout
    assert "Memory" not in result.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "kind"),
        (yaml.safe_dump(document(model={"preset": "opt-1b"})), "spec.model.preset"),
        ("---\n".join([yaml.safe_dump(document())] * 2), "2 OPTTraining documents"),
        ((EXAMPLES / "serve.yaml").read_text(), "0 OPTTraining documents"),
    ],
    ids=["empty", "unknown preset", "two trainings", "a service"],
)
def test_wrong_input_is_refused_by_name(text, words):
    result = run("-", stdin=text)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_missing_file_is_refused_by_name(tmp_path):
    result = run(str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr
