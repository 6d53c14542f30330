"""What the fault tests share: one small data set, and the losses of a run that nothing happened to."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.real_run import real_run, small_dataset


@pytest.fixture(scope="package")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a small data set of real text."""
    return small_dataset(tmp_path_factory.mktemp("text") / "store")


@pytest.fixture(scope="package")
def real_twin(text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, set[str]]:
    """Losses of the real trainer's run without faults."""
    folder: Path = tmp_path_factory.mktemp("real-twin")
    with real_run(folder, text) as run:
        run.until_finished()
        return run.losses()
