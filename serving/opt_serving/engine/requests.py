"""What is asked of the engine, and what comes back."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Finish = Literal["stop", "length", "abort", "deadline", "error"]
_numbers = itertools.count()


class Refused(ValueError):  # noqa: N818
    """A request that this engine can never serve; the message names the field."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. The order: bias and penalties, temperature, top_k, top_p, draw.

    Attributes:
        max_tokens: Generated at most; 0 only scores the prompt.
        temperature: 0 takes the likeliest.
        top_p: Draw among the likeliest tokens that together have this probability.
        top_k: Draw among this many; all when 0.
        seed: Of the draws; a random one when None.
        presence_penalty, frequency_penalty: Taken from the logits of generated tokens, once and for each time.
        logit_bias: Added to logits, by token id.
        logprobs: Log probabilities of each token, with this many of the likeliest; None for none. They are of the
            model itself: before bias, penalties and temperature.
        prompt_logprobs: As `logprobs`, of the prompt's tokens.
        stop_ids: Tokens that end the text, and do not belong to it.
        min_tokens: Before these many, no stop id is chosen.
    """

    max_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_ids: frozenset[int] = frozenset()
    min_tokens: int = 0

    @property
    def plain(self) -> bool:
        """Whether the likeliest token of the bare logits is the choice."""
        return self.temperature == 0 and not self.alters

    @property
    def alters(self) -> bool:
        """Whether logits are changed before the choice."""
        return bool(self.logit_bias or self.presence_penalty or self.frequency_penalty or self.min_tokens)


@dataclass(frozen=True, slots=True)
class TokenOut:
    """One token: of the prompt, or generated.

    Attributes:
        id: The token.
        logprob: Of it, None where not asked for and for the first token of a prompt.
        top: The likeliest tokens with their log probabilities, best first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Sequence:
    """One continuation of one prompt, from its arrival to its last token; changed by the engine's thread only.

    Attributes:
        prompt: Ids, at least one.
        sampling: How to go on.
        deadline: `time.monotonic()` at which it is given up.
        after: Wait until this one's prompt is computed, so that its pages can be shared.
    """

    prompt: list[int]
    sampling: Sampling
    deadline: float = float("inf")
    after: Sequence | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    arrived: float = field(default_factory=time.monotonic)

    generated: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens whose keys and values are stored."""
    reused: int = 0
    """Of those, how many were found."""
    slot: int = -1
    pages: list[int] = field(default_factory=list)
    prompt_out: list[TokenOut] = field(default_factory=list)
    finish: Finish | None = None
    started: float | None = None
    """When it got its slot."""
    first_token: float | None = None
    generator: np.random.Generator | None = None
    error: str = ""

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.prompt) + len(self.generated)

    @property
    def prefilled(self) -> bool:
        """Whether only the newest token is left to compute."""
        return self.computed >= len(self.prompt)

    def token(self, at: int) -> int:
        """The token at a position."""
        return self.prompt[at] if at < len(self.prompt) else self.generated[at - len(self.prompt)]
