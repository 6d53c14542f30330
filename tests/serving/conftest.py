"""One small model, and one server of it for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.served_models import Server, serving, write_model


@pytest.fixture(scope="session")
def model_and_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder), folder


@pytest.fixture(scope="session")
def hf(model_and_folder: tuple[Any, Path]) -> Any:
    return model_and_folder[0]


@pytest.fixture(scope="session")
def folder(model_and_folder: tuple[Any, Path]) -> Path:
    return model_and_folder[1]


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(folder, log, "--model-name", "tiny", "--max-sequences", "8") as started:
        yield started
