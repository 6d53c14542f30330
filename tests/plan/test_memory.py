"""The memory estimate against the model itself: counts, what autograd keeps, what a step holds."""

from __future__ import annotations

import math

import pytest
import torch

from opt_api.architecture import PRESETS, Architecture
from opt_api.estimate.memory import LOGITS_AT_ONCE, activations, memory, saved_per_token, worker_parameters
from opt_api.resolve import resolve
from opt_model.block import Block
from opt_model.head import CHUNK_LOGITS
from opt_model.opt import OPT
from opt_model.partition import divided_dimension
from support.trainings import training

pytestmark = pytest.mark.integration

WIDTHS = {torch.float32: 4, torch.bfloat16: 2}
SMALL = {
    "model": {"preset": "custom", "layers": 6, "heads": 8, "hiddenSize": 512, "vocabularySize": 8192},
    "data": {"dataset": "s3://corpus/manifest.json", "sequenceLength": 256},
    "optimisation": {"learningRate": 1e-3, "batchTokens": 2048, "totalTokens": 204800, "warmupTokens": 2048},
    "parallelism": {"device": "cpu"},
    "precision": {"compute": "float32"},
    "pods": {"resources": {"memory": "8Gi"}},
}


def on_meta(architecture: Architecture) -> OPT:
    with torch.device("meta"):
        return OPT(architecture)


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_the_models(preset):
    architecture = PRESETS[preset].architecture
    assert architecture.parameters() == sum(p.numel() for p in on_meta(architecture).parameters())


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("preset", ["opt-350m", "opt-66b", "opt-175b"])
def test_a_tensor_parallel_worker_holds_what_the_models_partition_gives_it(preset, width):
    architecture = PRESETS[preset].architecture
    held = sum(
        p.numel() // (1 if divided_dimension(name) is None else width)
        for name, p in on_meta(architecture).named_parameters()
    )
    assert worker_parameters(architecture, width) == held


@pytest.mark.parametrize("compute", WIDTHS, ids=str)
@pytest.mark.parametrize(("dropout", "attention_dropout"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.1), (0.0, 0.1)])
def test_a_block_keeps_what_the_estimate_says(compute, dropout, attention_dropout):
    architecture = Architecture(
        layers=1, heads=4, hidden_size=64, ffn_size=192, embedding_size=64, vocabulary_size=64,
        dropout=dropout, attention_dropout=attention_dropout,
    )  # fmt: skip
    sequences, length = 2, 48
    estimated = saved_per_token(architecture, 1, WIDTHS[compute], length, "cpu") * sequences * length
    assert kept_for_backward(architecture, compute, sequences, length) == estimated


def kept_for_backward(architecture: Architecture, compute: torch.dtype, sequences: int, length: int) -> int:
    """Bytes of distinct storages that autograd saves in one block, its weights left out."""
    block = Block(architecture, 0).to(compute).train()
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x = torch.randn(sequences, length, architecture.hidden_size, dtype=compute, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def test_the_loss_holds_as_many_logits_as_the_estimate_says():
    assert LOGITS_AT_ONCE == CHUNK_LOGITS


def test_weights_gradients_and_moments_are_those_of_a_real_step():
    plan = resolve(training(**SMALL))
    model = OPT(plan.architecture)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(0, 100, (1, 16))
    model(tokens, tokens).loss.backward()
    optimiser.step()
    moments = [t for state in optimiser.state.values() for name, t in state.items() if name != "step"]
    estimated = memory(plan.architecture, plan.layout, "float32", plan.sequence_length)
    assert estimated.weights == size_of(model.parameters())
    assert estimated.gradients == size_of(p.grad for p in model.parameters())
    assert estimated.optimizer == size_of(moments)


def test_weights_that_are_gathered_once_are_all_in_memory():
    parallelism = {"device": "cpu", "devicesPerHost": 2, "microBatchSequences": 1}
    again, once = (
        resolve(training(**{**SMALL, "parallelism": parallelism | {"reshardAfterForward": how}}))
        for how in (True, False)
    )
    block = sum(p.numel() for p in on_meta(again.architecture).layers[0].parameters())
    again_bytes, once_bytes = (memory(p.architecture, p.layout, "bfloat16", p.sequence_length) for p in (again, once))
    assert once_bytes.buffers - again_bytes.buffers == 2 * block * (again.architecture.layers - 2)


def size_of(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def test_recomputation_keeps_less_and_never_nothing():
    kept = {}
    for how in ("none", "selective", "full"):
        plan = resolve(training(**{**SMALL, "parallelism": {"device": "cpu", "activationCheckpointing": how}}))
        kept[how] = activations(plan.architecture, plan.layout, "float32", plan.sequence_length)
    assert kept["none"] > kept["selective"] > kept["full"] > 0
    assert math.isclose(kept["selective"], (kept["none"] + kept["full"]) / 2, rel_tol=0.15)
