"""The golden documents: one file per version of each document, kept for ever.

`PYTHONPATH=tests python -m support.contracts` writes the files that are missing. It never changes one that is there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opt_api.documents.base import Document
from opt_api.generate.documents import document_models, file_stem
from opt_api.shapes import shape_of
from support.specs import below, grown, sample

FOLDER = Path(__file__).parents[1] / "golden" / "contracts"


def path_of(model: type[Document]) -> Path:
    """Where the golden file of a document's newest version lies."""
    return FOLDER / f"{file_stem(model)}.json"


def golden_files() -> list[Path]:
    """The golden files of all versions."""
    return sorted(FOLDER.glob("*.json"))


def read_golden(path: Path) -> Document:
    """The document in a golden file."""
    text = path.read_bytes()
    return document_models()[json.loads(text)["kind"]].from_bytes(text)


def complete(model: type[Document]) -> dict[str, Any]:
    """A document with as many fields set as can stand beside each other."""
    head = {"kind": model.__name__, "version": model.model_fields["version"].default}
    shape = shape_of(model)
    start = sample(shape) | head
    every = ((place, part) for place, part in below(shape, (), start, grow=True) if place and place[0] not in head)
    return grown(start, every, lambda document: _is_valid(model, document))


def _is_valid(model: type[Document], document: dict[str, Any]) -> bool:
    try:
        model.from_bytes(json.dumps(document).encode())
    except ValidationError:
        return False
    return True


def main() -> None:
    """Write what is missing."""
    for model in document_models().values():
        path = path_of(model)
        if not path.exists():
            path.write_text(json.dumps(complete(model), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
            sys.stdout.write(f"wrote {path.name}\n")


if __name__ == "__main__":
    main()
