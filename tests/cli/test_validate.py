"""`optctl validate`: exit codes, every problem with its place, JSON, standard input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from opt_cli.main import COMMANDS, main

pytestmark = pytest.mark.unit

GOOD = """\
apiVersion: opt-operator.io/v1alpha1
kind: OPTServe
metadata: {name: served}
spec: {source: {uri: "s3://bucket/model"}}
"""
BAD = """\
apiVersion: opt-operator.io/v1alpha1
kind: OPTServe
metadata: {name: served}
spec:
  source: {uri: "http://bucket/model"}
  engine: {weights: int8, name: vlm}
"""
SECRET = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"


def optctl(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=text)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD + SECRET)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(
        GOOD + "---\n" + BAD.replace("}}\n  engine", "}\n  engine").replace("spec: {source:", "spec:\n  source:")
    )
    return path


def test_a_good_file_is_valid_and_other_kinds_are_passed_over(good: Path) -> None:
    result = optctl("validate", str(good))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{good}: OPTServe served is valid", f"{good}: Secret (v1) passed over"]


def test_every_problem_of_every_file_goes_to_stderr_with_its_place(bad: Path, good: Path) -> None:
    result = optctl("validate", str(bad), str(good), "absent.yaml")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f'{bad}:10 document 2: spec.source.uri: found "http://bucket/model"; allowed: text of')
    engine = 'spec.engine.name: found "vlm"; allowed: one of native, vllm (did you mean vllm?)'
    assert lines[1] == f"{bad}:11 document 2: {engine}"
    assert lines[2] == f"{bad}: 2 problem(s)"
    assert "absent.yaml: document: found a file that cannot be read" in lines[3]
    assert "OPTServe served is valid" in result.stdout


def test_json_has_verdicts_and_problems(bad: Path, good: Path) -> None:
    result = optctl("validate", "--json", str(good), str(bad))
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["valid"] is False
    first, second = found["files"]
    assert first["valid"]
    assert [document["kind"] for document in first["documents"]] == ["OPTServe", "Secret"]
    problem = second["problems"][0]
    assert (problem["path"], problem["document"], problem["line"]) == ("spec.source.uri", 2, 10)
    assert set(problem) == {"path", "found", "allowed", "hint", "source", "document", "line"}


def test_a_dash_is_standard_input() -> None:
    assert optctl("validate", "-", text=GOOD).exit_code == 0
    result = optctl("validate", "-", text=GOOD.replace("served", "Served"))
    assert result.exit_code == 2
    assert result.stderr.startswith("-:3: metadata.name")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no document"),
        (SECRET, "no resource of ours"),
        (b"\xff\xfe", "byte 0xff at offset 0"),
        ("a: [", "YAML or JSON"),
    ],
)
def test_input_that_holds_no_resource_is_bad_input(text: str | bytes, said: str) -> None:
    result = optctl("validate", "-", text=text)
    assert result.exit_code == 2
    assert said in result.stderr


def test_no_file_is_bad_input() -> None:
    assert optctl("validate").exit_code == 2


def test_every_command_can_be_imported_and_says_what_it_does() -> None:
    for name in COMMANDS:
        result = optctl(name, "--help")
        assert result.exit_code == 0, name
        assert result.stdout.startswith("Usage:"), name


def test_an_unknown_command_is_bad_input() -> None:
    assert optctl("nonsense").exit_code == 2
