"""Which model is trained: a published size, any number of it overridden, or a custom shape."""

from __future__ import annotations

from pydantic import Field

from opt_api.architecture import NormPosition, PresetName
from opt_api.base import Model, Rule
from opt_api.types import Count, Fraction, Positive


class ModelSpec(Model):
    """A preset and the numbers that replace the preset's own."""

    preset: PresetName
    """One of the nine sizes of the paper's table 1, or `custom`."""
    layers: Count | None = Field(default=None, le=1024)
    """Decoder blocks."""
    heads: Count | None = Field(default=None, le=1024)
    """Attention heads; must divide the hidden size."""
    hidden_size: Count | None = Field(default=None, le=131072)
    """Width of the residual stream."""
    ffn_size: Count | None = Field(default=None, le=1048576)
    """Width of the feed-forward layer; 4 x the hidden size when absent."""
    embedding_size: Count | None = Field(default=None, le=131072)
    """Width of the token embedding; the hidden size when absent (512 in opt-350m)."""
    vocabulary_size: Count | None = Field(default=None, ge=8, le=65536)
    """Rows of the embedding. 50272 with OPT's own tokenizer; at most 65536, as tokens are stored in 16 bits."""
    max_positions: Count | None = Field(default=None, ge=2, le=131072)
    """Rows of the learned position table (2048); at least the sequence length."""
    norm_position: NormPosition | None = None
    """Layer norm before (`pre`) or after (`post`, 350M) each sub-layer."""
    dropout: Fraction | None = None
    """Dropout on the residual stream (0.1); none on embeddings."""
    attention_dropout: Fraction | None = None
    """Dropout on attention weights (0.1)."""
    init_std: Positive | None = Field(default=None, le=1)
    """Standard deviation of the initial weights (0.006)."""

    rules = (
        Rule(
            "preset",
            "custom needs layers, heads and hiddenSize",
            "self.preset != 'custom' || (has(self.layers) && has(self.heads) && has(self.hiddenSize))",
            lambda m: m.preset != "custom" or None not in (m.layers, m.heads, m.hidden_size),
        ),
        Rule(
            "heads",
            "must divide hiddenSize",
            "!has(self.heads) || !has(self.hiddenSize) || self.hiddenSize % self.heads == 0",
            lambda m: m.heads is None or m.hidden_size is None or m.hidden_size % m.heads == 0,
        ),
    )
