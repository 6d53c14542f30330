"""`--store` takes a folder as well as a URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from opt_cli.logbook import logbook
from opt_cli.store_option import url_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "file:///somewhere", "gs://bucket"])
def test_a_url_stays_as_it_is(url: str) -> None:
    assert url_of(None, None, url) == url


def test_a_folder_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert url_of(None, None, "runs/a b") == (tmp_path / "runs" / "a b").as_uri()


def test_a_command_looks_in_that_folder(tmp_path: Path) -> None:
    told = CliRunner().invoke(logbook, ["demo", "--store", str(tmp_path)])
    assert told.exit_code == 1
    assert f"{tmp_path.as_uri()} holds nothing of it" in told.output
