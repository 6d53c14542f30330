"""No call that runs what it reads."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

from support.tracked import PACKAGES, dotted, python_files, tree

pytestmark = pytest.mark.unit

FOLDERS = (*PACKAGES, "hack", "benchmarks")
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def keyword(call: ast.Call, name: str) -> object:
    values = [word.value for word in call.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


CALLS: dict[str, Callable[[ast.Call], bool]] = {
    "eval": lambda _: True,
    "exec": lambda _: True,
    "yaml.load": lambda _: True,
    "yaml.load_all": lambda _: True,
    "yaml.full_load": lambda _: True,
    "yaml.unsafe_load": lambda _: True,
    "torch.load": lambda call: keyword(call, "weights_only") is not True,
    "numpy.load": lambda call: keyword(call, "allow_pickle") is True,
    "np.load": lambda call: keyword(call, "allow_pickle") is True,
    "os.system": lambda _: True,
    "subprocess.getoutput": lambda _: True,
}
"""When a call of that name is refused. torch's reader with `weights_only` builds tensors and plain values alone."""


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (name.name.split(".")[0] for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield (node.module or "").split(".")[0]


def refused(source: ast.Module) -> list[str]:
    found = [name for node in ast.walk(source) for name in imported(node) if name in MODULES]
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call)]
    return found + [name for call in calls if (name := dotted(call.func)) in CALLS and CALLS[name](call)]


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = {str(path): refused(tree(path)) for path in python_files(*FOLDERS)}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import pickle.x", ["pickle"]),
        ("from dill import loads", ["dill"]),
        ("eval('1')", ["eval"]),
        ("yaml.load(x, Loader=y)", ["yaml.load"]),
        ("torch.load(x)", ["torch.load"]),
        ("torch.load(x, weights_only=False)", ["torch.load"]),
        ("torch.load(x, weights_only=True)", []),
        ("model.eval(); yaml.safe_load(x); np.load(x)", []),
        ("np.load(x, allow_pickle=True)", ["np.load"]),
    ],
)
def test_the_lint_finds_what_it_is_for(source: str, names: list[str]) -> None:
    assert refused(ast.parse(source)) == names
