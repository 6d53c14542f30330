"""YAML and JSON as `kubectl` reads them: numbers, words, duplicate keys, merges, and files made to do harm."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_api.parsing import parse_text
from opt_api.parsing.text import read
from opt_api.problems import Problems
from support.judges import ApiServer

SCALARS: dict[str, object] = {
    "1": 1, "-3": -3, "+4": 4, "1_000": 1000, "0x1F": 31, "0o17": 15, "017": 15, "0b101": 5,
    "1.5": 1.5, "1e-4": 1e-4, "6E2": 600, "3.0": 3, ".5": 0.5, "1.": 1, "1e400": "1e400",
    "true": True, "False": False, "yes": True, "off": False, "y": True, "N": False,
    "null": None, "~": None, "": None,
    "12:30": "12:30", "2026-01-31": "2026-01-31", "1.2.3": "1.2.3", "0x": "0x", "_": "_", "tRue": "tRue", "08": 8,
    "'1'": "1", '"true"': "true", "!!str 1": "1", "!!int '7'": 7, "a b": "a b",
}  # fmt: skip


def value(text: str) -> Any:
    (document,) = read(text)
    assert not document.problems
    return document.value


@pytest.mark.integration
@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_has_the_type_that_kubectl_gives_it(text: str) -> None:
    found = value(f"a: {text}")
    assert found == {"a": SCALARS[text]}
    assert type(found["a"]) is type(SCALARS[text])


@pytest.mark.integration
def test_kubectl_reads_the_same_values(api_server: ApiServer) -> None:
    from support.cluster import kubectl

    lines = [f"  k{number}: {text}" for number, text in enumerate(SCALARS)]
    head = "apiVersion: opt-operator.io/v1alpha1\nkind: OPTTraining\nmetadata: {name: scalars}\nspec:\n"
    text = "\n".join([head.rstrip(), *lines]) + "\n"
    path = api_server.kubeconfig.parent / "scalars.yaml"
    path.write_text(text)
    options = ("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", str(path))
    assert json.loads(kubectl(api_server.kubeconfig, *options))["spec"] == value(text)["spec"]


@pytest.mark.integration
def test_json_is_read_too() -> None:
    document = {"a": [1, 2.5, None, True], "b": {"c": '\U0001f600 é " \\ /'}}
    assert value(json.dumps(document)) == document
    assert value(json.dumps(document, indent="\t")) == document


@pytest.mark.integration
def test_documents_and_lines() -> None:
    first, second = read("---\na: 1\n---\n# nothing\n---\nb:\n  - c: 2\n    d: 3\n")
    assert (first.value, second.value) == ({"a": 1}, {"b": [{"c": 2, "d": 3}]})
    assert first.line(("a",)) == 2
    assert second.line(("b", 0, "d")) == 8
    assert second.line(("b", 0, "absent", "deeper")) == 7
    assert second.line(("absent",)) == 6


@pytest.mark.integration
def test_a_key_twice_is_a_problem() -> None:
    (document,) = read("a:\n  b: 1\n  c: 2\n  b: 3\n")
    (problem,) = document.problems
    assert (problem.path, problem.line) == ("a.b", 4)


@pytest.mark.integration
def test_merges() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nused: {<<: [*base, *more], a: 9}\n"
    assert value(text)["used"] == {"a": 9, "b": 2, "c": 4}
    (document,) = read("used: {<<: 3}")
    assert "a mapping to merge" in str(document.problems[0])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: b: c", "mapping values are not allowed"),
        ("\tx: 1", "cannot start any token"),
        ("a: *nobody", "undefined alias"),
        ("a: \x00", "special characters are not allowed"),
        ("[" * 5000, "100 deep"),
        ("a: " + "{x: " * 200 + "1" + "}" * 200, "100 deep"),
        ("".join(f"l{n}: &l{n} [" + f"*l{n - 1}," * 9 + "x]\n" for n in range(1, 30)).replace("*l0", "0"), "200000"),
        ("a: " + "x" * (3 * 1024 * 1024), "3145728"),
    ],
    ids=["open list", "two colons", "tab", "alias", "nul", "deep list", "deep mapping", "alias bomb", "huge"],
)  # fmt: skip
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    problems = [str(problem) for document in read(text) for problem in document.problems]
    assert any(said in problem for problem in problems), problems


@pytest.mark.integration
def test_what_was_read_before_an_error_is_kept() -> None:
    first, second = read("a: 1\n---\nb: [\n")
    assert first.value == {"a": 1}
    assert second.problems
    assert second.problems[0].line > 2


@pytest.mark.integration
def test_nothing_is_constructed() -> None:
    assert value("a: !!python/object/apply:os.getcwd []") == {"a": []}


@pytest.mark.integration
@settings(max_examples=300, derandomize=True)
@given(text=st.text() | st.text(alphabet="ab01 \n:-[]{},'\"&*!#|>%@`~?<.e+_"))
def test_any_text_is_read_or_refused_with_problems(text: str) -> None:
    assert all(found.value is not None or found.problems for found in read(text))
    with contextlib.suppress(Problems):
        parse_text(text)
