"""A byte-level BPE vocabulary in GPT-2's two files, with OPT's four special ids."""

from __future__ import annotations

import json
from dataclasses import dataclass

from opt_dataprep.errors import BadInput

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
"""OPT's special tokens (fairseq's order; facebookresearch/metaseq, gpt2-vocab.json)."""
PADDING, END_OF_DOCUMENT = 1, 2
ROW_MULTIPLE = 8
"""The embedding's rows are padded to this multiple: 50,265 entries make OPT's 50,272 rows."""


def byte_characters() -> dict[str, int]:
    """The printable character that stands for each byte in GPT-2's files.

    Printable Latin-1 bytes stand for themselves, the other 68 are U+0100 and on, in order (GPT-2, arXiv by name:
    "Language Models are Unsupervised Multitask Learners", released encoder).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


@dataclass(frozen=True)
class Vocabulary:
    """Token to id, and the merges in order of their rank.

    Attributes:
        ids: Token, in byte characters, to id.
        merges: Pairs of tokens, in byte characters.
    """

    ids: dict[str, int]
    merges: list[tuple[str, str]]

    @property
    def rows(self) -> int:
        """Rows of the embedding: one more than the highest id, rounded up to a multiple of 8."""
        return -(-(max(self.ids.values()) + 1) // ROW_MULTIPLE) * ROW_MULTIPLE


def parse_vocabulary(vocab: bytes, merges: bytes, where: tuple[str, str]) -> Vocabulary:
    """Read vocab.json and merges.txt.

    Raises:
        BadInput: A file is not what it should be, the special ids are not OPT's, or an id does not fit 16 bits.
    """
    try:
        ids = json.loads(vocab)
    except ValueError as fault:
        raise BadInput(where[0], None, f"not JSON: {fault}") from fault
    if not isinstance(ids, dict) or not all(isinstance(i, int) and 0 <= i < 1 << 16 for i in ids.values()):
        raise BadInput(where[0], None, "must be one JSON object of token to id, ids from 0 to 65535")
    wrong = {token: ids.get(token) for token, i in SPECIAL.items() if ids.get(token) != i}
    if wrong:
        raise BadInput(where[0], None, f"special tokens {wrong}; OPT's order is {SPECIAL}")
    vocabulary = Vocabulary(ids, _parse_merges(merges, where[1]))
    _check_closed(vocabulary, where)
    return vocabulary


def _parse_merges(merges: bytes, where: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(merges.decode("utf-8").split("\n"), 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        left, blank, right = line.rstrip("\r").partition(" ")
        if not (left and blank and right) or " " in right:
            raise BadInput(where, None, f"line {number}: {line!r}; must be two tokens with one blank between")
        pairs.append((left, right))
    return pairs


def _check_closed(vocabulary: Vocabulary, where: tuple[str, str]) -> None:
    missing = [c for c in byte_characters() if c not in vocabulary.ids]
    missing += [a + b for a, b in vocabulary.merges if a + b not in vocabulary.ids]
    if missing:
        raise BadInput(where[0], None, f"no id for {len(missing)} bytes or merges of {where[1]}, first {missing[:3]}")


def write_vocabulary(vocabulary: Vocabulary) -> tuple[bytes, bytes]:
    """Return vocab.json and merges.txt, in the order of ids and ranks."""
    ordered = dict(sorted(vocabulary.ids.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in vocabulary.merges), ""]
    return json.dumps(ordered, ensure_ascii=False).encode(), "\n".join(lines).encode()
