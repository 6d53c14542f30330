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
CUDA_FRAGMENTS = 0.06
"""Assumed: share of all parts that the caching allocator cannot use."""


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


def unfused(a: Architecture, device: Device) -> bool:
    """Whether attention is made of plain operations that hold the score matrix (`opt_model.dropped_attention`)."""
    return device == "cpu" and a.attention_dropout > 0


def saved_per_token(a: Architecture, tensor_parallel: int, width: int, sequence_length: int, device: Device) -> int:
    """Bytes that one block keeps per token for its backward pass, nothing recomputed.

    After arXiv 2205.05198, section 4.1, with two changes: ReLU keeps its output only, which is the next layer's input
    (8 s b h less), and fused attention keeps no score matrix. On cpu the fused kernel knows no dropout: there the
    softmax and its mask are kept, and dropout's masks are as wide as the activations.
    """
    d, f, heads, t = a.hidden_size, a.ffn_size, a.heads, tensor_parallel
    plain = unfused(a, device)
    masks = 2 * d * (width if device == "cpu" else 1) if a.dropout > 0 else 0
    whole = width * (4 * d + 4) + masks  # inputs of both norms and both column-parallel layers; mean and deviation
    attention = 2 * width * heads * sequence_length if plain else 4 * heads
    return whole + (width * (4 * d + f) + attention) // t


LOGITS_AT_ONCE: dict[Device, int] = {"cpu": 512 * 50272, "cuda": 4096 * 50272}
"""The model computes its loss over at most this many logits at a time (`opt_model.head`)."""


def activations(a: Architecture, layout: LayoutPlan, compute: NumberFormat, sequence_length: int) -> int:
    """Bytes of activations at the peak, the start of the backward pass.

    `none` keeps every block; `full` keeps each block's input and rebuilds one block at a time; `selective` does so
    for every second block, from the first on.
    """
    width, tokens = BYTES[compute], layout.micro_batch_sequences * sequence_length
    saved = saved_per_token(a, layout.tensor_parallel, width, sequence_length, layout.device)
    recomputed = {"none": 0, "selective": ceil_div(a.layers, 2), "full": a.layers}[layout.activation_checkpointing]
    kept = (a.layers - recomputed) * saved + recomputed * width * a.hidden_size
    rebuilt = saved if recomputed else 0
    return tokens * (kept + rebuilt) + passing(a, layout, width, sequence_length)


def passing(a: Architecture, layout: LayoutPlan, width: int, sequence_length: int) -> int:
    """Bytes that come and go: gradients on both sides of a block's widest operation, the loss, one hidden state."""
    tokens = layout.micro_batch_sequences * sequence_length
    scores = 4 * a.heads * sequence_length if unfused(a, layout.device) else 0
    widest = max(width * a.ffn_size, scores) // layout.tensor_parallel
    return tokens * (width * a.hidden_size + 2 * widest) + head(a, layout.tensor_parallel, width, tokens, layout.device)


def head(a: Architecture, tensor_parallel: int, width: int, tokens: int, device: Device) -> int:
    """Bytes of the loss: one chunk of logits, its input with the gradient, and the embedding's gradient.

    The chunk is held in the compute format and in float32; the embedding's gradient is added up in float32, beside a
    product in the compute format where that is shorter.
    """
    rows = a.vocabulary_size // tensor_parallel
    logits = min(LOGITS_AT_ONCE[device], tokens * rows) * (4 + width)
    embedding = rows * a.embedding_size * (4 + (width if width < MASTER else 0))
    return logits + 2 * tokens * a.embedding_size * width + embedding


def buffers(a: Architecture, layout: LayoutPlan, compute: NumberFormat) -> int:
    """Bytes of weights in the compute format and of whole gradients while blocks are at work.

    FSDP gathers the weights of two blocks, the one at work and the one fetched ahead (all stay if they are not
    resharded after the forward pass), and keeps the outer group for the whole step, as the tied head needs it (default
    prefetch of FSDP2, torch 2.13 `fully_shard`); gradients of two blocks and the outer group stand whole in float32
    until they are reduced. Without FSDP there is one copy in a shorter compute format.
    """
    width, tensor = BYTES[compute], layout.tensor_parallel
    if layout.data_parallel > 1 and (layout.shard > 1 or tensor > 1):
        block, outer, two = block_parameters(a, tensor), outer_parameters(a, tensor), min(2, a.layers)
        gathered = two if layout.gathers_again else a.layers
        return width * (gathered * block + outer) + MASTER * (two * block + outer)
    return width * worker_parameters(a, tensor) if width < MASTER else 0


def fragments(a: Architecture, layout: LayoutPlan, compute: NumberFormat, sequence_length: int, parts: int) -> int:
    """Bytes that the allocator holds and nobody uses.

    glibc's heap keeps about as much as comes and goes in a block and in the loss; seen on cpu by
    `tests/plan/test_peak_memory.py`. On a GPU a share of all parts is assumed.
    """
    if layout.device == "cuda":
        return int(CUDA_FRAGMENTS * parts)
    width, tokens = BYTES[compute], layout.micro_batch_sequences * sequence_length
    saved = saved_per_token(a, layout.tensor_parallel, width, sequence_length, layout.device)
    return tokens * saved + passing(a, layout, width, sequence_length)


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
    lost = fragments(a, layout, compute, sequence_length, sum(parts.values()))
    return MemoryEstimate(**parts, overhead=OVERHEAD[layout.device] + lost)
