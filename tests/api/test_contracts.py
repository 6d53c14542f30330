"""What was written once can be read for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from opt_api.documents.base import Document
from opt_api.generate.documents import document_models
from support.contracts import golden_files, path_of, read_golden

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", document_models())
def test_every_document_has_a_golden_file(kind: str) -> None:
    assert path_of(document_models()[kind]).is_file(), "write it: PYTHONPATH=tests python -m support.contracts"


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_a_golden_document_is_read_whole(path: Path) -> None:
    written = json.loads(path.read_bytes())
    assert contains(read_golden(path).wire(), written)


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
def test_bytes_are_canonical_and_name_the_document(path: Path) -> None:
    document = read_golden(path)
    again = type(document).from_bytes(document.to_bytes())
    assert again == document
    assert again.to_bytes() == document.to_bytes()
    assert again.digest() == document.digest()


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.stem)
@pytest.mark.parametrize("change", [{"version": 999}, {"kind": "Other"}, {"noSuchField": 1}], ids=str)
def test_another_version_kind_or_field_is_refused(path: Path, change: dict[str, object]) -> None:
    written = json.loads(path.read_bytes()) | change
    model: type[Document] = type(read_golden(path))
    with pytest.raises(ValidationError):
        model.from_bytes(json.dumps(written).encode())


def contains(whole: object, part: object) -> bool:
    """Whether everything of a golden document is still there; later versions of the code may add fields."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part
