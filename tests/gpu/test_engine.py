"""The serving engine on a CUDA device answers as transformers does, alone and among other requests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from opt_api.architecture import Architecture
from opt_serving.engine import Sampling, Sequence
from support.engines import engine_of, greedy, prompts, run
from support.served_models import POST, SHAPE, write_model

pytestmark = pytest.mark.gpu
NEW = 20


@pytest.mark.parametrize("shape", [SHAPE, POST], ids=["pre-norm", "post-norm"])
def test_greedy_ids_are_those_of_transformers_on_100_prompts(tmp_path: Path, shape: Architecture) -> None:
    theirs = write_model(tmp_path, shape, tokenizer=False)
    sequences = [Sequence(prompt, Sampling(max_tokens=NEW)) for prompt in prompts(100, 150, shape.vocabulary_size)]
    with engine_of(tmp_path, device="cuda") as engine:
        run(engine, sequences)
    for sequence in sequences:
        assert sequence.generated == greedy(theirs, sequence.prompt, NEW)


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
