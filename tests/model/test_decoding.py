"""Decoding token by token gives what a pass over the whole text gives."""

from __future__ import annotations

import pytest
import torch

from opt_api.architecture import Architecture
from opt_model.decoding import Choice, decode
from opt_model.initial import initialise
from opt_model.opt import OPT

pytestmark = pytest.mark.unit
SHAPE = Architecture(
    layers=3, heads=4, hidden_size=32, ffn_size=64, embedding_size=16, vocabulary_size=96, max_positions=24,
    norm_position="post", init_std=0.2,
)  # fmt: skip
PROMPT = [2, 17, 40, 41, 5]


@pytest.fixture(scope="module")
def model() -> OPT:
    made = OPT(SHAPE)
    initialise(made, SHAPE, seed=3)
    return made.eval()


@torch.inference_mode()
def anew(model: OPT, count: int) -> list[int]:
    """Greedy ids by a whole pass for each token."""
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(PROMPT) :]


def test_greedy_ids_equal_a_whole_pass_per_token(model):
    assert list(decode(model, PROMPT, 12, Choice())) == anew(model, 12)


def test_positions_bound_the_text(model):
    assert len(list(decode(model, PROMPT, 1000, Choice()))) == SHAPE.max_positions - len(PROMPT) + 1


def test_stops_at_the_end_of_the_document(model):
    made = anew(model, 6)
    stop = made[3]
    assert list(decode(model, PROMPT, 6, Choice(), stop=stop)) == made[: made.index(stop)]


def test_draws_follow_the_seed_and_stay_among_the_likeliest(model):
    first, again, other = (list(decode(model, PROMPT, 15, Choice(1.0, 5, seed))) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    with torch.inference_mode():
        likeliest = model(torch.tensor([PROMPT]))[0, -1].topk(5).indices.tolist()
    assert {next(decode(model, PROMPT, 1, Choice(1.0, 5, seed))) for seed in range(40)} <= set(likeliest)


@pytest.mark.parametrize("prompt", [[], [2] * 25])
def test_a_prompt_that_does_not_fit_is_refused(model, prompt):
    with pytest.raises(ValueError, match=f"found {len(prompt)} tokens; allowed: 1 to 24"):
        next(decode(model, prompt, 1, Choice()))
