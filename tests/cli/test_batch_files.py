"""Batches from and to files and stores; answers in a store are whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opt_cli.batch_files import read, writing
from opt_store import NotFound, StoreError, open_store

pytestmark = pytest.mark.unit


@pytest.fixture
def root(tmp_path: Path) -> str:
    return tmp_path.as_uri()


def test_a_batch_is_read_from_a_file_and_from_a_store(tmp_path: Path, root: str) -> None:
    open_store(root).put("in/requests.jsonl", b"line\n")
    (tmp_path / "plain").write_bytes(b"line\n")
    assert read(f"{root}/in/requests.jsonl") == read(str(tmp_path / "plain")) == b"line\n"
    with pytest.raises(NotFound):
        read(f"{root}/in/another.jsonl")


@pytest.mark.parametrize("place", ["s3://", "s3://bucket/", "file:///folder/"])
def test_an_address_without_an_object_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="address of an object"):
        read(place)


def test_answers_appear_in_a_store_when_all_are_there(tmp_path: Path, root: str) -> None:
    store = open_store(root)
    (tmp_path / "out").mkdir()
    with writing(f"{root}/out/answers.jsonl") as file:
        file.write("a\n")
        assert not list(store.list("out/"))
        file.write("b\n")
    assert store.get("out/answers.jsonl") == b"a\nb\n"
    with pytest.raises(RuntimeError, match="a model broke"):
        half_written(f"{root}/out/broken.jsonl")
    assert [info.key for info in store.list("out/")] == ["out/answers.jsonl"]


def test_a_store_that_cannot_be_used_is_found_before_anything_is_answered(root: str) -> None:
    answered = False
    with pytest.raises(StoreError, match="does not exist"), writing(f"{root}/none/answers.jsonl"):
        answered = True
    assert not answered


def test_answers_that_a_store_does_not_take_are_kept(tmp_path: Path, root: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError) as told:
        written_in_vain(f"{root}/out/answers.jsonl", tmp_path / "out" / "answers.jsonl")
    kept = Path(str(told.value).rpartition("all answers are in ")[2])
    assert kept.read_text() == "a\n"
    shutil.rmtree(kept.parent)


def written_in_vain(place: str, path: Path) -> None:
    with writing(place) as file:
        file.write("a\n")
        path.mkdir()
        (path / "in the way").touch()


def half_written(place: str) -> None:
    with writing(place) as file:
        file.write("a\n")
        raise RuntimeError("a model broke")


def test_answers_go_to_a_file_or_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with writing(str(tmp_path / "answers")) as file:
        file.write("a\n")
    assert (tmp_path / "answers").read_text() == "a\n"
    with writing(None) as file:
        file.write("b\n")
    assert capsys.readouterr().out == "b\n"
