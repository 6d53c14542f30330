"""Manual pages: the words of a roff source (man and mdoc macros), without setting it as a printer would."""

from __future__ import annotations

import re

_COMMENT = re.compile(r"(?m)^[.']\s*\\\".*\n?|\\[\"#].*")
_CONTINUED = re.compile(r"\\\n")
_REQUEST = re.compile(r"(?m)^[.'][ \t]*([A-Za-z][A-Za-z0-9]*|\\?\S?)[ \t]*(.*)$")
_FONT = re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)|\\s[-+]?\d+|\\[&/,|^%:)]|\\m\[[^\]]*\]|\\[hvlLwbDoX]'[^']*'")
_STRING = re.compile(r"\\\*?(?:\[([^\]]{1,40})\]|\((..))")
_ESCAPE = re.compile(r"\\(.)")
_QUOTES = re.compile(r'"((?:[^"]|"")*)"')
_CHARACTERS = {
    "aq": "'", "dq": '"', "oq": "‘", "cq": "’", "lq": "“", "rq": "”", "em": "—", "en": "–", "hy": "-", "bu": "•",
    "co": "©", "rg": "®", "tm": "™", "ti": "~", "ha": "^", "ga": "`", "rs": "\\", "mu": "×", "de": "°", "+-": "±",
    "<=": "≤", ">=": "≥", "->": "→", "<-": "←", "at": "@", "sh": "#", "ba": "|", "mi": "−", "tilde": "~", "R": "®",
}  # fmt: skip
"""Named characters of groff_char(7), the common ones; others become nothing."""
_SILENT = frozenset(
    [
        "ad",
        "af",
        "am",
        "as",
        "bp",
        "br",
        "ce",
        "cs",
        "de",
        "ds",
        "el",
        "fi",
        "fo",
        "ft",
        "hy",
        "hyph",
        "if",
        "ie",
        "ig",
        "in",
        "ll",
        "ls",
        "lt",
        "na",
        "ne",
        "nf",
        "nh",
        "nr",
        "ns",
        "pl",
        "po",
        "ps",
        "ro",
        "rr",
        "rs",
        "rm",
        "sp",
        "so",
        "ta",
        "tr",
        "TH",
        "Dd",
        "Dt",
        "Os",
        "PD",
        "PP",
        "P",
        "LP",
        "RS",
        "RE",
        "HP",
        "TP",
        "TQ",
        "Pp",
        "El",
        "Bl",
        "Bd",
        "Ed",
        "UE",
        "ME",
        "nop",
        "mso",
        "lf",
        "do",
        "end",
        "ev",
        "evc",
        "ex",
        "pm",
        "tm",
        "ps",
        "vs",
    ]
)
"""Requests and macros whose arguments are no prose; `TH` names the page, which its own NAME section says again."""
_HEADINGS = frozenset({"SH", "SS", "Sh", "Ss"})
_JOINED = frozenset({"BR", "RB", "IR", "RI", "BI", "IB"})
_SIMPLE = {"-": "-", "e": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`", "t": "\t", "\\": "\\", ".": "."}


def man_to_text(text: str) -> str:
    """Return the words of a page: headings on lines of their own, macros gone, escapes resolved.

    A page that only points at another (`.so`) has no words and becomes empty. Text without requests is kept as it is.
    """
    if not text.lstrip().startswith((".", "'", "\\")):
        return text
    body = _REQUEST.sub(_request, _CONTINUED.sub("", _COMMENT.sub("", text)))
    return _ESCAPE.sub(_escape, _STRING.sub(_named, _FONT.sub("", body)))


def _request(found: re.Match[str]) -> str:
    name, rest = found[1], found[2]
    if name in _SILENT or not name.isalnum():
        return ""
    arguments = _QUOTES.sub(lambda m: m[1].replace('""', '"').replace(" ", "\0"), rest).split()
    text = ("" if name in _JOINED else " ").join(arguments).replace("\0", " ")
    return f"\n{text}" if name in _HEADINGS else text


def _named(found: re.Match[str]) -> str:
    return _CHARACTERS.get(found[1] or found[2], "")


def _escape(found: re.Match[str]) -> str:
    return _SIMPLE.get(found[1], "")
