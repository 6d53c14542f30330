"""Normalisation, manual pages, quality and language rules, one document at a time."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_api.training.data import LanguageRule, QualityRules, Source
from opt_dataprep.steps import Cleaner
from opt_dataprep.steps.language import english_score
from opt_dataprep.steps.man import man_to_text
from opt_dataprep.steps.normalise import NORMALISATIONS, decode, utf8, whitespace
from opt_dataprep.steps.quality import MEASURES, View, quality_rules
from support.corpora import library_texts, spec

pytestmark = pytest.mark.unit


def cleaner(**fields) -> Cleaner:
    source = Source(name="s", uri="file:///nowhere")
    return Cleaner(source, spec(source, **fields))


@given(st.binary(max_size=200))
def test_any_bytes_become_utf8_without_controls(content):
    text, whole = decode(content)
    clean = utf8(text)
    clean.encode()
    assert not any(ord(c) < 32 and c not in "\t\n\r\f" for c in clean)
    if whole and all(b >= 32 for b in content) and not text.startswith("\ufeff") and "\x7f" not in text:
        assert clean == content.decode()


@pytest.mark.parametrize("name", sorted(NORMALISATIONS))
@given(text=st.text(max_size=120))
def test_normalisation_is_settled_after_one_pass(name, text):
    if name in {"utf8", "man"}:
        return  # a second mark of order, and a page about roff, are text after the first pass
    once = NORMALISATIONS[name](text)
    assert NORMALISATIONS[name](once) == once


def test_whitespace():
    text = "\t a  b\xa0\u2003c \r\n d\re\x0c\n\n\n\n\nf \u2028 g  "
    assert whitespace(text) == "a b c\nd\ne\n\nf\ng"


@given(st.text(alphabet="ab \t\n\r\xa0", max_size=60))
def test_whitespace_keeps_the_words_in_order(text):
    assert whitespace(text).split() == text.split()


PAGE = r""".\" a comment
.TH TOOL 1 "today"
.SH NAME
tool \- does \fBthings\fP with \(lqcare\(rq
.SH "SEE ALSO"
.BR other (1),
.I italic words
.TP
.B \-\-flag \fIvalue\fR
Text with a \\ backslash\&.
.PP
More.\" not this
"""


def test_a_manual_page_becomes_its_words():
    assert whitespace(man_to_text(PAGE)) == (
        "NAME\ntool - does things with “care”\n\nSEE ALSO\nother(1),\nitalic words\n\n"
        "--flag value\nText with a \\ backslash.\n\nMore."
    )


def test_what_is_no_page_is_kept_and_an_alias_is_empty():
    plain = "Text with \\fB in it\n.SH is not at its start"
    assert man_to_text(plain) == plain
    assert man_to_text(".so man1/other.1\n").strip() == ""


def test_real_pages_keep_their_words_and_lose_their_macros():
    pages = sorted(Path("/usr/share/man/man1").glob("*.1.gz"))[:300]
    assert len(pages) > 50, "this test reads the manual pages of the machine: install any packages with manual pages"
    requests = words = 0
    for page in pages:
        text = man_to_text(gzip.decompress(page.read_bytes()).decode("utf-8", "replace"))
        requests += sum(line.startswith((".SH", ".TP", ".PP", ".B ", ".IR")) for line in text.split("\n"))
        words += len(text.split())
    assert requests < 0.0001 * words


RULES = {
    "min_words": (3, "one two", "one two three"),
    "max_words": (2, "one two three", "one two"),
    "min_mean_word_length": (2, "a b c", "ab cd"),
    "max_mean_word_length": (3, "long words here", "abc de"),
    "max_symbol_to_word_ratio": (0.3, "# a # b", "# a b c d"),
    "max_bullet_line_ratio": (0.5, "- a\n* b\nc", "- a\nb"),
    "max_ellipsis_line_ratio": (0.3, "a...\nb", "a\nb\nc\nd…"),
    "min_alphabetic_word_ratio": (0.5, "1 2 a", "1 a b"),
    "min_stop_words": (2, "the cat the", "the cat and"),
    "max_duplicate_line_ratio": (0.3, "a\na\nb", "a\nb\nc\nb"),
}


def test_every_rule_has_a_case():
    assert set(RULES) == set(MEASURES) == set(QualityRules.model_fields) - {"max_document_bytes"}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_drops_what_it_names_and_nothing_else(name):
    bound, bad, good = RULES[name]
    rules = QualityRules(**{name: bound})
    (judge,) = quality_rules(rules)
    assert judge(bad) == name
    assert judge(good) is None
    assert cleaner(quality=rules).clean(bad).reason == name


def test_no_rule_no_judge():
    assert list(quality_rules(QualityRules())) == []


@given(st.text(max_size=80))
def test_measures_of_any_text_are_numbers(text):
    for measure in MEASURES.values():
        assert measure(View(text)) >= 0


def test_language():
    english = library_texts(3)[2]
    german = "Die Schaltfläche öffnet ein neues Fenster, und darin stehen alle Einträge der Liste. " * 5
    assert english_score(english) > 0.4
    assert english_score(german) < 0.1
    assert english_score("これは日本語の文章です。" * 10) < 0.05
    assert english_score("") == english_score("123 456") == 0
    rule = LanguageRule(min_score=0.3)
    assert cleaner(language=rule).clean(german).reason == "language"
    assert cleaner(language=rule).clean("It is the cat that sat on the mat and this was not to be.").reason is None


def test_empty_documents_are_counted():
    assert cleaner().clean(b" \n\t ").reason == "empty"


def test_the_order_of_reasons_is_that_of_the_rules():
    rules = QualityRules(min_words=5, min_stop_words=2)
    assert cleaner(quality=rules, language=LanguageRule()).clean("one two").reason == "min_words"
