"""The vocabulary and both encoders."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_api.training.data import DataSpec, Tokenizer, TokenizerFiles
from opt_dataprep import pieces
from opt_dataprep.errors import BadInput, TokenizerMismatch
from opt_dataprep.planning import make_plan
from opt_dataprep.steps.normalise import decode, utf8, whitespace
from opt_dataprep.tokens.encoders import FastEncoder, ReferenceEncoder, check_agreement
from opt_dataprep.tokens.training import train_vocabulary
from opt_dataprep.tokens.vocabulary import byte_characters, parse_vocabulary, write_vocabulary
from opt_store import digest_of
from support.corpora import library_texts, source, spec, written

FOLDER = Path(__file__).resolve().parents[2] / "../shared/tokenizer"
WHERE = ("vocab.json", "merges.txt")


@pytest.fixture(scope="module")
def opt():
    files = [FOLDER / "gpt2-vocab.json", FOLDER / "gpt2-merges.txt"]
    missing = [str(f) for f in files if not f.exists()]
    assert not missing, f"OPT's vocabulary is read in place, {missing} is not there: put metaseq's two files there"
    return parse_vocabulary(files[0].read_bytes(), files[1].read_bytes(), WHERE)


@pytest.fixture(scope="module")
def learned():
    return train_vocabulary(iter(library_texts(25)), 600)


@pytest.mark.integration
def test_opts_vocabulary_has_its_rows_and_ids(opt):
    assert (len(opt.ids), opt.rows) == (50265, 50272)
    fast = FastEncoder(opt)
    assert fast.encode("Hello world, my dog is cute").tolist() == [31414, 232, 6, 127, 2335, 16, 11962]


@pytest.mark.integration
def test_both_encoders_agree_on_odd_texts(opt):
    fast, reference = FastEncoder(opt), ReferenceEncoder(opt)
    texts = [
        "",
        " ",
        "\n\n \n",
        "</s><pad><s>",
        "<|endoftext|> <mask>",
        "a" * 3000,
        "I'll we've  they're 'S",
        "١٢٣ ½ Ⅷ",
    ]
    texts += [
        "١٢٣",
        "\u0000\u0001",
        "🏳️‍🌈 e\u0301 \u200b",
        "\t\tdef f(x):\n\treturn x  \r\n",
        "ſ K İ ß Ǆ",
        "\u2028\u2029\x85x",
    ]
    for text in texts:
        check_agreement(text, fast.encode(text), reference.encode(text))
    assert 2 not in fast.encode("</s>").tolist()


@pytest.mark.integration
def test_both_encoders_agree_on_any_text(opt):
    fast, reference = FastEncoder(opt), ReferenceEncoder(opt)

    @settings(max_examples=200)
    @given(st.text(max_size=60))
    def agree(text):
        clean = utf8(text)
        check_agreement(clean, fast.encode(clean), reference.encode(clean))

    agree()


BLANKS = "".join(chr(c) for c in range(0x3001) if chr(c).isspace())


@pytest.mark.integration
def test_a_column_is_encoded_as_its_texts_are(opt):
    """Pieces of regular texts, whole texts among them that are not, and blanks of every kind at every place."""
    fast, reference = FastEncoder(opt), ReferenceEncoder(opt)

    @settings(max_examples=150)
    @given(st.lists(st.text(alphabet="aB1'.é日\n\n   " + BLANKS, max_size=25), max_size=6))
    def agree(texts):
        ids, bounds = fast.encode_column(pa.array(texts, pa.string()))
        assert ids.dtype == np.uint16
        for text, (start, end) in zip(texts, pairwise(bounds), strict=True):
            check_agreement(text, ids[start:end], reference.encode(text))

    agree()
    texts = library_texts(12)
    regular = [whitespace(text) for text in texts]
    column = pa.array([*texts, *regular, ""], pa.string()).slice(1)
    ids, bounds = fast.encode_column(column)
    for text, (start, end) in zip(column.to_pylist(), pairwise(bounds), strict=True):
        check_agreement(text, ids[start:end], reference.encode(text))


@pytest.mark.integration
def test_a_column_is_encoded_alike_when_little_can_be_remembered(opt, monkeypatch):
    texts = pa.array([whitespace(text) for text in library_texts(8)])
    wanted, bounds = FastEncoder(opt).encode_column(texts)
    monkeypatch.setattr(pieces, "REMEMBERED", 300)
    fast = FastEncoder(opt)
    for row in range(len(texts)):
        assert np.array_equal(fast.encode_column(texts.slice(row, 1))[0], wanted[bounds[row] : bounds[row + 1]])


@pytest.mark.integration
def test_arrow_and_python_take_the_same_blanks_off_the_end():
    texts = ["a" + chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    assert pc.utf8_rtrim_whitespace(pa.array(texts)).to_pylist() == [text.rstrip() for text in texts]


@pytest.mark.integration
def test_a_learned_vocabulary_has_opts_special_ids_and_agrees(learned):
    assert [learned.ids[t] for t in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    fast, reference = FastEncoder(learned), ReferenceEncoder(learned)
    for text in library_texts(30)[25:]:
        check_agreement(text, fast.encode(text), reference.encode(text))


@pytest.mark.integration
def test_learning_twice_gives_the_same(learned):
    assert write_vocabulary(train_vocabulary(iter(library_texts(25)), 600)) == write_vocabulary(learned)


@pytest.mark.integration
def test_a_vocabulary_survives_its_files(learned):
    assert parse_vocabulary(*write_vocabulary(learned), WHERE) == learned


@pytest.mark.integration
def test_byte_characters_are_those_of_the_reference():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(byte_characters()) == set(ByteLevel.alphabet())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, m: (b"[", m), "vocab.json: not JSON"),
        (lambda v, m: (b"[]", m), "must be one JSON object"),
        (lambda v, m: (json.dumps({**json.loads(v), "x": 70000}).encode(), m), "ids from 0 to 65535"),
        (lambda v, m: (json.dumps({**json.loads(v), "</s>": 7}).encode(), m), "OPT's order is"),
        (lambda v, m: (v, m + b"one\n"), "merges.txt: line .* two tokens with one blank"),
        (lambda v, m: (v, m + b"zz qq\n"), "no id for 1 bytes or merges"),
    ],
)
def test_files_that_are_no_vocabulary(learned, change, message):
    with pytest.raises(BadInput, match=message):
        parse_vocabulary(*change(*write_vocabulary(learned)), WHERE)


def with_files(folder, learned) -> DataSpec:
    for name, content in zip(WHERE, write_vocabulary(learned), strict=True):
        written(folder / name, content)
    files = TokenizerFiles(vocab_uri=(folder / WHERE[0]).as_uri(), merges_uri=(folder / WHERE[1]).as_uri())
    return spec(source(written(folder / "a.txt", b"some text")), tokenizer=Tokenizer(files=files))


@pytest.mark.integration
def test_a_missing_or_wrong_vocabulary_is_said_when_the_plan_is_made(tmp_path, learned):
    data = with_files(tmp_path, learned)
    assert data.tokenizer is not None
    wrong = data.tokenizer.files.model_copy(update={"merges_digest": "sha256:" + "0" * 64})
    with pytest.raises(BadInput, match=r"merges\.txt: digest is sha256:\w+, wanted is sha256:0000"):
        make_plan(data.model_copy(update={"tokenizer": Tokenizer(files=wrong)}))
    (tmp_path / WHERE[0]).write_bytes(b"[]")
    with pytest.raises(BadInput, match=r"vocab\.json: must be one JSON object"):
        make_plan(data)
    (tmp_path / WHERE[0]).unlink()
    with pytest.raises(
        BadInput, match=r"vocab\.json: there is no such object; correct data\.tokenizer\.files\.vocabUri"
    ):
        make_plan(data)


@pytest.mark.integration
def test_the_vocabularys_digests_are_in_the_plan_so_that_another_one_is_another_data_set(tmp_path, learned):
    data = with_files(tmp_path, learned)
    first = make_plan(data)
    files = first.data.tokenizer.files
    assert (files.vocab_digest, files.merges_digest) == tuple(
        digest_of((tmp_path / name).read_bytes()) for name in WHERE
    )
    assert make_plan(data) == first
    with_files(tmp_path, train_vocabulary(iter(library_texts(25)), 601))
    assert make_plan(data).digest() != first.digest()


@pytest.mark.integration
def test_one_mismatch_is_an_error_that_says_where():
    with pytest.raises(TokenizerMismatch, match=r"from token 1 .*\[8\] and \[9\]"):
        check_agreement("text", np.array([5, 8], np.uint16), [5, 9])
    with pytest.raises(TokenizerMismatch, match="from token 2"):
        check_agreement("text", np.array([5, 8], np.uint16), [5, 8, 9])


@pytest.mark.long
def test_opts_tokenizer_agrees_with_the_reference_on_every_manual_page(opt, capsys):
    """Each page as it is, where only whole texts are encoded, and normalised, in columns of some 4 MiB."""
    pages = sorted(Path("/usr/share/man").rglob("*.gz"))
    assert len(pages) > 1000, f"{len(pages)} manual pages on this machine; the test wants thousands: install manpages"
    fast, reference = FastEncoder(opt), ReferenceEncoder(opt)
    total = size = 0
    for start in range(0, len(pages), 1000):
        texts = [utf8(decode(gzip.decompress(page.read_bytes()))[0]) for page in pages[start : start + 1000]]
        for text in texts:
            check_agreement(text, fast.encode(text), reference.encode(text))
        regular = [whitespace(text) for text in texts]
        ids, bounds = fast.encode_column(pa.array(regular))
        for text, (begin, end) in zip(regular, pairwise(bounds), strict=True):
            check_agreement(text, ids[begin:end], reference.encode(text))
        total += len(ids)
        size += sum(len(text.encode()) for text in regular)
    assert total > 1_000_000
    with capsys.disabled():
        print(f"\n{len(pages)} pages, {size / 1e6:.1f} MB normalised, {total} tokens: no difference")
