"""Manual pages: the words of a roff source (man and mdoc macros), without setting it as a printer would."""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\\(?:"
    r'["#].*'  # a comment to the end of the line
    r"|[fF](?:\[[^\]]*\]|\(..|.)|[sk][-+]?\d+|[mM](?:\[[^\]]*\]|\(..|.)|[hvlLwbDoXYZ]'[^']*'"  # fonts, sizes, motions
    r"|\*?\[([^\]]{1,40})\]|\*?\((..)|[*n].|(.)|$)"  # named characters and strings; one-letter escapes
)
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')
_CHARACTERS = {
    "aq": "'", "dq": '"', "oq": "‘", "cq": "’", "lq": "“", "rq": "”", "em": "—", "en": "–", "hy": "-", "bu": "•",
    "co": "©", "rg": "®", "tm": "™", "ti": "~", "ha": "^", "ga": "`", "rs": "\\", "mu": "×", "de": "°", "+-": "±",
    "<=": "≤", ">=": "≥", "->": "→", "<-": "←", "at": "@", "sh": "#", "ba": "|", "mi": "−", "tilde": "~", "R": "®",
}  # fmt: skip
"""Named characters of groff_char(7), the common ones; others become nothing."""
_SIMPLE = {"-": "-", "e": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`", "t": "\t", "\\": "\\", ".": "."}
_SILENT = frozenset(
    "ad af am as bp br ce cs de ds el fi fo ft hy hyph if ie ig in ll ls lt na ne nf nh nr ns pl po ps ro rr rs rm sp"  # noqa: SIM905 - words
    " so ta tr TH Dd Dt Os PD PP P LP RS RE HP TP TQ Pp El Bl Bd Ed UE ME nop mso lf do end ev evc ex pm tm vs".split()
)
"""Requests and macros whose arguments are no prose; `TH` names the page, which its own NAME section says again."""
_HEADINGS = frozenset({"SH", "SS", "Sh", "Ss"})
_JOINED = frozenset({"BR", "RB", "IR", "RI", "BI", "IB"})


def man_to_text(text: str) -> str:
    """Return the words of a page: headings after an empty line, macros gone, escapes resolved.

    A page that only points at another (`.so`) has no words and becomes empty. Text that does not begin with a request
    or a comment is no page and is kept as it is.
    """
    if not text.lstrip().startswith((".", "'", "\\")):
        return text
    lines = text.replace("\\\n", "").split("\n")
    return "\n".join([line if line[:1] not in _CONTROL else _request(line) for line in _without_escapes(lines)])


_CONTROL = frozenset({".", "'"})


def _without_escapes(lines: list[str]) -> list[str]:
    """Resolve escapes; a request keeps its comment's mark out of sight, for it is cut off with the comment."""
    return [_ESCAPE.sub(_escape, line) if "\\" in line else line for line in lines]


def _request(line: str) -> str:
    name, _, rest = line[1:].lstrip().partition(" ")
    if name in _SILENT or not name.isalnum():
        return ""
    if '"' in rest:
        words = [quoted.replace('""', '"') or plain for quoted, plain in _ARGUMENT.findall(rest)]
        rest = ("" if name in _JOINED else " ").join(words)
    elif name in _JOINED:
        rest = rest.replace(" ", "")
    return f"\n{rest}" if name in _HEADINGS else rest


def _escape(found: re.Match[str]) -> str:
    named, short, single = found.groups()
    return _SIMPLE.get(single, "") if single else _CHARACTERS.get(named or short, "")
