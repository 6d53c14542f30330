"""Generated files are what the models say."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from opt_api.generate.__main__ import main
from opt_api.generate.artefacts import artefacts
from opt_api.generate.documents import document_models
from opt_api.generate.json_schema import json_schema
from opt_api.shapes import shape_of
from support.contracts import path_of, read_golden

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GENERATED = ("crds/*.yaml", "docs/reference/*.md", "docs/reference/schemas/*.json")
OPERATORS = Path("docs/reference/operator.md")
"""Written by `opt_operator.tables` from the operator's own tables."""


def test_generated_files_are_fresh() -> None:
    stale = [str(path) for path, text in artefacts().items() if not is_text(ROOT / path, text)]
    assert not stale, "run `make generate`"


def test_no_generated_file_is_left_over() -> None:
    there = {path.relative_to(ROOT) for pattern in GENERATED for path in ROOT.glob(pattern)}
    assert there - {OPERATORS} == set(artefacts())


def test_the_check_finds_a_stale_file_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path)]
    assert main(["--check", *root]) == 1
    assert main(root) == 0
    assert main(["--check", *root]) == 0
    (tmp_path / "crds" / "optserves.yaml").write_text("stale")
    assert main(["--check", *root]) == 1
    assert "crds/optserves.yaml is stale" in capsys.readouterr().err


@pytest.mark.parametrize("kind", document_models())
def test_a_document_schema_is_valid_and_accepts_the_document(kind: str) -> None:
    schema = json_schema(kind, shape_of(document_models()[kind]))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    document = read_golden(path_of(document_models()[kind])).wire()
    validator.validate(document)
    assert list(validator.iter_errors(document | {"noSuchField": 1}))


def is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
