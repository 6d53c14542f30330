"""The model by the compiled kernels: a pass is one call; a share of a model is called part by part, and summed up."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from opt_api.architecture import POSITION_OFFSET
from opt_model.block import Block
from opt_model.native import best_level, processor_flags
from opt_model.zeros import touch, untouched_zeros
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.model import build, head_of, matrix_of
from opt_serving.compute.moving import Moving
from opt_serving.compute.passes import Pass
from opt_serving.kernels import library
from opt_serving.kernels.library import CBlock, CLinear, CModel, CNorm, CPass, Matrix, address
from opt_serving.settings import PAGE

_AHEAD = 256 << 20
"""Bytes of the cache of keys and values that are touched ahead of those in use while there is nothing else to do, or
twice what was taken anew between two such times. Else prompts wait for the system to give it (decisions 156, 199)."""
_PIECE = 8 << 20
"""Bytes touched at a time; whoever asks meanwhile waits for it."""


class NativeComputer:
    """See `Computer`."""

    def __init__(self, weights: LoadedWeights, pages: int, cache_dtype: torch.dtype, threads: int) -> None:
        self._library = library.load()
        if self._library.opt_page() != PAGE:
            raise ValueError(f"kernels are compiled for pages of {self._library.opt_page()}, the engine has {PAGE}")
        self.shape = weights.shape
        self.name = f"compiled kernels ({best_level(processor_flags())})"
        self._threads = threads
        self._model = build(weights, self._multiply, torch.device("cpu"))
        self._heads, self._whole = weights.heads, weights.group.size == 1
        size = (pages, weights.shape.layers, 2, weights.heads, PAGE * weights.shape.head_size)
        self._pool = untouched_zeros(math.prod(size), cache_dtype).view(size)
        self._touched = self._used = self._settled = 0
        """Pages that have memory, that were in use, and that were when there was last nothing to do."""
        self._ahead = -(-_AHEAD // self._pool[0].nbytes)
        self._logits = self._asked = torch.empty(0, weights.shape.vocabulary_size)
        """Room for logits, and as much of it as the last pass asked for: to cut a tensor costs what is not cached."""
        self._moving = Moving(self._model.modules(), self._pool.nbytes)
        self._c = self._structure()

    def run(self, work: Pass) -> Tensor:
        """See `Computer.run`."""
        laid_out = CPass(
            len(work.tokens_N),
            work.tables_SP.shape[1],
            address(work.tokens_N),
            address(work.positions_N),
            address(work.slots_N),
            address(work.tables_SP),
        )
        return self._run_whole(work, laid_out) if self._whole else self._run_share(work, laid_out)

    def largest(self, logits_RV: Tensor) -> list[int]:
        """See `Computer.largest`."""
        return library.largest(logits_RV)

    def prepare(self) -> bool:
        """See `Computer.prepare`: touches pages, in the order in which the engine takes them; then moves weights."""
        self._ahead = max(self._ahead, 2 * (self._used - self._settled))
        self._settled = self._used
        first, last = self._touched, min(len(self._pool), self._used + self._ahead)
        if first < last:
            self._touched = min(last, first + max(1, _PIECE // self._pool[0].nbytes))
            touch(self._pool[first : self._touched])
        elif self._moving and self._moving.step():
            self._c = self._structure()
        return self._touched < last or len(self._moving) > 0

    def close(self) -> None:
        """See `Computer.close`."""
        del self._model, self._pool, self._moving

    def _run_whole(self, work: Pass, laid_out: CPass) -> Tensor:
        wanted = len(work.rows_R)
        logits_RV = self._room(wanted)
        last = self._library.opt_forward(
            ctypes.byref(self._c), ctypes.byref(laid_out), wanted, address(work.rows_R), logits_RV.data_ptr()
        )
        self._use(last + 1)
        return logits_RV

    def _use(self, pages: int) -> None:
        self._used = max(self._used, pages)
        self._touched = max(self._touched, self._used)

    @torch.inference_mode()
    def _run_share(self, work: Pass, laid_out: CPass) -> Tensor:
        self._use(int(work.tables_SP.max()) + 1)
        tokens, positions, rows = map(torch.from_numpy, (work.tokens_N, work.positions_N, work.rows_R))
        features_RE = self._model.features(tokens[None], positions[None], _Attention(self, laid_out), rows)
        return head_of(self._model).logits(features_RE)

    def attend(self, laid_out: CPass, layer: int, q_ND: Tensor, k_ND: Tensor, v_ND: Tensor) -> Tensor:
        """Store a pass's keys and values of one layer and attend, [N, D]."""
        y_ND = torch.empty_like(q_ND)
        self._library.opt_attention(
            ctypes.byref(self._c), layer, ctypes.byref(laid_out), *(t.data_ptr() for t in (q_ND, k_ND, v_ND, y_ND))
        )
        return y_ND

    def _multiply(self, matrix: Matrix, x: Tensor) -> Tensor:
        flat_MK = x.reshape(-1, x.shape[-1])
        return library.linear(matrix, flat_MK, threads=self._threads).view(*x.shape[:-1], len(matrix.weight))

    def _room(self, wanted: int) -> Tensor:
        if wanted != len(self._asked):
            if wanted > len(self._logits):
                self._logits = torch.empty(wanted, self.shape.vocabulary_size)
            self._asked = self._logits[:wanted]
        return self._asked

    def _structure(self) -> CModel:
        shape, model = self.shape, self._model
        self._blocks = (CBlock * shape.layers)(*map(_block, model.layers))  # kept: the structure points at it
        return CModel(
            shape.layers,
            self._heads,
            shape.hidden_size,
            shape.head_size,
            POSITION_OFFSET,
            int(shape.norm_position == "pre"),
            library.KINDS[self._pool.dtype],
            self._threads,
            int(shape.has_projections),
            self._blocks,
            *map(_linear, (model.embed_tokens, model.embed_positions, model.project_in, model.project_out)),
            _norm(model.final_layer_norm),
            self._pool.data_ptr(),
        )


class _Attention:
    """An `AttentionCache` for one pass: the tokens of all sequences are one row, B = 1."""

    def __init__(self, computer: NativeComputer, laid_out: CPass) -> None:
        self._computer, self._laid_out = computer, laid_out

    def attend(self, layer: int, q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor) -> Tensor:
        _, heads, count, size = q_BHSK.shape
        rows = [x[0].transpose(0, 1).reshape(count, heads * size) for x in (q_BHSK, k_BHSK, v_BHSK)]
        y_ND = self._computer.attend(self._laid_out, layer, rows[0], rows[1], rows[2])
        return y_ND.view(count, heads, size).transpose(0, 1)[None]


def _linear(module: torch.nn.Module | None) -> CLinear:
    matrix = matrix_of(module)
    return CLinear() if matrix is None else matrix.c()


def _norm(norm: torch.nn.LayerNorm | None) -> CNorm:
    return CNorm() if norm is None else CNorm(norm.weight.data_ptr(), norm.bias.data_ptr())


def _block(block: torch.nn.Module) -> CBlock:
    assert isinstance(block, Block)
    attention = block.self_attn
    layers = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, block.fc1, block.fc2)
    return CBlock(*map(_linear, layers), _norm(block.self_attn_layer_norm), _norm(block.final_layer_norm))
