"""The next token, from logits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from opt_serving.engine import sampler
from opt_serving.engine.requests import Sampling, Sequence, TokenOut
from opt_serving.engine.sampler import scored

pytestmark = pytest.mark.unit
LOGITS = np.array([0.0, 3.0, 2.9, -1.0, 2.0, 1.0], np.float32)


def choose(logits: NDArray[np.float32], sequences: list[Sequence]) -> list[TokenOut]:
    return sampler.choose(logits, sequences, lambda rows: rows.argmax(-1).tolist())


def drawn(times: int = 300, **fields: object) -> set[int]:
    return {
        choose(LOGITS[None], [Sequence([2], Sampling(seed=seed, **fields))])[0].id
        for seed in range(times)  # type: ignore[arg-type]
    }


def test_greedy_takes_the_likeliest():
    assert choose(LOGITS[None], [Sequence([2], Sampling())])[0].id == 1


def test_rows_of_a_batch_do_not_mix():
    logits = np.stack([LOGITS, LOGITS[::-1], LOGITS])
    sequences = [Sequence([2], s) for s in (Sampling(), Sampling(), Sampling(temperature=1.0, top_k=1, seed=3))]
    assert [token.id for token in choose(logits, sequences)] == [1, 4, 1]


def test_top_k_and_top_p_bound_the_draw():
    assert drawn(1500, temperature=1.0) == {0, 1, 2, 3, 4, 5}  # the least likely has 0.007
    assert drawn(temperature=1.0, top_k=2) == {1, 2}
    assert drawn(temperature=1.0, top_p=0.5) == {1, 2}  # the first alone has 0.37
    assert drawn(temperature=1.0, top_p=0.01) == {1}
    assert drawn(temperature=0.01) <= {1, 2}  # the second has 0.00005


def test_no_more_is_drawn_from_than_has_the_share():
    """Of many that are nearly as likely, where those too unlikely to count are left out before they are sorted."""
    logits = np.linspace(0, 12, 5000, dtype=np.float32)
    chances = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    for share in (0.1, 0.9, 0.999, 0.9999999):
        first = 5000 - (np.searchsorted(chances[::-1].cumsum(), share) + 1)
        seen = [choose(logits[None], [Sequence([2], Sampling(temperature=1.0, top_p=share, seed=s))])[0].id
                for s in range(300)]  # fmt: skip
        assert first <= min(seen)
        assert len(set(seen)) > 20


def test_a_token_without_a_chance_is_never_drawn():
    logits = np.full(64, -np.inf, np.float32)
    logits[[0, 40]] = 1.0
    asked = [Sequence([2], Sampling(temperature=1.0, seed=seed)) for seed in range(200)]
    assert {choose(logits[None], [sequence])[0].id for sequence in asked} == {0, 40}


def test_seeds_of_any_size_and_none_are_taken():
    for seed in (-1, 0, 1 << 63, None):
        assert choose(LOGITS[None], [Sequence([2], Sampling(temperature=1.0, seed=seed))])[0].id in range(6)


def test_a_seed_gives_the_same_draws_and_shares_follow_the_probabilities():
    one, same = (Sequence([2], Sampling(temperature=1.0, seed=11)) for _ in range(2))
    assert [choose(LOGITS[None], [one])[0].id for _ in range(50)] == [
        choose(LOGITS[None], [same])[0].id for _ in range(50)
    ]
    counts = np.bincount([choose(LOGITS[None], [one])[0].id for _ in range(4000)], minlength=6)
    assert np.allclose(counts / 4000, np.exp(LOGITS) / np.exp(LOGITS).sum(), atol=0.03)


def test_penalties_and_bias_move_the_choice():
    sequence = Sequence([2], Sampling(presence_penalty=0.5))
    sequence.generated = [1]
    assert choose(LOGITS[None], [sequence])[0].id == 2
    sequence = Sequence([2], Sampling(frequency_penalty=0.06))
    sequence.generated = [1]
    assert choose(LOGITS[None], [sequence])[0].id == 1
    sequence.generated = [1, 1]
    assert choose(LOGITS[None], [sequence])[0].id == 2
    assert choose(LOGITS[None], [Sequence([2], Sampling(logit_bias={3: 100.0}))])[0].id == 3


def test_no_stop_before_the_least_count():
    sequence = Sequence([2], Sampling(stop_ids=frozenset({1}), min_tokens=1))
    assert choose(LOGITS[None], [sequence])[0].id == 2
    sequence.generated = [2]
    assert choose(LOGITS[None], [sequence])[0].id == 1


def test_log_probabilities_are_the_models_own():
    wanted = LOGITS - np.log(np.exp(LOGITS).sum())
    (token,) = choose(LOGITS[None], [Sequence([2], Sampling(logprobs=2, logit_bias={3: 100.0}))])
    assert token.logprob == pytest.approx(float(wanted[3]))
    assert [i for i, _ in token.top] == [1, 2]
    (all_of_them,) = scored(LOGITS[None], [5], 20)
    assert [i for i, _ in all_of_them.top] == [1, 2, 4, 5, 0, 3]
    assert [i for i, _ in scored(np.array([[1, 2, 2, 2]], np.float32), [0], 2)[0].top] in ([1, 2], [1, 3], [2, 3])
    assert scored(LOGITS[None], [5], 0)[0].top == ()
