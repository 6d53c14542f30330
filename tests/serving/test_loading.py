"""Files in a format that no loop takes are converted by numpy, and give what the loops give of float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from opt_model.exchange.reader import Weights
from opt_model.exchange.stored import BFLOAT16
from opt_serving.compute.matrices import LoadedWeights
from support.served_models import write_model

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("dtype", [np.dtype(np.int8), np.dtype(np.float32), BFLOAT16])
def test_float64_is_served_like_float32(tmp_path: Path, dtype: np.dtype) -> None:
    write_model(tmp_path, tokenizer=False)
    narrow = LoadedWeights(Weights.open(tmp_path), dtype, threads=1).matrix("layers.0.fc1")
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    wide = LoadedWeights(Weights.open(tmp_path), dtype, threads=1).matrix("layers.0.fc1")
    for mine, theirs in ((wide.weight, narrow.weight), (wide.bias, narrow.bias), (wide.scale, narrow.scale)):
        assert mine is theirs is None or np.array_equal(mine, theirs)
