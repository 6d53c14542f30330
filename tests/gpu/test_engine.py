"""The serving engine on a CUDA device answers as transformers does, alone and among other requests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from opt_api.architecture import Architecture
from opt_serving.engine import Sampling, Sequence
from support.engines import engine_of, run
from support.served_models import POST, SHAPE, write_model

pytestmark = pytest.mark.gpu
NEW = 20


@torch.inference_mode()
def greedy(theirs: Any, prompt: list[int]) -> list[int]:
    made = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=NEW, do_sample=False,
        eos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    return made[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [SHAPE, POST], ids=["pre-norm", "post-norm"])
def test_greedy_ids_are_those_of_transformers_on_100_prompts(tmp_path: Path, shape: Architecture) -> None:
    theirs = write_model(tmp_path, shape, tokenizer=False)
    rng = random.Random(0)
    prompts = [
        [2, *(rng.randrange(4, shape.vocabulary_size) for _ in range(rng.randrange(1, 150)))] for _ in range(100)
    ]
    sequences = [Sequence(prompt, Sampling(max_tokens=NEW)) for prompt in prompts]
    with engine_of(tmp_path, device="cuda") as engine:
        run(engine, sequences)
    for sequence in sequences:
        assert sequence.generated == greedy(theirs, sequence.prompt)


@pytest.mark.parametrize("weights", ["bfloat16", "float16", "int8"])
def test_short_weights_answer_near_float32(tmp_path: Path, weights: str) -> None:
    write_model(tmp_path, SHAPE, tokenizer=False)
    prompt = [2, *range(10, 70)]
    found = {}
    for precision in ("float32", weights):
        sequence = Sequence(prompt, Sampling(max_tokens=1, prompt_logprobs=0))
        with engine_of(tmp_path, device="cuda", weights=precision) as engine:
            run(engine, [sequence])
        found[precision] = torch.tensor([token.logprob for token in sequence.prompt_out[1:]])
    assert found["float32"].shape == (len(prompt) - 1,)
    assert (found["float32"] - found[weights]).abs().max() < 0.1
