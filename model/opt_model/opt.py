"""OPT: embeddings, blocks, final norm and the head that shares the token embedding (arXiv 2205.01068)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from opt_api.architecture import POSITION_OFFSET, Architecture
from opt_model.attention import AttentionCache
from opt_model.block import Block
from opt_model.chunk_loss import ChunkLoss
from opt_model.embedding import Table, TiedGradient, look_up
from opt_model.head import VocabularyShare, share_of, token_logits, token_loss
from opt_model.linear import Linear


class LossSum(NamedTuple):
    """Sums over the tokens of a pass, so that passes and ranks can be added up."""

    loss: Tensor
    """Cross entropy in nats, float32, summed over tokens."""
    activation_norm: Tensor
    """L2 norm of the last block's output, summed over tokens; no gradient."""


class OPT(nn.Module):
    """The decoder. Shapes: see `attention`.

    Parameter names are those of the Hugging Face directory without `model.decoder.`; the head has no parameter of its
    own, so nothing can untie it.
    """

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.vocabulary_group: dist.ProcessGroup | None = None
        """The ranks that share the rows of the token embedding; None where all are here."""
        self.activations: torch.dtype | None = None
        """Format of the residual stream where it is not that of the weights."""
        self.fused_loss: ChunkLoss | None = None
        """A compiled loss, for devices that gain by one."""
        self.embed_tokens = Table(shape.vocabulary_size, shape.embedding_size)
        self.embed_positions = Table(shape.max_positions + POSITION_OFFSET, shape.hidden_size)
        self.project_in = _projection(shape.embedding_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.final_layer_norm = nn.LayerNorm(shape.hidden_size) if shape.norm_position == "pre" else None
        self.project_out = _projection(shape.hidden_size, shape.embedding_size)

    def forward(
        self,
        tokens_BS: Tensor,
        targets_BS: Tensor | None = None,
        *,
        gradient_scale: float = 1.0,
        positions_BS: Tensor | None = None,
        cache: AttentionCache | None = None,
        rows_of: Tensor | None = None,
    ) -> LossSum | Tensor:
        """Losses where targets are given, logits elsewhere.

        Args:
            tokens_BS: Token ids.
            targets_BS: The id that follows each token; makes the result a `LossSum`.
            gradient_scale: Factor on the gradients of the loss, not on its value.
            positions_BS: Position of each token, from 0; 0, 1, 2.. of each row when absent.
            cache: Keeps keys and values of earlier passes.
            rows_of: Indices into the N = B x S tokens whose logits are wanted, [R]; all when absent.

        Returns:
            `LossSum`, or logits [B, S, V] ([R, V] with `rows_of`).
        """
        tied = TiedGradient() if targets_BS is not None and self._ties() else None
        x_BSD = self._blocks(tokens_BS, positions_BS, cache, tied)
        if targets_BS is not None:
            loss = token_loss(
                self._out(x_BSD).flatten(0, 1), self._head(), targets_BS, gradient_scale, tied, self.fused_loss
            )
            return LossSum(loss, x_BSD.detach().float().norm(dim=-1).sum())
        wanted = x_BSD if rows_of is None else x_BSD.flatten(0, 1)[rows_of]
        return token_logits(self._out(wanted), self._head())

    def features(self, tokens_BS: Tensor, positions_BS: Tensor, cache: AttentionCache, rows_of: Tensor) -> Tensor:
        """What the head multiplies with the embedding, [R, E]; for a server that has a head of its own."""
        return self._out(self._blocks(tokens_BS, positions_BS, cache).flatten(0, 1)[rows_of])

    def _blocks(
        self,
        tokens_BS: Tensor,
        positions_BS: Tensor | None,
        cache: AttentionCache | None,
        tied: TiedGradient | None = None,
    ) -> Tensor:
        x_BSD = self._embed(tokens_BS, positions_BS, tied)
        for block in self.layers:
            x_BSD = block(x_BSD, cache)
        return x_BSD

    def _ties(self) -> bool:
        """Whether both gradients of the embedding meet in one tensor; a divided embedding has its own look-up."""
        return torch.is_grad_enabled() and self.vocabulary_group is None

    def _embed(self, tokens_BS: Tensor, positions_BS: Tensor | None, tied: TiedGradient | None) -> Tensor:
        if positions_BS is None:
            positions_BS = torch.arange(tokens_BS.shape[1], device=tokens_BS.device)
        x_BSE = self.embed_tokens(tokens_BS) if tied is None else look_up(tokens_BS, self.embed_tokens.weight, tied)
        x_BSE = x_BSE if self.activations is None else x_BSE.to(self.activations)
        x_BSD = x_BSE if self.project_in is None else self.project_in(x_BSE)
        y_BSD: Tensor = x_BSD + self.embed_positions(positions_BS + POSITION_OFFSET).to(x_BSD.dtype)
        return y_BSD

    def _head(self) -> VocabularyShare:
        return share_of(self.embed_tokens.weight, self.vocabulary_group)

    def _out(self, x_BSD: Tensor) -> Tensor:
        x_BSD = x_BSD if self.final_layer_norm is None else self.final_layer_norm(x_BSD)
        return x_BSD if self.project_out is None else self.project_out(x_BSD)


def _projection(from_size: int, to_size: int) -> Linear | None:
    return None if from_size == to_size else Linear(from_size, to_size, bias=False)
