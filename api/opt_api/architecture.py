"""The shape of an OPT model and the nine published sizes."""

from __future__ import annotations

from typing import Literal

from opt_api.base import Model, Rule
from opt_api.types import Count, Fraction, Positive, Whole

NormPosition = Literal["pre", "post"]
LearningRateSource = Literal["paper", "code"]
PresetName = Literal[
    "opt-125m", "opt-350m", "opt-1.3b", "opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b", "opt-175b", "custom"
]

POSITION_OFFSET = 2
"""OPT's learned position table has two rows before position 0 (arXiv 2205.01068 code, `padding_idx + 1`)."""


class Architecture(Model):
    """Everything that fixes the shapes and the initial distribution of an OPT decoder."""

    layers: Count
    heads: Count
    hidden_size: Count
    ffn_size: Count
    """Width of the feed-forward layer; 4 x hidden size in every published model."""
    embedding_size: Count
    """Width of the token embedding; differs from the hidden size in the 350M model only."""
    vocabulary_size: Count = 50272
    max_positions: Count = 2048
    norm_position: NormPosition = "pre"
    """`pre` has a final layer norm; `post` (350M) has none."""
    dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.1
    init_std: Positive = 0.006
    """Standard deviation of all weights (arXiv 2205.01068, section 2.2); output layers are scaled by 1/sqrt(2 L)."""

    rules = (
        Rule(
            "heads",
            "must divide hiddenSize",
            "self.hiddenSize % self.heads == 0",
            lambda a: a.hidden_size % a.heads == 0,
        ),
    )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def has_projections(self) -> bool:
        """Whether the embedding is projected in and out (350M)."""
        return self.embedding_size != self.hidden_size

    def block_parameters(self) -> int:
        """Parameters of one decoder block: attention, feed-forward and two layer norms, with biases."""
        d, f = self.hidden_size, self.ffn_size
        return 4 * (d * d + d) + (d * f + f) + (f * d + d) + 2 * 2 * d

    def embedding_parameters(self) -> int:
        """Parameters outside the blocks; the output head is tied to the token embedding."""
        tokens = self.vocabulary_size * self.embedding_size
        positions = (self.max_positions + POSITION_OFFSET) * self.hidden_size
        projections = 2 * self.embedding_size * self.hidden_size if self.has_projections else 0
        final_norm = 2 * self.hidden_size if self.norm_position == "pre" else 0
        return tokens + positions + projections + final_norm

    def parameters(self) -> int:
        """All trainable parameters, the tied head counted once."""
        return self.layers * self.block_parameters() + self.embedding_parameters()

    def model_flops_per_token(self, sequence_length: int) -> int:
        """FLOPs of forward and backward per token: 6 N + 12 L d s (PaLM, arXiv 2204.02311, appendix B).

        N counts every parameter that multiplies an activation, the tied head included once.
        """
        positions = (self.max_positions + POSITION_OFFSET) * self.hidden_size
        return 6 * (self.parameters() - positions) + 12 * self.layers * self.hidden_size * sequence_length

    def hardware_flops_per_token(self, sequence_length: int, *, recompute: bool) -> int:
        """FLOPs the device really does per token: a third more when activations are recomputed."""
        flops = self.model_flops_per_token(sequence_length)
        return flops * 4 // 3 if recompute else flops


class Preset(Model):
    """One row of table 1 of the paper, with what the released code says where it differs."""

    architecture: Architecture
    learning_rate_paper: Positive
    learning_rate_code: Positive
    batch_tokens: Count
    tensor_parallel: Count
    warmup_updates_paper: Whole
    warmup_updates_code: Whole

    def learning_rate(self, source: LearningRateSource) -> float:
        """Peak learning rate as the paper or as the released code has it."""
        return self.learning_rate_paper if source == "paper" else self.learning_rate_code

    def warmup_updates(self, source: LearningRateSource) -> int:
        """Warm-up updates as the paper or as the released code has it."""
        return self.warmup_updates_paper if source == "paper" else self.warmup_updates_code


_K = 1024
# layers, heads, d, peak LR (paper), peak LR (code), batch tokens, TP, warm-up (paper), warm-up (code), norm, embedding
_ROWS: dict[str, tuple[int, int, int, float, float, int, int, int, int, NormPosition, int]] = {
    "opt-125m": (12, 12, 768, 6e-4, 6e-4, 512 * _K, 2, 715, 715, "pre", 768),
    "opt-350m": (24, 16, 1024, 3e-4, 3e-4, 512 * _K, 2, 715, 715, "post", 512),
    "opt-1.3b": (24, 32, 2048, 2e-4, 2e-4, 1024 * _K, 2, 358, 358, "pre", 2048),
    "opt-2.7b": (32, 32, 2560, 1.6e-4, 1.6e-4, 1024 * _K, 4, 358, 358, "pre", 2560),
    "opt-6.7b": (32, 32, 4096, 1.2e-4, 1.2e-4, 2048 * _K, 2, 179, 179, "pre", 4096),
    "opt-13b": (40, 40, 5120, 1e-4, 1e-4, 4096 * _K, 2, 89, 89, "pre", 5120),
    "opt-30b": (48, 56, 7168, 1e-4, 1e-4, 4096 * _K, 2, 89, 89, "pre", 7168),
    "opt-66b": (64, 72, 9216, 0.8e-4, 8e-5, 2048 * _K, 8, 179, 179, "pre", 9216),
    "opt-175b": (96, 96, 12288, 1.2e-4, 3e-5, 2048 * _K, 8, 2000, 179, "pre", 12288),
}
"""arXiv 2205.01068 v4, table 1 and section 2; the code's learning rate and warm-up from the released training code."""

TRAINING_TOKENS = 300_000_000_000
"""Tokens every published model was trained on (arXiv 2205.01068, section 2.2)."""


def _preset(row: tuple[int, int, int, float, float, int, int, int, int, NormPosition, int]) -> Preset:
    layers, heads, width, lr_paper, lr_code, batch, tp, warm_paper, warm_code, norm, embedding = row
    return Preset(
        architecture=Architecture(
            layers=layers,
            heads=heads,
            hidden_size=width,
            ffn_size=4 * width,
            embedding_size=embedding,
            norm_position=norm,
        ),
        learning_rate_paper=lr_paper,
        learning_rate_code=lr_code,
        batch_tokens=batch,
        tensor_parallel=tp,
        warmup_updates_paper=warm_paper,
        warmup_updates_code=warm_code,
    )


PRESETS: dict[str, Preset] = {name: _preset(row) for name, row in _ROWS.items()}
