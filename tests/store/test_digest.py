"""Digests of bytes, files and buffers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from opt_store import Corrupt, digest_of, digest_of_file
from opt_store.digest import Check, check_form, checksum_of, verify
from opt_store.source import checksum_of_source, digest_of_source, marks_of_source, part_of, source_bytes

pytestmark = pytest.mark.unit


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_one_digest_however_the_bytes_are_held(buffers: list[bytes]):
    whole = b"".join(buffers)
    expected = "sha256:" + hashlib.sha256(whole).hexdigest()
    assert digest_of(*buffers) == digest_of_source(buffers) == digest_of(whole) == expected
    assert marks_of_source(buffers) == (expected, checksum_of(whole))
    assert checksum_of(*buffers) == checksum_of_source(buffers) == "xxh3-128:" + xxhash.xxh3_128_hexdigest(whole)
    assert source_bytes(buffers) == len(whole)


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_part_of_buffers_is_the_part_of_their_join(buffers: list[bytes], offset: int, length: int):
    whole = b"".join(buffers)
    if offset + length <= len(whole):
        assert part_of(buffers, offset, length) == whole[offset : offset + length]
    elif length:
        with pytest.raises(ValueError, match="cut short"):
            part_of(buffers, offset, length)


def test_a_file_as_a_source(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 100_000)
    assert digest_of_file(path) == digest_of_source(path) == digest_of(path.read_bytes())
    assert part_of(path, 255, 3) == b"\xff\x00\x01"
    with pytest.raises(ValueError, match="cut short"):
        part_of(path, 25_599_999, 2)


def test_a_wide_buffer_counts_its_bytes():
    wide = memoryview(bytearray(32)).cast("d")
    assert source_bytes([wide]) == 32
    assert digest_of_source([wide]) == digest_of(bytes(32))


def test_verification_names_both_digests():
    good, bad = digest_of(b"a"), digest_of(b"b")
    verify("object 'x'", good, None, good)
    with pytest.raises(Corrupt, match=f"object 'x'.*{bad}.*{good}"):
        verify("object 'x'", bad, None, good)


def test_a_checksum_is_enough_only_where_no_digest_is_expected():
    digest, checksum = digest_of(b"good"), checksum_of(b"good")

    def checked(content: bytes, recorded: str | None, expect: str | None) -> None:
        check = Check.of(digest, recorded, expect)
        check.running.update(content)
        check.verify("object 'x'")

    for recorded in (None, checksum):
        for expect in (None, digest):
            checked(b"good", recorded, expect)
            with pytest.raises(Corrupt, match=r"object 'x': content has .*, recorded is"):
                checked(b"other", recorded, expect)
    with pytest.raises(Corrupt, match="content has digest"):
        checked(b"forged", checksum_of(b"forged"), digest)


@pytest.mark.parametrize("text", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "A" * 64])
def test_other_forms_are_refused(text: str):
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        check_form(text)
