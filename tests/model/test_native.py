"""Compiled libraries: which level a processor gets, where they are found, and what is said where there can be none."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from opt_model import native
from opt_model.native import KernelUnavailable, Sources

pytestmark = pytest.mark.unit


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "answer.cpp").write_text('#include "number.h"\nextern "C" int answer() { return NUMBER; }\n')
    (tmp_path / "code" / "number.h").write_text("#define NUMBER 42\n")
    return Sources("answer", tmp_path / "code", ("answer.cpp", "number.h"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "opt-operator" / "kernels"


def test_levels_follow_the_processor() -> None:
    assert native.best_level(frozenset()) == "plain"
    assert native.best_level(frozenset({"avx2", "fma", "f16c"})) == "avx2"
    assert native.best_level(native.processor_flags()) == native.levels()[0]


def test_matrix_tiles_are_used_where_linux_allows_them_only(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_tiles_allowed", lambda: False)
    native.processor_flags.cache_clear()
    try:
        assert not native.processor_flags() & native._TILES
        assert native.best_level(native.processor_flags()) != "amx"
        with pytest.raises(KernelUnavailable, match=r"has no .*amx_bf16, amx_int8, amx_tile"):
            native.library(sources, "amx")
    finally:
        native.processor_flags.cache_clear()


def test_it_is_compiled_once_and_anew_where_a_source_changed(sources: Sources, cache: Path) -> None:
    first = native.library(sources)
    made = first.stat().st_ino
    assert first.parent == cache
    assert ctypes.CDLL(str(first)).answer() == 42
    assert native.library(sources).stat().st_ino == made
    (sources.folder / "number.h").write_text("#define NUMBER 43\n")
    assert ctypes.CDLL(str(native.library(sources))).answer() == 43


def test_another_version_of_the_calls_is_not_taken(sources: Sources) -> None:
    (sources.folder / "answer.cpp").write_text('extern "C" int answer_abi() { return 2; }\n')
    with pytest.raises(KernelUnavailable, match="speaks version 2 of the calls, this program 1"):
        native.load(sources)
    assert native.load(replace(sources, abi=2)).answer_abi() == 2


def test_other_flags_are_another_library(sources: Sources) -> None:
    other = Sources(sources.name, sources.folder, sources.files, ("-ffp-contract=off",))
    assert other.library_name("plain") != sources.library_name("plain")


def test_what_an_image_brings_needs_no_compiler(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    native.build_all(sources)
    stale = sources.built / "answer-plain-0123456789abcdef.so"
    stale.touch()
    native.build_all(sources)
    assert not stale.exists()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert {native.library(sources, level).parent for level in native.levels()} == {sources.built}


def test_without_a_compiler_it_is_said(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(KernelUnavailable, match=r"no C\+\+ compiler"):
        native.build(sources, "plain", tmp_path)


def test_what_the_compiler_says_is_told(sources: Sources, tmp_path: Path) -> None:
    (sources.folder / "answer.cpp").write_text("no program")
    with pytest.raises(KernelUnavailable, match="ended with 1"):
        native.build(sources, "plain", tmp_path / "made")
    assert not list((tmp_path / "made").iterdir())
