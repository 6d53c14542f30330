"""Which keys are allowed, and what is said of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_store import BadKey
from opt_store.keys import MAX_KEY_BYTES, check_key, check_prefix

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("key", ["a", "a/b.c", "ü é/日本", "a.b-c_d=e", "x" * 240, "..a", "a.."])
def test_what_is_allowed(key: str):
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("", "empty"),
        ("/a", "starts"),
        ("a//b", "//"),
        ("a/../b", "'..'"),
        (".", "'.'"),
        (".opt-store/a", "reserved"),
        ("a/.opt-store/b", "reserved"),
        ("x" * 241, "240"),
        ("x/" * 450 + "x", str(MAX_KEY_BYTES)),
        ("a\0", "control"),
        ("a\\b", "backslash"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_not_is_named(key: str, word: str):
    with pytest.raises(BadKey, match="allowed are names") as caught:
        check_key(key)
    assert word in str(caught.value)


@given(st.text())
def test_an_allowed_key_stays_below_its_folder(key: str):
    try:
        check_key(key)
    except BadKey:
        return
    assert not key.startswith("/")
    assert ".." not in key.split("/")
    assert key.encode()


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b"])
def test_prefixes(prefix: str):
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "../", "a//", ".opt-store/"])
def test_prefixes_of_no_key(prefix: str):
    with pytest.raises(BadKey):
        check_prefix(prefix)
