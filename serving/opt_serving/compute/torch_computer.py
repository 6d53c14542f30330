"""The model by torch alone: any device, and the processor where no kernels can be had."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from opt_api.architecture import Architecture
from opt_serving.compute.group import Group
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.model import build, head_of
from opt_serving.compute.passes import Pass
from opt_serving.compute.torch_arithmetic import TorchArithmetic
from opt_serving.settings import PAGE


class PagedCache:
    """Keys and values in pages, [pages, layers, 2, H, PAGE, K]; an `AttentionCache` for the pass it was given."""

    def __init__(self, shape: Architecture, heads: int, pages: int, dtype: torch.dtype, device: torch.device) -> None:
        size = (pages, shape.layers, 2, heads, PAGE, shape.head_size)
        self._pool = torch.zeros(size, dtype=dtype, device=device)
        self._device = device

    def begin(self, work: Pass) -> None:
        """Take the places of a pass's tokens."""
        pages = work.tables_SP[work.slots_N, work.positions_N // PAGE]
        self._page_N = torch.from_numpy(pages.astype(np.int64)).to(self._device)
        self._offset_N = torch.from_numpy(work.positions_N % PAGE).to(self._device)
        self._segments = [_Segment.of(work, group, self._device) for group in _segments(work)]

    def attend(self, layer: int, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        """See `opt_model.AttentionCache`; the tokens of all sequences are one row here, B = 1."""
        for kind, new in enumerate((k_BHSK, v_BHSK)):
            self._pool[self._page_N, layer, kind, :, self._offset_N] = new[0].transpose(0, 1).to(self._pool.dtype)
        y_BHSK = torch.empty_like(q_BHSK)
        for segment in self._segments:
            y_BHSK[:, :, segment.tokens] = self._attend(layer, segment, q_BHSK)
        return y_BHSK

    def _attend(self, layer: int, segment: _Segment, q_BHSK: Tensor) -> Tensor:
        b, s = segment.batch, segment.length
        heads, size = q_BHSK.shape[1], q_BHSK.shape[3]
        q = q_BHSK[0, :, segment.tokens].view(heads, b, s, size).transpose(0, 1)
        found = self._pool[segment.pages_BP, layer].float()  # B, pages, 2, H, PAGE, K
        k, v = found.permute(2, 0, 3, 1, 4, 5).flatten(3, 4)
        y = scaled_dot_product_attention(q, k, v, attn_mask=segment.seen_B1ST)
        return y.transpose(0, 1).reshape(heads, b * s, size)[None]


class _Segment:
    """Neighbouring tokens that attend in one call: all single tokens of a pass, or one sequence's chunk."""

    def __init__(self, tokens: slice, pages_BP: Tensor, positions_BS: Tensor) -> None:
        self.tokens, self.pages_BP = tokens, pages_BP
        self.batch, self.length = positions_BS.shape
        held = torch.arange(pages_BP.shape[1] * PAGE, device=pages_BP.device)
        self.seen_B1ST = (held <= positions_BS[..., None])[:, None]

    @classmethod
    def of(cls, work: Pass, group: tuple[int, int, int], device: torch.device) -> _Segment:
        start, batch, length = group
        tokens = slice(start, start + batch * length)
        positions = work.positions_N[tokens].reshape(batch, length)
        needed = int(positions.max()) // PAGE + 1
        pages = work.tables_SP[work.slots_N[tokens][::length], :needed].astype(np.int64)
        return cls(tokens, torch.from_numpy(pages).to(device), torch.from_numpy(positions).to(device))


def _segments(work: Pass) -> list[tuple[int, int, int]]:
    """(first token, sequences, tokens of each), where runs of single tokens are one group."""
    starts = np.flatnonzero(np.diff(work.slots_N, prepend=-1))
    groups: list[tuple[int, int, int]] = []
    for start, end in zip(starts, [*starts[1:], len(work.slots_N)], strict=True):
        if groups and end - start == 1 and groups[-1][2] == 1:
            groups[-1] = (groups[-1][0], groups[-1][1] + 1, 1)
        else:
            groups.append((int(start), 1, int(end - start)))
    return groups


class TorchComputer:
    """See `Computer`."""

    def __init__(self, weights: LoadedWeights, pages: int, cache_dtype: torch.dtype, device: str, group: Group) -> None:
        self.shape = weights.shape
        self.name = f"torch on {device}"
        self._device = torch.device(device)
        self._model = build(weights, TorchArithmetic(self._device), group)
        self._cache = PagedCache(weights.shape, weights.heads, pages, cache_dtype, self._device)

    @torch.inference_mode()
    def run(self, work: Pass) -> NDArray[np.float32]:
        """See `Computer.run`."""
        self._cache.begin(work)
        tokens, positions, rows = (
            torch.from_numpy(numbers).to(self._device) for numbers in (work.tokens_N, work.positions_N, work.rows_R)
        )
        features_RE = self._model.features(tokens[None], positions[None], self._cache, rows)
        logits_RV: NDArray[np.float32] = head_of(self._model).logits(features_RE).cpu().numpy()
        return logits_RV

    def largest(self, logits_RV: NDArray[np.float32]) -> list[int]:
        """See `Computer.largest`; numpy finds it in a tenth to a twentieth of torch's time."""
        ids: list[int] = logits_RV.argmax(-1).tolist()
        return ids

    def prepare(self) -> bool:
        """See `Computer.prepare`: nothing."""
        return False

    def close(self) -> None:
        """See `Computer.close`."""
        del self._model, self._cache
