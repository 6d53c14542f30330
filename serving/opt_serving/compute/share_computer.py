"""A rank's share of a model: products and attention by the compiled kernels, put together by torch."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opt_model.exchange.tensors import tensor_of
from opt_model.zeros import touch
from opt_serving.compute.cache import empty_pages
from opt_serving.compute.group import Group
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.model import build, head_of
from opt_serving.compute.native_computer import c_pass, kernels_name, loaded_library
from opt_serving.compute.passes import Pass
from opt_serving.kernels import library
from opt_serving.kernels.library import CModel, CPass, Matrix, address


class ShareComputer:
    """See `Computer`; all ranks run every pass.

    Args:
        weights: The rank's share.
        pages: Of keys and values.
        cache_dtype: Number format of those.
        threads: That compute.
        group: The ranks.
        pretouch: All pages get their memory now: ranks have no time for it between passes.
    """

    def __init__(
        self,
        weights: LoadedWeights,
        pages: int,
        cache_dtype: np.dtype[Any],
        threads: int,
        group: Group,
        *,
        pretouch: bool = False,
    ) -> None:
        self._library = loaded_library()
        self.shape = weights.shape
        self.name = kernels_name()
        self._model = build(weights, KernelArithmetic(threads), group)
        self._pages = empty_pages(weights.shape, weights.heads, pages, cache_dtype)
        if pretouch:
            touch(self._pages)
        self._c = CModel(
            layers=self.shape.layers,
            heads=weights.heads,
            hidden=self.shape.hidden_size,
            head_size=self.shape.head_size,
            cache_kind=library.KINDS[cache_dtype],
            threads=threads,
            pool=address(self._pages),
        )

    @torch.inference_mode()
    def run(self, work: Pass) -> NDArray[np.float32]:
        """See `Computer.run`."""
        tokens, positions, rows = map(torch.from_numpy, (work.tokens_N, work.positions_N, work.rows_R))
        features_RE = self._model.features(tokens[None], positions[None], _Attention(self, c_pass(work)), rows)
        logits_RV: NDArray[np.float32] = head_of(self._model).logits(features_RE).contiguous().numpy()
        return logits_RV

    def largest(self, logits_RV: NDArray[np.float32]) -> list[int]:
        """See `Computer.largest`."""
        return library.largest(logits_RV)

    def prepare(self) -> bool:
        """See `Computer.prepare`: nothing."""
        return False

    def close(self) -> None:
        """See `Computer.close`."""
        del self._model, self._pages

    def attend(self, laid_out: CPass, layer: int, q_ND: Tensor, k_ND: Tensor, v_ND: Tensor) -> Tensor:
        """Store a pass's keys and values of one layer and attend, [N, D]."""
        y_ND = torch.empty_like(q_ND)
        self._library.opt_attention(
            ctypes.byref(self._c), layer, ctypes.byref(laid_out), *(t.data_ptr() for t in (q_ND, k_ND, v_ND, y_ND))
        )
        return y_ND


@dataclass(frozen=True)
class KernelArithmetic:
    """See `Arithmetic`."""

    threads: int
    device = torch.device("cpu")

    def hold(self, matrix: Matrix) -> Matrix:
        """See `Arithmetic`."""
        return matrix

    def multiply(self, matrix: Matrix, x: Tensor) -> Tensor:
        """See `Arithmetic`."""
        flat_MK = x.reshape(-1, x.shape[-1]).numpy()
        y_MN = library.linear(matrix, flat_MK, threads=self.threads)
        return torch.from_numpy(y_MN).view(*x.shape[:-1], len(matrix.weight))

    def look_up(self, matrix: Matrix, rows: Tensor) -> Tensor:
        """See `Arithmetic`."""
        found = tensor_of(matrix.weight[rows.numpy()]).float()
        return found if matrix.scale is None else found * tensor_of(matrix.scale)[rows, None]


class _Attention:
    """An `AttentionCache` for one pass: the tokens of all sequences are one row, B = 1."""

    def __init__(self, computer: ShareComputer, laid_out: CPass) -> None:
        self._computer, self._laid_out = computer, laid_out

    def attend(self, layer: int, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        _, heads, count, size = q_BHSK.shape
        rows = [x[0].transpose(0, 1).reshape(count, heads * size) for x in (q_BHSK, k_BHSK, v_BHSK)]
        y_ND = self._computer.attend(self._laid_out, layer, rows[0], rows[1], rows[2])
        return y_ND.view(count, heads, size).transpose(0, 1)[None]
