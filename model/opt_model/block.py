"""One decoder block: attention and feed-forward, each with a residual connection and a layer norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.utils.checkpoint import checkpoint

from opt_api.architecture import Architecture
from opt_model.attention import AttentionCache, SelfAttention
from opt_model.dropout import dropout
from opt_model.linear import Linear


class Block(nn.Module):
    """Layer norm before each half (all sizes but 350M) or after its residual (350M). Shapes: see `attention`."""

    def __init__(self, shape: Architecture, layer: int) -> None:
        super().__init__()
        self.recompute = False
        """Keep only the block's input for the backward pass, and compute the rest anew."""
        self.body: Callable[[Tensor, AttentionCache | None], Tensor] = self._body
        """What `forward` runs; may be replaced by a compiled form of itself."""
        self.norm_first = shape.norm_position == "pre"
        self.dropout = shape.dropout
        self.self_attn = SelfAttention(shape, layer)
        self.self_attn_layer_norm = nn.LayerNorm(shape.hidden_size)
        self.fc1 = Linear(shape.hidden_size, shape.ffn_size)
        self.fc2 = Linear(shape.ffn_size, shape.hidden_size)
        self.final_layer_norm = nn.LayerNorm(shape.hidden_size)

    def forward(self, x_BSD: Tensor, cache: AttentionCache | None = None) -> Tensor:
        """Returns [B, S, D]."""
        if self.recompute and torch.is_grad_enabled():
            kept: Tensor = checkpoint(self.body, x_BSD, cache, use_reentrant=False)
            return kept
        return self.body(x_BSD, cache)

    def _body(self, x_BSD: Tensor, cache: AttentionCache | None) -> Tensor:
        if self.norm_first:
            x_BSD = x_BSD + self._drop(self.self_attn(self.self_attn_layer_norm(x_BSD), cache))
            return x_BSD + self._drop(self._feed_forward(self.final_layer_norm(x_BSD)))
        x_BSD = self.self_attn_layer_norm(x_BSD + self._drop(self.self_attn(x_BSD, cache)))
        y_BSD: Tensor = self.final_layer_norm(x_BSD + self._drop(self._feed_forward(x_BSD)))
        return y_BSD

    def _feed_forward(self, x_BSD: Tensor) -> Tensor:
        # Flat: a compiled block then keeps what `relu` returns, which `fc2` needs anyway, and makes its mask anew. Of a
        # view it would keep a mask of booleans, whose making and reading took a seventh of a step on a processor.
        y_ND: Tensor = self.fc2(relu(self.fc1(x_BSD.flatten(0, -2))))
        return y_ND.view(x_BSD.shape)

    def _drop(self, x_BSD: Tensor) -> Tensor:
        return dropout(x_BSD, self.dropout) if self.training and self.dropout else x_BSD
