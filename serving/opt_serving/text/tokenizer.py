"""OPT's byte-level BPE: text to ids, ids to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

START = 2
"""OPT begins a text with the end-of-document token, as its Hugging Face tokenizer does."""
END = 2
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def byte_characters() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Tokenizer:
    """The tokenizer of a model directory."""

    def __init__(self, core: HuggingFaceTokenizer, vocabulary: int) -> None:
        self._core = core
        byte_of = byte_characters()
        known = {token_id: token for token, token_id in core.get_vocab().items()}
        self.special = frozenset(i for i, token in known.items() if token in SPECIAL)
        self._bytes = [_bytes_of(known.get(i), byte_of, special=i in self.special) for i in range(vocabulary)]
        self._names = [_name_of(i, known.get(i), self._bytes[i]) for i in range(vocabulary)]

    @classmethod
    def of(cls, folder: Path, vocabulary: int) -> Tokenizer | None:
        """That of a directory; None when it holds none.

        Raises:
            ValueError: Its files cannot be read.
        """
        try:
            core = _read(folder)
        except Exception as fault:  # tokenizers raises bare Exception
            raise ValueError(f"{folder}: the tokenizer cannot be read: {fault}") from fault
        return None if core is None else cls(core, vocabulary)

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Ids of a text, after the token that begins one; "</s>" and the like in it are those tokens."""
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        return [START, *ids] if start else ids

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of ids, without special tokens unless wanted; bytes that are no character become U+FFFD."""
        pieces = (self._names[i].encode() if special and i in self.special else self.bytes_of(i) for i in ids)
        return b"".join(pieces).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to the text; nothing for special ones."""
        return self._bytes[token]

    def name_of(self, token: int) -> str:
        """A token as log probabilities name it: no two have the same name; part of a character is `bytes:` and hex."""
        return self._names[token]


def _read(folder: Path) -> HuggingFaceTokenizer | None:
    if (folder / "tokenizer.json").is_file():
        return HuggingFaceTokenizer.from_file(str(folder / "tokenizer.json"))
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        return None
    core = HuggingFaceTokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.add_special_tokens([token for token in SPECIAL if core.token_to_id(token) is not None])
    return core


def _bytes_of(token: str | None, byte_of: dict[str, int], *, special: bool) -> bytes:
    if token is None or special:
        return b""
    if any(character not in byte_of for character in token):
        return token.encode()
    return bytes(byte_of[character] for character in token)


def _name_of(token_id: int, token: str | None, raw: bytes) -> str:
    if token is None:
        return f"<id {token_id}>"
    if not raw:
        return token
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
