"""Normalisation: each step maps text to text; `utf8` also decides what becomes of bytes that are no UTF-8."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from opt_api.training.data import Normalisation
from opt_dataprep.steps.man import man_to_text

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_LINE_ENDS = re.compile("\r\n?|\x0c|\x85|\u2028|\u2029")
_BLANKS = re.compile("[ \t\xa0\u2000-\u200a\u202f\u205f\u3000]+")
_AROUND_NEWLINE = re.compile(" ?\n ?")
_GAPS = re.compile("\n{3,}")


def decode(content: bytes | str) -> tuple[str, bool]:
    """Return the text and whether it was whole; broken bytes are lone surrogates in it, one each (PEP 383)."""
    if isinstance(content, str):
        return content, _SURROGATES.search(content) is None
    try:
        return content.decode("utf-8"), True
    except UnicodeDecodeError:
        return content.decode("utf-8", errors="surrogateescape"), False


def utf8(text: str) -> str:
    """Put U+FFFD for each broken byte or lone surrogate; remove control characters (NUL included), mark of order."""
    return _CONTROLS.sub("", _SURROGATES.sub("�", text)).removeprefix("\ufeff")


def unicode_nfc(text: str) -> str:
    """Canonical composition (Unicode Standard Annex 15, form C)."""
    return unicodedata.normalize("NFC", text)


def whitespace(text: str) -> str:
    """One line end, one blank between words, at most one empty line, none at the ends.

    The paper names "ad-hoc whitespace normalization" (arXiv 2205.01068, 2.3) and no rule; this one is declared here.
    """
    text = _BLANKS.sub(" ", _LINE_ENDS.sub("\n", text))
    return _GAPS.sub("\n\n", _AROUND_NEWLINE.sub("\n", text)).strip()


NORMALISATIONS: dict[Normalisation, Callable[[str], str]] = {
    "utf8": utf8,
    "unicode-nfc": unicode_nfc,
    "whitespace": whitespace,
    "man": man_to_text,
}
