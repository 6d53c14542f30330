"""What the README shows is what the programs print."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from opt_cli.main import main
from support.tracked import ROOT

pytestmark = pytest.mark.unit

README = (ROOT / "README.md").read_text()


def test_the_papers_plan_is_what_is_printed() -> None:
    printed = CliRunner().invoke(main, ["plan", str(ROOT / "examples/opt-175b.yaml")]).output
    plan = printed[printed.index("Gang\n") :].rstrip()
    assert f"```\n{plan}\n```" in README, f"put this into README.md:\n{plan}"


def test_every_make_target_is_there() -> None:
    named = set(re.findall(r"\bmake (?:-s )?([a-z][a-z-]+)", README))
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= there
