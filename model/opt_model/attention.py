"""Causal self-attention; the one place where keys and values are made and looked at.

Shape suffixes, used in the whole package: B sequences, S positions of this pass, T positions attended to, N = B x S
tokens, D hidden size, E embedding size, F feed-forward size, H heads (of this rank), K head size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from opt_api.architecture import Architecture
from opt_model.dropout import own_numbers
from opt_model.dropped_attention import dropped_attention
from opt_model.linear import Linear, widened
from opt_model.randomness import head_dropout_stream


class AttentionCache(Protocol):
    """What a server puts between a block's projections and its attention: it keeps past keys and values."""

    def attend(self, layer: int, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        """Store this pass's keys and values, attend over all that each sequence has, return [B, H, S, K]."""


class SelfAttention(nn.Module):
    """Multi-head causal attention with biases; the number of heads follows the weights, so it may be a rank's share."""

    def __init__(self, shape: Architecture, layer: int) -> None:
        super().__init__()
        width = shape.hidden_size
        self.layer = layer
        self.head_size = shape.head_size
        self.dropout = shape.attention_dropout
        self.head_rank = 0
        """This rank's place among those that share the heads; parts the dropout of their heads."""
        self.heads_divided = False
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x_BSD: Tensor, cache: AttentionCache | None = None) -> Tensor:
        """Attend within each sequence; positions before this pass come from the cache. Returns [B, S, D]."""
        q_BHSK, k_BHSK, v_BHSK = (self._heads(proj(x_BSD)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if cache is None:
            y_BHSK = self._attend(q_BHSK, k_BHSK, v_BHSK)
        else:
            y_BHSK = cache.attend(self.layer, q_BHSK, k_BHSK, v_BHSK)
        y_BSD: Tensor = self.out_proj(y_BHSK.transpose(1, 2).flatten(2))
        return y_BSD

    def _attend(self, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if dropout == 0 and widened(q_BHSK, k_BHSK):
            y: Tensor = _Widened.apply(q_BHSK, k_BHSK, v_BHSK)  # type: ignore[no-untyped-call]
            return y
        with head_dropout_stream(self.head_rank, active=self.heads_divided and dropout > 0):
            if dropout and own_numbers(q_BHSK):
                return dropped_attention(q_BHSK, k_BHSK, v_BHSK, dropout)
            return scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, dropout_p=dropout, is_causal=True)

    def _heads(self, x_BSD: Tensor) -> Tensor:
        batch, positions, width = x_BSD.shape
        return x_BSD.view(batch, positions, width // self.head_size, self.head_size).transpose(1, 2)


class _Widened(torch.autograd.Function):
    """torch's fused attention on the CPU, in float32 on tensors that are kept short."""

    @staticmethod
    def forward(ctx: Any, *qkv_BHSK: Tensor) -> Tensor:
        wide = (x.float() for x in qkv_BHSK)
        y_BHSK, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*wide, 0.0, True)
        short: Tensor = y_BHSK.to(qkv_BHSK[0].dtype)
        ctx.save_for_backward(*qkv_BHSK, short, sums)
        return short

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        *kept, sums = ctx.saved_tensors
        wide = (x.float() for x in (upstream, *kept))
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*wide, sums, 0.0, True)
        return tuple(gradient.to(upstream.dtype) for gradient in found)
