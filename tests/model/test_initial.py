"""Initial weights: the paper's distribution, and the same for every layout."""

import math

import pytest
import torch

from opt_model import initial as module
from opt_model.initial import fill, initialise
from opt_model.opt import OPT
from support.shapes import TINY, TINY_POST


@pytest.mark.unit
def test_distribution_is_the_papers() -> None:
    shape = TINY.model_copy(update={"hidden_size": 256, "ffn_size": 1024, "embedding_size": 256, "init_std": 0.006})
    model = OPT(shape)
    initialise(model, shape, 1)
    found = dict(model.named_parameters())
    assert found["layers.0.fc1.weight"].std().item() == pytest.approx(0.006, rel=0.02)
    for output in ("layers.1.fc2.weight", "layers.1.self_attn.out_proj.weight"):
        assert found[output].std().item() == pytest.approx(0.006 / math.sqrt(4), rel=0.02)
    assert found["layers.0.fc1.bias"].eq(0).all()
    assert found["layers.0.final_layer_norm.weight"].eq(1).all()
    for table in ("embed_tokens.weight", "embed_positions.weight"):
        assert found[table][module.PADDING_ID].eq(0).all()
        assert found[table][module.PADDING_ID + 1].ne(0).any()


@pytest.mark.unit
def test_seed_and_name_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [OPT(TINY) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialise(model, TINY, seed)
    first, again, other = (dict(model.named_parameters()) for model in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.fc1.weight"], other["layers.0.fc1.weight"])
    assert not torch.equal(first["layers.0.fc1.weight"], first["layers.1.fc1.weight"])


@pytest.mark.unit
@pytest.mark.parametrize("shape", [TINY, TINY_POST])
def test_every_shard_is_its_part_of_the_whole(shape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_NUMBERS", 7 * 32)
    model = OPT(shape)
    initialise(model, shape, 3)
    for name, whole in model.named_parameters():
        for dimension in range(whole.dim()):
            offset = [0] * whole.dim()
            for part in whole.detach().tensor_split(3, dim=dimension):
                local = torch.full_like(part, torch.nan)
                fill(local, name, tuple(whole.shape), tuple(offset), shape, 3)
                assert torch.equal(local, part), (name, dimension)
                offset[dimension] += part.shape[dimension]
