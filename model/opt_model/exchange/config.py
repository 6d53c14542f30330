"""`config.json` of an OPTForCausalLM directory, from and to an `Architecture`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opt_api.architecture import Architecture

_FIELDS: dict[str, str] = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "hidden_size": "hidden_size",
    "ffn_dim": "ffn_size",
    "word_embed_proj_dim": "embedding_size",
    "vocab_size": "vocabulary_size",
    "max_position_embeddings": "max_positions",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "init_std": "init_std",
}
_NEEDED = ("num_hidden_layers", "num_attention_heads", "hidden_size", "ffn_dim", "vocab_size")
_FIXED: dict[str, Any] = {
    "model_type": "opt",
    "activation_function": "relu",
    "enable_bias": True,
    "layer_norm_elementwise_affine": True,
    "_remove_final_layer_norm": False,
    "tie_word_embeddings": True,
}
"""What every OPT has; a directory that says otherwise is another model."""


def config_of(shape: Architecture, dtype: str) -> dict[str, Any]:
    """The document; `dtype` is `float32`, `float16` or `bfloat16`."""
    return {
        "architectures": ["OPTForCausalLM"],
        **_FIXED,
        **{theirs: getattr(shape, ours) for theirs, ours in _FIELDS.items()},
        "do_layer_norm_before": shape.norm_position == "pre",
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "dtype": dtype,
        "use_cache": True,
    }


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Read the document; fields that older versions left out take transformers' defaults.

    Raises:
        ValueError: A field is missing, or the model is no OPT.
    """
    if missing := [field for field in _NEEDED if field not in config]:
        raise ValueError(f"config.json: {', '.join(missing)} missing; an OPTForCausalLM directory has them")
    for field, wanted in _FIXED.items():
        if (found := config.get(field, wanted)) != wanted:
            raise ValueError(f"config.json: {field} is {found!r}, OPT has {wanted!r}; this is another model")
    values = {ours: config[theirs] for theirs, ours in _FIELDS.items() if config.get(theirs) is not None}
    values.setdefault("embedding_size", config["hidden_size"])
    values.setdefault("attention_dropout", 0.0)
    values.setdefault("init_std", 0.02)
    norm = "pre" if config.get("do_layer_norm_before", True) else "post"
    return Architecture.model_validate({**values, "norm_position": norm})
