"""Text from bytes of tokens, stop sequences, names of tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from opt_serving.text.stream import TextStream
from opt_serving.text.tokenizer import Tokenizer
from support.served_models import TEXT, write_tokenizer

pytestmark = pytest.mark.unit


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.randoms())
def test_a_stream_gives_the_text_up_to_the_first_stop(text, stops, rng):
    raw = text.encode()
    cuts = sorted(rng.sample(range(len(raw) + 1), min(len(raw), 6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    stream = TextStream(stops)
    told = "".join([stream.take(piece) for piece in pieces] + [stream.take(b"", last=True)])
    ends = [text.find(stop) for stop in stops if stop in text]
    if not ends:
        assert told == text
        assert not stream.stopped
    else:
        assert stream.stopped
        # tokens come in pieces: a stop that is whole in an earlier piece ends the text before one that begins earlier
        assert text.startswith(told)
        assert any(text.startswith(stop, len(told)) for stop in stops)


def test_nothing_is_told_that_may_belong_to_a_stop():
    stream = TextStream(["\n\nQ:"])
    assert [stream.take(p) for p in (b"a\n", b"\n", b"Q", b"b")] == ["a", "", "", "\n\nQb"]
    assert stream.take(b"x\n\nQ:y") == "x"
    assert stream.take(b"more") == ""


def test_half_a_character_waits():
    stream = TextStream([])
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert stream.take(first) == ""
    assert stream.take(second) == "é"
    assert stream.take(first) + stream.take(b"", last=True) == "\ufffd"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> tuple[Tokenizer, Path]:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, 400)
    made = Tokenizer.of(folder, 512)
    assert made is not None
    return made, folder


def test_ids_are_those_of_transformers(tokenizer):
    ours, folder = tokenizer
    theirs = GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token="<unk>", eos_token="</s>")
    for text in [*TEXT, "", " ", "x" * 300, "\x00\x7f"]:
        assert ours.encode(text, start=False) == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode("a</s>b") == [2, ours.encode("a")[1], 2, ours.encode("b")[1]]


def test_no_two_tokens_have_the_same_name(tokenizer):
    ours, _ = tokenizer
    names = [ours.name_of(i) for i in range(512)]
    assert len(set(names)) == len(names)
    assert ours.name_of(2) == "</s>"
    assert ours.name_of(511) == "<id 511>"


def test_a_broken_tokenizer_is_said_by_name(tmp_path):
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        Tokenizer.of(tmp_path, 10)
    assert Tokenizer.of(tmp_path / "none", 10) is None
