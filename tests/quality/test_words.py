"""Nothing in the repository names a package index or a place on the machine it was written on."""

from __future__ import annotations

import re

import pytest

from support.tracked import ROOT, tracked

pytestmark = pytest.mark.unit

NAMES = [("pypi", "org"), ("pythonhosted", "org"), ("proxy", "golang", "org"), ("sum", "golang", "org")]
"""Hosts in parts, so that not even this file names one."""
INDEXES = "|".join(r"(?<![\w-])" + r"\.".join(name) for name in NAMES)
OPTIONS = "--(extra-)?index[-]url|PIP_INDEX[_]URL|GOPROXY[=]http"
PLACES = r"(?<![\w./}-])/(?:work|root|home/\w+)/"
PATTERN = re.compile(f"{INDEXES}|{OPTIONS}|{PLACES}")


def found(text: str) -> list[str]:
    return [match.group() for match in PATTERN.finditer(text)]


def test_no_index_and_no_machine_path_is_named() -> None:
    named: dict[str, list[str]] = {}
    for path in tracked():
        named[str(path)] = found((ROOT / path).read_bytes().decode("utf-8", "replace"))
    assert not {path: names for path, names in named.items() if names}


@pytest.mark.parametrize(
    "text",
    [
        ".".join(NAMES[0]) + "/simple",
        "--index" + "-url x",
        "cd /" + "work/main",
        "'/" + "root/x'",
    ],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize("text", ["/network/a", "docs/root/a", "${HOME}/work/a", "golang.org/x/net", "the pypi file"])
def test_the_search_passes_over_the_rest(text: str) -> None:
    assert not found(text)
