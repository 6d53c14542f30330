"""Pages lead somewhere: every relative link of every page names a file of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tracked import ROOT, tracked

pytestmark = pytest.mark.unit

LINK = re.compile(r"\]\(<?(?P<target>[^)#<>\s]+)(?:#[^)]*)?>?\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
"""Patterns of the reference look like links; they stand in code."""


def dead_links(page: Path, text: str) -> Iterator[str]:
    for match in LINK.finditer(CODE.sub("", text)):
        target = match["target"]
        if "://" not in target and not target.startswith("mailto:") and not (ROOT / page.parent / target).exists():
            yield f"{page}: {target}"


def test_no_page_leads_nowhere() -> None:
    pages = [path for path in tracked() if path.suffix == ".md"]
    assert not [dead for page in pages for dead in dead_links(page, (ROOT / page).read_text())]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](README.md) [b](README.md#part) [c](https://example.org)", []),
        ("[a](nowhere.md)", ["x.md: nowhere.md"]),
        ("`[a](nowhere.md)`", []),
        ("```\n[a](nowhere.md)\n```", []),
    ],
)
def test_a_dead_link_is_found(text: str, found: list[str]) -> None:
    assert list(dead_links(Path("x.md"), text)) == found
