"""Tables, and what they do not load."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from opt_model.embedding import Table


@pytest.mark.unit
def test_a_table_begins_as_torchs():
    torch.manual_seed(1)
    ours = Table(5, 3).weight
    torch.manual_seed(1)
    assert torch.equal(ours, torch.nn.Embedding(5, 3).weight)


@pytest.mark.integration
def test_an_outline_does_not_load_the_compiler():
    script = """
import sys, torch
from opt_api.architecture import PRESETS
from opt_model.opt import OPT
with torch.device("meta"):
    OPT(PRESETS["opt-125m"].architecture)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
