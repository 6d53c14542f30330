"""Plain decoding of one sequence: a cache that grows by a token, and a choice per step. Serving has its own engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from opt_model.opt import OPT


@dataclass
class GrowingCache:
    """Keys and values of one sequence, one [1, H, T, K] pair a layer, longer with every pass."""

    pairs: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Positions held."""
        return next(iter(self.pairs.values()))[0].shape[2] if self.pairs else 0

    def attend(self, layer: int, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        """Add this pass's keys and values and attend over all of them; a pass is the first one, or one token."""
        first = layer not in self.pairs
        if not first:
            past_k, past_v = self.pairs[layer]
            k_BHSK, v_BHSK = torch.cat([past_k, k_BHSK], dim=2), torch.cat([past_v, v_BHSK], dim=2)
        self.pairs[layer] = (k_BHSK, v_BHSK)
        return scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, is_causal=first)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
        top_k: Draw among this many likeliest tokens; all when None.
        seed: Of the draws.
    """

    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0

    def pick(self, logits_V: Tensor, generator: torch.Generator) -> int:
        """One token id."""
        if self.temperature == 0:
            return int(logits_V.argmax())
        if self.top_k is not None and self.top_k < logits_V.numel():
            least = logits_V.topk(self.top_k).values[-1]
            logits_V = logits_V.masked_fill(logits_V < least, float("-inf"))
        chances_V = torch.softmax(logits_V.float() / self.temperature, dim=-1)
        return int(torch.multinomial(chances_V, 1, generator=generator))


@torch.inference_mode()
def decode(model: OPT, prompt: list[int], count: int, choice: Choice, *, stop: int | None = None) -> Iterator[int]:
    """Yield up to `count` token ids that follow `prompt`; ends early at `stop` or when the positions are used up.

    Raises:
        ValueError: The prompt is empty or longer than the model's positions.
    """
    if not 0 < len(prompt) <= model.shape.max_positions:
        raise ValueError(f"prompt: found {len(prompt)} tokens; allowed: 1 to {model.shape.max_positions}")
    model.eval()
    generator = torch.Generator().manual_seed(choice.seed)
    cache, ids = GrowingCache(), prompt
    for _ in range(min(count, model.shape.max_positions - len(prompt) + 1)):
        logits_RV = _logits(model, ids, cache)
        token = choice.pick(logits_RV[0], generator)
        if token == stop:
            return
        yield token
        ids = [token]


def _logits(model: OPT, ids: list[int], cache: GrowingCache) -> Tensor:
    """Logits after the last of `ids`, [1, V]."""
    tokens_BS = torch.tensor([ids])
    positions_BS = torch.arange(cache.length, cache.length + len(ids))[None]
    found = model(tokens_BS, positions_BS=positions_BS, cache=cache, rows_of=torch.tensor([len(ids) - 1]))
    assert isinstance(found, Tensor)
    return found
