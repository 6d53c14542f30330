"""Memory of one device, by part, before anything runs."""

from __future__ import annotations

from opt_api.architecture import Architecture
from opt_api.base import Model
from opt_api.documents.plan import LayoutPlan
from opt_api.training.parallelism import Device, NumberFormat
from opt_api.types import LongWhole

BYTES: dict[NumberFormat, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
MASTER = 4
"""Weights are held, reduced and updated in float32; the compute format is a gathered copy (FSDP2 mixed precision)."""
MOMENTS = 8
"""Adam's two moments in float32 (arXiv 1412.6980)."""

OVERHEAD: dict[Device, int] = {"cuda": 2 << 30, "cpu": 400 << 20}
"""Assumed: context, libraries' workspaces and NCCL's buffers of one GPU; one Python process with torch loaded."""
RESERVE: dict[Device, float] = {"cuda": 0.06, "cpu": 0.05}
"""Assumed: share of the device lost to the allocator's fragments."""


def ceil_div(number: int, parts: int) -> int:
    """The quotient rounded up."""
    return -(-number // parts)


class MemoryEstimate(Model):
    """Bytes on the fullest device."""

    weights: LongWhole
    gradients: LongWhole
    optimizer: LongWhole
    activations: LongWhole
    buffers: LongWhole
    """Gathered weights and whole gradients of the blocks at work."""
    overhead: LongWhole
    """Context, libraries and the allocator's fragments."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.buffers + self.overhead


def block_parameters(a: Architecture, tensor_parallel: int) -> int:
    """Parameters of one block on one tensor-parallel worker.

    Column-parallel query, key, value and first feed-forward layer split weight and bias; row-parallel output layers
    split the weight only; layer norms are whole (Megatron-LM, arXiv 1909.08053, section 3).
    """
    d, f, t = a.hidden_size, a.ffn_size, tensor_parallel
    split = 3 * (d * d + d) + d * d + (d * f + f) + f * d
    return split // t + 2 * d + 2 * 2 * d


def outer_parameters(a: Architecture, tensor_parallel: int) -> int:
    """Parameters outside the blocks on one worker; the token embedding is split by vocabulary rows."""
    tokens = a.vocabulary_size * a.embedding_size
    return a.embedding_parameters() - tokens + tokens // tensor_parallel


def worker_parameters(a: Architecture, tensor_parallel: int) -> int:
    """Parameters of one tensor-parallel worker before data-parallel sharding."""
    return a.layers * block_parameters(a, tensor_parallel) + outer_parameters(a, tensor_parallel)


def saved_per_token(a: Architecture, tensor_parallel: int, width: int, sequence_length: int, device: Device) -> int:
    """Bytes that one block keeps per token for its backward pass, nothing recomputed.

    After arXiv 2205.05198, section 4.1, with two changes: ReLU keeps its output only, which is the next layer's input
    (8 s b h less), and fused attention keeps no score matrix. On cpu the fused kernel knows no dropout: there the
    softmax, its mask and its product are kept, all in float32, and dropout's masks are as wide as the activations.
    """
    d, f, heads, t = a.hidden_size, a.ffn_size, a.heads, tensor_parallel
    unfused = device == "cpu" and a.attention_dropout > 0
    masks = 2 * d * (width if device == "cpu" else 1) if a.dropout > 0 else 0
    whole = width * (4 * d + 4) + masks  # inputs of both norms and both column-parallel layers; mean and deviation
    queries = 3 * d * (4 if unfused else width)
    attention = 3 * 4 * heads * sequence_length if unfused else 4 * heads
    return whole + (queries + attention + width * (d + f)) // t


LOGITS_AT_ONCE = 256 * 50272
"""The model computes its loss over at most this many logits at a time (`opt_model.head`)."""


def activations(a: Architecture, layout: LayoutPlan, compute: NumberFormat, sequence_length: int) -> int:
    """Bytes of activations at the peak, the start of the backward pass.

    `none` keeps every block; `full` keeps each block's input and rebuilds one block at a time; `selective` does so
    for every second block. The head holds one chunk of logits, in the compute format and in float32, and its input
    with the gradient.
    """
    width, tensor = BYTES[compute], layout.tensor_parallel
    tokens = layout.micro_batch_sequences * sequence_length
    saved = saved_per_token(a, tensor, width, sequence_length, layout.device)
    entry = width * a.hidden_size
    recomputed = {"none": 0, "selective": a.layers // 2, "full": a.layers}[layout.activation_checkpointing]
    blocks = (a.layers - recomputed) * saved + recomputed * entry + (saved if recomputed else 0)
    logits = min(LOGITS_AT_ONCE, tokens * a.vocabulary_size // tensor) * (4 + width)
    return tokens * (blocks + 2 * entry) + logits


def buffers(a: Architecture, layout: LayoutPlan, compute: NumberFormat) -> int:
    """Bytes of gathered weights and whole gradients while blocks are at work.

    Two blocks' weights are gathered, the one at work and the one fetched ahead, and the embedding stays for the whole
    step, since the tied head needs it (FSDP2's default prefetch, torch 2.13 `fully_shard`). Gradients of the same
    groups stand whole in float32 until they are reduced. One worker alone, in float32, needs none of it.
    """
    block, outer = block_parameters(a, layout.tensor_parallel), outer_parameters(a, layout.tensor_parallel)
    groups = min(2, a.layers) * block + outer
    gathered = BYTES[compute] * groups if layout.shard > 1 or compute != "float32" else 0
    reduced = MASTER * groups if layout.data_parallel > 1 else 0
    return gathered + reduced


def memory(a: Architecture, layout: LayoutPlan, compute: NumberFormat, sequence_length: int) -> MemoryEstimate:
    """Bytes on the fullest device under FSDP x tensor parallelism (ZeRO stage 3, arXiv 1910.02054, section 5)."""
    own = ceil_div(worker_parameters(a, layout.tensor_parallel), layout.shard)
    parts = {
        "weights": MASTER * own,
        "gradients": MASTER * own,
        "optimizer": MOMENTS * own,
        "activations": activations(a, layout, compute, sequence_length),
        "buffers": buffers(a, layout, compute),
    }
    fragments = int(RESERVE[layout.device] * sum(parts.values()))
    return MemoryEstimate(**parts, overhead=OVERHEAD[layout.device] + fragments)
