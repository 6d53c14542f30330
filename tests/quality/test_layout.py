"""Folders show the architecture, and imports go one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.tracked import PACKAGES, ROOT, tracked

pytestmark = pytest.mark.unit


def test_no_top_level_folder_is_a_package() -> None:
    """The standard library owns the name `operator`; a package of that name on the path breaks `collections`."""
    assert not [str(path) for path in tracked() if path.name == "__init__.py" and len(path.parts) == 2]


def test_tests_are_no_packages() -> None:
    assert not [str(path) for path in tracked() if path.name == "__init__.py" and path.parts[0] == "tests"]


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_folder_holds_one_typed_package(folder: str) -> None:
    packages = {path.parts[1] for path in tracked() if path.parts[0] == folder and len(path.parts) > 2}
    assert packages == {f"opt_{folder}"}
    assert Path(folder) / f"opt_{folder}" / "py.typed" in tracked()


def test_imports_go_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
