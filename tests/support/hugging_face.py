"""transformers' own OPT, as the reference."""

from __future__ import annotations

from typing import Any

import torch
from transformers import OPTConfig, OPTForCausalLM

from opt_api.architecture import Architecture
from opt_model.exchange.config import config_of
from opt_model.exchange.names import from_hugging_face
from opt_model.opt import OPT


def reference(shape: Architecture, seed: int = 0) -> Any:
    """A random transformers model of this shape; weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    config = OPTConfig(**{**config_of(shape, "float32"), "init_std": 0.02})
    model = OPTForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "layer_norm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def ours_from(theirs: Any, shape: Architecture) -> OPT:
    """Our model with the reference's weights."""
    model = OPT(shape).eval()
    state = {from_hugging_face(name): value for name, value in theirs.state_dict().items() if name != "lm_head.weight"}
    model.load_state_dict(state, strict=True)
    return model
