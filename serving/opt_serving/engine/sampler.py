"""From logits to the next token, and log probabilities where they were asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Sequence as Rows

import numpy as np
from numpy.typing import NDArray

from opt_serving.engine.requests import Sampling, Sequence, TokenOut

Numbers = NDArray[np.float32]
Largest = Callable[[Numbers], list[int]]
"""See `Computer.largest`."""
_SEEDS = 1 << 64


def choose(logits_RV: Numbers, sequences: Rows[Sequence], largest: Largest) -> list[TokenOut]:
    """The next token of each sequence from its row of logits; `largest` finds each row's largest."""
    plain = [row for row, sequence in enumerate(sequences) if sequence.sampling.plain]
    ids: dict[int, int] = {}
    if plain:
        some_RV = logits_RV if len(plain) == len(sequences) else logits_RV[plain]
        ids = dict(zip(plain, largest(some_RV), strict=True))
    for row, sequence in enumerate(sequences):
        if row not in ids:
            ids[row] = _draw(_altered(logits_RV[row], sequence), sequence, largest)
    return [_told(logits_RV, row, ids[row], sequence.sampling.logprobs) for row, sequence in enumerate(sequences)]


def scored(logits_RV: Numbers, targets: Rows[int], count: int) -> list[TokenOut]:
    """Each target with its log probability under its row of logits, and the `count` likeliest."""
    return [_scored(logits_V, target, count) for logits_V, target in zip(logits_RV, targets, strict=True)]


def _scored(logits_V: Numbers, target: int, count: int) -> TokenOut:
    """A row at a time: it stays in a processor's second cache."""
    largest = logits_V.max()
    whole = largest + np.log(np.exp(logits_V - largest).sum())
    best = _best(logits_V, count)
    top = zip(best.tolist(), (logits_V[best] - whole).tolist(), strict=True)
    return TokenOut(target, float(logits_V[target] - whole), tuple(top))


def _softmax(logits_V: Numbers) -> NDArray[np.float64]:
    chances_V: NDArray[np.float64] = np.exp(logits_V - logits_V.max(), dtype=np.float64)
    chances_V /= chances_V.sum()
    return chances_V


def _best(numbers_V: Numbers, count: int) -> NDArray[np.int64]:
    """Places of the `count` largest, the largest first; of equal ones the first."""
    if count >= (width := len(numbers_V)):
        return np.argsort(-numbers_V, kind="stable")
    if not count:
        return np.empty(0, np.int64)
    kept = np.sort(np.argpartition(numbers_V, width - count)[width - count :])
    return kept[np.argsort(-numbers_V[kept], kind="stable")]


def _told(logits_RV: Numbers, row: int, token: int, logprobs: int | None) -> TokenOut:
    return TokenOut(token) if logprobs is None else scored(logits_RV[row : row + 1], [token], logprobs)[0]


def _altered(logits_V: Numbers, sequence: Sequence) -> Numbers:
    sampling = sequence.sampling
    if not sampling.alters:
        return logits_V
    logits_V = logits_V.copy()
    for token, bias in sampling.logit_bias.items():
        logits_V[token] += bias
    if sequence.generated and (sampling.presence_penalty or sampling.frequency_penalty):
        times_V = np.bincount(sequence.generated, minlength=len(logits_V))
        logits_V -= sampling.presence_penalty * (times_V > 0) + sampling.frequency_penalty * times_V
    if len(sequence.generated) < sampling.min_tokens and sampling.stop_ids:
        logits_V[sorted(sampling.stop_ids)] = -np.inf
    return logits_V


def _draw(logits_V: Numbers, sequence: Sequence, largest: Largest) -> int:
    sampling = sequence.sampling
    if sampling.temperature == 0:
        return largest(logits_V[None])[0]
    if sequence.generator is None:
        sequence.generator = _generator(sampling)
    kept, ids = _likeliest(logits_V / np.float32(sampling.temperature), sampling)
    up_to = _softmax(kept).cumsum()
    at = int(np.searchsorted(up_to, sequence.generator.random() * up_to[-1], side="right"))
    return at if ids is None else int(ids[at])


def _likeliest(scaled_V: Numbers, sampling: Sampling) -> tuple[Numbers, NDArray[np.int64] | None]:
    """The logits that may be drawn from, and their ids; all ids in order when None."""
    if not sampling.top_k and sampling.top_p >= 1:
        return scaled_V, None
    ids = _best(scaled_V, sampling.top_k) if sampling.top_k else np.arange(len(scaled_V))
    if sampling.top_p < 1:
        ids = ids[_nucleus(_softmax(scaled_V[ids]), sampling.top_p)]
    return scaled_V[ids], ids


def _nucleus(chances: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Places of the likeliest that together have a share, the likeliest first (arXiv 1904.09751, 3.1).

    Those below (1 - share) / count have less than 1 - share in all, so the others are enough, and few to sort.
    """
    enough = np.flatnonzero(chances >= (1 - share) / len(chances))
    order = enough[np.argsort(-chances[enough])]
    before = chances[order].cumsum() - chances[order]
    return order[before < share]


def _generator(sampling: Sampling) -> np.random.Generator:
    seed = int.from_bytes(os.urandom(8), "little") if sampling.seed is None else sampling.seed % _SEEDS
    return np.random.Generator(np.random.PCG64(seed))
