"""Texts and specs for data preparation's tests."""

from __future__ import annotations

import json
from pathlib import Path

from opt_api.training.data import (
    DataSpec,
    Deduplication,
    Source,
    Tokenizer,
    TrainedTokenizer,
    Validation,
)
from opt_dataprep.planning import make_plan
from opt_dataprep.sources import Rejected, SourceDocument, read_part

PYTHON = Path(json.__file__).parents[1]
"""The standard library: real text that every machine with Python has."""


def spec(*sources: Source, **parts) -> DataSpec:
    """A spec with small numbers, any part of it replaced."""
    values = {
        "sources": sources,
        "tokenizer": Tokenizer(train=TrainedTokenizer(vocabulary_size=512)),
        "sequence_length": 32,
        "part_bytes": 1 << 20,
        "validation": Validation(fraction=0.1),
        "deduplication": Deduplication(near_enabled=False),
    }
    return DataSpec(**(values | parts))


def write_jsonl(path: Path, texts: list[str], field: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({field: text, "id": i}) + "\n" for i, text in enumerate(texts)))
    return path


def write_texts(folder: Path, texts: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{i:05d}.txt").write_text(text)
    return folder


def library_texts(count: int) -> list[str]:
    """Modules of the standard library, in order of their names."""
    files = sorted(PYTHON.glob("*.py"))[:count]
    assert len(files) == count, f"{PYTHON} holds {len(files)} modules, the test needs {count}: install Python's library"
    return [f.read_text(encoding="utf-8") for f in files]


def as_jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def source(path: Path, **fields) -> Source:
    return Source(name="s", uri=path.as_uri(), **fields)


def read_all(data) -> list[SourceDocument | Rejected]:
    plan = make_plan(data)
    return [found for part in plan.parts for found in read_part(plan, part)]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def training_file(path: Path, data: DataSpec, **spec_fields) -> Path:
    """Write an OPTTraining with this data, as a user's file."""
    document = {
        "apiVersion": "opt-operator.io/v1alpha1",
        "kind": "OPTTraining",
        "metadata": {"name": "pages"},
        "spec": {"model": {"preset": "opt-125m"}, "data": data.wire(), **spec_fields},
    }
    path.write_text(json.dumps(document))
    return path
