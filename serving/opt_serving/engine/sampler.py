"""From logits to the next token, and log probabilities where they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from opt_serving.engine.requests import Sampling, Sequence, TokenOut

Largest = Callable[[Tensor], list[int]]
"""See `Computer.largest`."""


def choose(logits_RV: Tensor, sequences: Rows[Sequence], largest: Largest) -> list[TokenOut]:
    """The next token of each sequence from its row of logits; `largest` finds each row's largest."""
    plain = [row for row, sequence in enumerate(sequences) if sequence.sampling.plain]
    ids: dict[int, int] = {}
    if len(plain) == len(sequences):
        ids = dict(enumerate(largest(logits_RV)))
    elif plain:
        ids = dict(zip(plain, largest(logits_RV[plain]), strict=True))
    for row, sequence in enumerate(sequences):
        if row not in ids:
            ids[row] = _draw(_altered(logits_RV[row], sequence), sequence, largest)
    return [_told(logits_RV, row, ids[row], sequence.sampling.logprobs) for row, sequence in enumerate(sequences)]


def scored(logits_RV: Tensor, targets: Rows[int], count: int) -> list[TokenOut]:
    """Each target with its log probability under its row of logits, and the `count` likeliest."""
    logprobs_RV = torch.log_softmax(logits_RV, dim=-1)
    chosen = logprobs_RV.gather(1, torch.tensor(targets)[:, None])[:, 0].tolist()
    best = logprobs_RV.topk(min(count, logprobs_RV.shape[1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenOut(target, logprob, tuple(zip(ids, values, strict=True)))
        for target, logprob, (ids, values) in zip(targets, chosen, tops, strict=True)
    ]


def _told(logits_RV: Tensor, row: int, token: int, logprobs: int | None) -> TokenOut:
    return TokenOut(token) if logprobs is None else scored(logits_RV[row : row + 1], [token], logprobs)[0]


def _altered(logits_V: Tensor, sequence: Sequence) -> Tensor:
    sampling = sequence.sampling
    if not sampling.alters:
        return logits_V
    logits_V = logits_V.clone()
    for token, bias in sampling.logit_bias.items():
        logits_V[token] += bias
    if sequence.generated and (sampling.presence_penalty or sampling.frequency_penalty):
        times_V = torch.bincount(torch.tensor(sequence.generated), minlength=len(logits_V))
        logits_V -= sampling.presence_penalty * (times_V > 0) + sampling.frequency_penalty * times_V
    if len(sequence.generated) < sampling.min_tokens and sampling.stop_ids:
        logits_V[sorted(sampling.stop_ids)] = float("-inf")
    return logits_V


def _draw(logits_V: Tensor, sequence: Sequence, largest: Largest) -> int:
    sampling = sequence.sampling
    if sampling.temperature == 0:
        return largest(logits_V[None])[0]
    if sequence.generator is None:
        sequence.generator = _generator(sampling)
    kept, ids = _likeliest(logits_V / sampling.temperature, sampling)
    at = int(torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=sequence.generator))
    return at if ids is None else int(ids[at])


def _likeliest(scaled_V: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """The logits that may be drawn from, and their ids; all ids in order when None."""
    if not sampling.top_k and sampling.top_p >= 1:
        return scaled_V, None
    kept, ids = scaled_V.topk(min(sampling.top_k or len(scaled_V), len(scaled_V)))
    if sampling.top_p < 1:
        chances = torch.softmax(kept, dim=-1)
        before = chances.cumsum(0) - chances
        kept = kept[before < sampling.top_p]
    return kept, ids


def _generator(sampling: Sampling) -> torch.Generator:
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator
