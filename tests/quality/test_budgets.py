"""A file is read in one sitting and a function fits on a screen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.tracked import PACKAGES, ROOT, functions, lines_of, python_files, tree

pytestmark = pytest.mark.unit

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def length(path: Path) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    too_long = {str(path): length(path) for path in python_files() if length(path) > MAX_FILE_LINES}
    assert not too_long


def test_functions_are_short() -> None:
    found = [(f"{path}:{node.name}", lines_of(node)) for path in python_files() for node in functions(path)]
    assert not [entry for entry in found if entry[1] > MAX_FUNCTION_LINES]


def test_what_others_may_call_has_a_docstring() -> None:
    missing = [
        f"{path}:{node.name}"
        for path in python_files(*PACKAGES)
        for node in ast.iter_child_nodes(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not missing


def test_every_module_says_what_it_is() -> None:
    assert not [str(path) for path in python_files() if length(path) and not ast.get_docstring(tree(path))]
