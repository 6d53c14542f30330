"""A whole model by the compiled kernels: a pass is one call, and nothing of it needs torch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opt_api.architecture import POSITION_OFFSET
from opt_model.exchange.names import shapes_of
from opt_model.exchange.reader import Weights
from opt_model.native import best_level, processor_flags
from opt_serving.compute.cache import PageRoom, empty_pages
from opt_serving.compute.enlarging import Enlarging
from opt_serving.compute.matrices import LoadedWeights
from opt_serving.compute.moving import Moving
from opt_serving.compute.passes import Pass
from opt_serving.compute.room import RoomAtOnce
from opt_serving.kernels import library
from opt_serving.kernels.library import CBlock, CLinear, CModel, CNorm, CPass, Matrix, address
from opt_serving.settings import PAGE

Vector = NDArray[np.float32]
_LAYERS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2")
_NORMS = ("self_attn_layer_norm", "final_layer_norm")
"""Of a block, in the order of `CBlock`."""


class NativeComputer:
    """See `Computer`.

    Args:
        weights: Of a whole model.
        dtype: Number format of the matrices.
        pages: Of keys and values.
        cache: Number format of those.
        threads: That compute.
        pretouch: All pages get memory while there is nothing to do, not only those that are likely to be used next.
    """

    def __init__(
        self,
        weights: Weights,
        dtype: np.dtype[Any],
        pages: int,
        cache: np.dtype[Any],
        threads: int,
        *,
        pretouch: bool = False,
    ) -> None:
        room = RoomAtOnce()
        loaded = LoadedWeights(weights, dtype, threads=threads, room=room)
        self._library = loaded_library()
        self.shape = weights.shape
        self.name = kernels_name()
        self._threads, self._pretouch = threads, pretouch
        self._matrices, self._vectors = _taken(loaded)
        self._room = PageRoom(empty_pages(weights.shape, loaded.heads, pages, cache, large=False))
        self._logits = self._asked = np.empty((0, weights.shape.vocabulary_size), np.float32)
        """Room for logits, and as much of it as the last pass asked for."""
        self._moving = Moving(self._matrices, self._room.pages.nbytes)
        self._enlarging = Enlarging(room.given)
        self._c = self._structure()

    def run(self, work: Pass) -> NDArray[np.float32]:
        """See `Computer.run`."""
        wanted, laid_out = len(work.rows_R), c_pass(work)
        logits_RV = self._room_for(wanted)
        last = self._library.opt_forward(
            ctypes.byref(self._c), ctypes.byref(laid_out), wanted, address(work.rows_R), address(logits_RV)
        )
        self._room.use(last + 1)
        return logits_RV

    def largest(self, logits_RV: NDArray[np.float32]) -> list[int]:
        """See `Computer.largest`."""
        return library.largest(logits_RV)

    def prepare(self) -> bool:
        """See `Computer.prepare`: memory for pages; then weights go to large pages; then memory for all pages."""
        if self._room.prepare() or self._enlarging.step():
            return True
        if self._moving and self._moving.step():
            self._c = self._structure()
        return len(self._moving) > 0 or (self._pretouch and self._room.prepare(whole=True))

    def close(self) -> None:
        """See `Computer.close`."""
        del self._matrices, self._vectors, self._room, self._moving, self._enlarging

    def _room_for(self, wanted: int) -> NDArray[np.float32]:
        if wanted != len(self._asked):
            if wanted > len(self._logits):
                self._logits = np.empty((wanted, self.shape.vocabulary_size), np.float32)
            self._asked = self._logits[:wanted]
        return self._asked

    def _structure(self) -> CModel:
        shape, tables = self.shape, ("embed_tokens", "embed_positions", "project_in", "project_out")
        self._blocks = (CBlock * shape.layers)(*map(self._block, range(shape.layers)))  # kept: pointed at
        return CModel(
            shape.layers,
            shape.heads,
            shape.hidden_size,
            shape.head_size,
            POSITION_OFFSET,
            int(shape.norm_position == "pre"),
            library.KINDS[self._room.pages.dtype],
            self._threads,
            int(shape.has_projections),
            self._blocks,
            *map(self._linear, tables),
            self._norm("final_layer_norm"),
            address(self._room.pages),
        )

    def _block(self, layer: int) -> CBlock:
        inside = f"layers.{layer}."
        return CBlock(*(self._linear(inside + n) for n in _LAYERS), *(self._norm(inside + n) for n in _NORMS))

    def _linear(self, name: str) -> CLinear:
        return self._matrices[name].c() if name in self._matrices else CLinear()

    def _norm(self, name: str) -> CNorm:
        parts = (f"{name}.weight", f"{name}.bias")
        return CNorm(*(address(self._vectors[part]) for part in parts)) if parts[0] in self._vectors else CNorm()


def loaded_library() -> Any:
    """The kernels, for pages as the engine has them.

    Raises:
        opt_model.native.KernelUnavailable: There are none for this machine.
        ValueError: They are compiled for other pages.
    """
    loaded = library.load()
    if loaded.opt_page() != PAGE:
        raise ValueError(f"kernels are compiled for pages of {loaded.opt_page()}, the engine has {PAGE}")
    return loaded


def kernels_name() -> str:
    """See `Computer.name`."""
    return f"compiled kernels ({best_level(processor_flags())})"


def c_pass(work: Pass) -> CPass:
    """The structure; its memory is the pass's."""
    arrays: tuple[NDArray[Any], ...] = (work.tokens_N, work.positions_N, work.slots_N, work.tables_SP)
    return CPass(len(work.tokens_N), work.tables_SP.shape[1], *map(address, arrays))


def _taken(weights: LoadedWeights) -> tuple[dict[str, Matrix], Mapping[str, Vector]]:
    """All matrices by our name without `.weight`, and the norms' parts by theirs."""
    matrices: dict[str, Matrix] = {"embed_positions": weights.positions()}
    vectors: dict[str, Vector] = {}
    for name, size in shapes_of(weights.shape).items():
        path = name.removesuffix(".weight")
        if "norm" in path:
            vectors[name] = weights.vector(name)
        elif len(size) > 1 and path not in matrices:
            matrices[path] = weights.matrix(path)
    return matrices, vectors
