"""One choice of an answer: text, log probabilities and why it ended, as they grow."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opt_serving.engine import Sequence, TokenOut
from opt_serving.text.stream import TextStream
from opt_serving.text.tokenizer import Tokenizer


@dataclass
class Delta:
    """What is new of a choice.

    Attributes:
        text: That can no longer change.
        tokens: Of which the log probabilities are new, with the place of each in the choice's text.
        ids: New token ids.
        finish: Why it ended.
    """

    text: str = ""
    tokens: list[tuple[TokenOut, int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    finish: str | None = None

    def __bool__(self) -> bool:
        """Whether a client learns anything."""
        return bool(self.text or self.tokens or self.finish)

    def add(self, other: Delta) -> None:
        """Append what came next."""
        self.text += other.text
        self.tokens += other.tokens
        self.ids += other.ids
        self.finish = other.finish


class Growing:
    """A choice while it grows."""

    def __init__(
        self, index: int, sequence: Sequence, tokenizer: Tokenizer | None, stops: list[str], echo: str | None
    ) -> None:
        self.index, self.sequence = index, sequence
        self.stop_text: str | None = None
        self._tokenizer = tokenizer
        self._echo = echo
        self._stream = TextStream(stops)
        self._places = _Places(tokenizer)
        self.count = 0
        """Tokens generated that the client is told of."""
        self.logprob_sum = 0.0
        self.done = False

    def take(self, token: TokenOut | None, finish: str | None) -> Delta:
        """Add what the engine brought."""
        delta = self._begin()
        if token is not None:
            self.count += 1
            self.logprob_sum += token.logprob or 0.0
            delta.ids.append(token.id)
            if token.logprob is not None:
                delta.tokens.append((token, self._places.next(token.id)))
            delta.text += self._stream.take(self._bytes(token.id))
        if finish and not self._stream.stopped:
            delta.text += self._stream.take(b"", last=True)
        delta.finish = "stop" if self._stream.stopped else finish
        self.done = delta.finish is not None
        return delta

    def _begin(self) -> Delta:
        """The echoed prompt, once."""
        if self._echo is None:
            return Delta()
        text, self._echo = self._echo, None
        wanted = self.sequence.sampling.prompt_logprobs is not None
        tokens = [(t, self._places.next(t.id)) for t in self.sequence.prompt_out] if wanted else []
        self._places.begin(text)
        return Delta(text, tokens, list(self.sequence.prompt))

    def _bytes(self, token: int) -> bytes:
        return b"" if self._tokenizer is None else self._tokenizer.bytes_of(token)


class _Places:
    """Where in the text each token begins."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._at = 0

    def next(self, token: int) -> int:
        """The place of a token that follows."""
        at = self._at
        if self._tokenizer is not None:
            self._at += len(self._decode(self._tokenizer.bytes_of(token)))
        return at

    def begin(self, text: str) -> None:
        """What follows comes after this text."""
        self._at = len(text)


def logprobs_document(
    tokens: Iterable[tuple[TokenOut, int]], tokenizer: Tokenizer | None, count: int
) -> dict[str, Any]:
    """OpenAI's four lists; the first token of a prompt has no probability, which both lists say with null."""
    told: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token, place in tokens:
        told["tokens"].append(_name(token.id, tokenizer))
        told["token_logprobs"].append(token.logprob)
        told["text_offset"].append(place)
        told["top_logprobs"].append(_top(token, tokenizer))
    if not count:
        told["top_logprobs"] = None
    return told


def _top(token: TokenOut, tokenizer: Tokenizer | None) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    return {_name(i, tokenizer): value for i, value in token.top} | {_name(token.id, tokenizer): token.logprob}


def _name(token: int, tokenizer: Tokenizer | None) -> str:
    return f"<id {token}>" if tokenizer is None else tokenizer.name_of(token)
