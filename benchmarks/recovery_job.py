"""The common job of the recovery benchmark: an OPT of 8 million parameters, replicated on two ranks of one thread each.

Every runner trains it and appends `epoch seconds, attempt or process, step` to one file, a line for each optimiser step
that rank 0 (or, where replicas go on without each other, any of them) has done. All figures are read from these lines
and from the moment at which the fault was given.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYERS, HEADS, HIDDEN, VOCABULARY, LENGTH = 8, 8, 256, 4096, 64
SEQUENCES = 2
"""Of a batch, over both ranks. Short, so that a recovery is not mostly the step that ends it."""
RANKS = 2
RATE = 6e-4


@dataclass(frozen=True)
class Line:
    """One step that was done."""

    at: float
    who: str
    step: int


def write_line(path: Path, who: str, step: int) -> None:
    """Note a step, in one write."""
    with path.open("a") as file:
        file.write(f"{time.time()} {who} {step}\n")


def read_lines(path: Path) -> list[Line]:
    """All steps so far."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    fields = [line.split() for line in whole.splitlines()]
    return [Line(float(at), who, int(step)) for at, who, step in fields]


def hugging_face_model() -> Any:
    """The peers' model: transformers' OPT of the same shape."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, ffn_dim=4 * HIDDEN,
        num_attention_heads=HEADS, max_position_embeddings=2 * LENGTH, word_embed_proj_dim=HIDDEN,
    )  # fmt: skip
    return OPTForCausalLM(config)


def batch(step: int, rank: int) -> Any:
    """A rank's tokens of a step, [sequences of a rank, length]."""
    import torch

    generator = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randint(4, VOCABULARY, (SEQUENCES // RANKS, LENGTH), generator=generator)


def thread_limit() -> dict[str, str]:
    """Environment of every program."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
