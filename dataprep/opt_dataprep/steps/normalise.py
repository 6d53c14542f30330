"""Normalisation: each step maps text to text; `utf8` also decides what becomes of bytes that are no UTF-8.

Written with the string methods that scan at memory speed; a regular expression that matches every blank is ten times
slower than the rest of reading together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from opt_api.training.data import Normalisation
from opt_dataprep.steps.man import man_to_text

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = bytes(sorted({*range(0x20), 0x7F} - {*b"\t\n\r\f"}))
_OTHER_BLANKS = re.compile("[\xa0\u2000-\u200a\u202f\u205f\u3000]")
_OTHER_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


def decode(content: bytes | str) -> tuple[str, bool]:
    """Return the text and whether it was whole; broken bytes are lone surrogates in it, one each (PEP 383)."""
    if isinstance(content, str):
        return content, content.isascii() or _SURROGATES.search(content) is None
    try:
        return content.decode("utf-8"), True
    except UnicodeDecodeError:
        return content.decode("utf-8", errors="surrogateescape"), False


def utf8(text: str) -> str:
    """Put U+FFFD for each broken byte or lone surrogate; remove control characters (NUL included) and a mark of order.

    Tab, newline, carriage return and form feed stay.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = _SURROGATES.sub("\ufffd", text).encode()
    # Control bytes are never part of a longer UTF-8 sequence, so they can be taken out of the bytes.
    return data.translate(None, _CONTROLS).decode().removeprefix("\ufeff")


def unicode_nfc(text: str) -> str:
    """Canonical composition (Unicode Standard Annex 15, form C)."""
    return unicodedata.normalize("NFC", text)


def whitespace(text: str) -> str:
    """One line end, one blank between words, at most one empty line, no blanks at the ends of lines or text.

    The paper names "ad-hoc whitespace normalization" (arXiv 2205.01068, 2.3) and no rule; this one is declared here.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\t", " ")
    if not text.isascii():
        text = _OTHER_LINE_ENDS.sub("\n", _OTHER_BLANKS.sub(" ", text))
    text = _shortened(text, "  ").replace(" \n", "\n").replace("\n ", "\n")
    return _shortened(text, "\n\n\n").strip()


def _shortened(text: str, run: str) -> str:
    """Take a character from each such run until there is none; each pass halves the longest ones, or nearly."""
    while run in text:
        text = text.replace(run, run[:-1])
    return text


NORMALISATIONS: dict[Normalisation, Callable[[str], str]] = {
    "utf8": utf8,
    "unicode-nfc": unicode_nfc,
    "whitespace": whitespace,
    "man": man_to_text,
}
