"""Files in a format that no loop takes are converted by torch, and give what the loops give of float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from opt_model.exchange import Weights
from opt_serving.compute.matrices import LoadedWeights
from support.served_models import write_model

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("dtype", [torch.int8, torch.float32, torch.bfloat16])
def test_float64_is_served_like_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    write_model(tmp_path, tokenizer=False)
    narrow = LoadedWeights(Weights.open(tmp_path), dtype, compiled=True).matrix("layers.0.fc1")
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    wide = LoadedWeights(Weights.open(tmp_path), dtype, compiled=True).matrix("layers.0.fc1")
    for mine, theirs in ((wide.weight, narrow.weight), (wide.bias, narrow.bias), (wide.scale, narrow.scale)):
        assert mine is theirs is None or torch.equal(mine, theirs)
