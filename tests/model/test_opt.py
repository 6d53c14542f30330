"""Parity with transformers: logits, loss and every gradient."""

import pytest
import torch

from opt_api.architecture import Architecture
from opt_model import OPT
from opt_model.exchange import from_hugging_face
from opt_model.exchange.names import shapes_of
from support.hugging_face import ours_from, reference
from support.shapes import OPT_125M, OPT_350M, TINY, TINY_POST

TOLERANCE = 1e-5


def compare(shape: Architecture, sequence: int) -> None:
    theirs = reference(shape)
    ours = ours_from(theirs, shape)
    blocks = torch.randint(4, shape.vocabulary_size, (2, sequence + 1), generator=torch.Generator().manual_seed(1))
    tokens, targets = blocks[:, :-1], blocks[:, 1:]
    expected = theirs(input_ids=tokens).logits
    assert (ours(tokens) - expected).abs().max() < TOLERANCE
    mean = torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten())
    mean.backward()
    result = ours(tokens, targets, gradient_scale=1 / targets.numel())
    assert abs(result.loss.item() / targets.numel() - mean.item()) < TOLERANCE
    result.loss.backward()
    compare_gradients(ours, theirs)


def compare_gradients(ours: OPT, theirs: torch.nn.Module) -> None:
    found = dict(ours.named_parameters())
    compared = 0
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        gradient = found[from_hugging_face(name)].grad
        assert gradient is not None, name
        assert (gradient - parameter.grad).abs().max() < TOLERANCE, name
        compared += 1
    assert compared == len(found)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [TINY, TINY_POST], ids=["pre-norm", "post-norm"])
def test_small_models_equal_transformers(shape: Architecture) -> None:
    compare(shape, 48)


@pytest.mark.integration
@pytest.mark.parametrize("shape", [OPT_125M, OPT_350M], ids=["125m", "350m"])
def test_published_shapes_equal_transformers(shape: Architecture) -> None:
    compare(shape, 64)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [TINY, TINY_POST, OPT_125M, OPT_350M])
def test_parameters_are_those_the_architecture_counts(shape: Architecture) -> None:
    with torch.device("meta"):
        model = OPT(shape)
    found = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert list(found.items()) == list(shapes_of(shape).items())
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters()


@pytest.mark.unit
def test_logits_only_where_asked() -> None:
    model = OPT(TINY).eval()
    tokens = torch.randint(4, TINY.vocabulary_size, (2, 8))
    rows = torch.tensor([7, 15])
    assert torch.allclose(model(tokens, rows_of=rows), model(tokens)[:, -1], atol=1e-6)


@pytest.mark.unit
def test_positions_may_be_given() -> None:
    model = OPT(TINY).eval()
    tokens = torch.randint(4, TINY.vocabulary_size, (1, 8))
    shifted = torch.arange(3, 11).unsqueeze(0)
    assert torch.equal(model(tokens, positions_BS=shifted - 3), model(tokens))
    assert not torch.allclose(model(tokens, positions_BS=shifted), model(tokens))


class WholePass:
    """A cache that keeps all keys and values, as a server's would."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if layer in self.kept:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.kept[layer], (k, v), strict=True))
        self.kept[layer] = (k, v)
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [TINY, TINY_POST])
def test_a_cache_continues_where_the_first_pass_ended(shape: Architecture) -> None:
    model = OPT(shape).eval()
    tokens = torch.randint(4, shape.vocabulary_size, (2, 12))
    cache = WholePass()
    positions = torch.arange(12).unsqueeze(0)
    first = model(tokens[:, :7], cache=cache)
    then = [model(tokens[:, at : at + 1], positions_BS=positions[:, at : at + 1], cache=cache) for at in range(7, 12)]
    assert torch.allclose(torch.cat([first, *then], dim=1), model(tokens), atol=1e-5)
