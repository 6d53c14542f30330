"""Names of tensors, here and in a Hugging Face directory."""

from __future__ import annotations

from opt_api.architecture import POSITION_OFFSET, Architecture

_PREFIX = "model.decoder."
HEAD = "lm_head.weight"
"""Tied to the token embedding; transformers leaves it out when it writes, older files have it."""


def to_hugging_face(name: str) -> str:
    """`layers.0.fc1.weight` -> `model.decoder.layers.0.fc1.weight`."""
    return _PREFIX + name


def from_hugging_face(name: str) -> str:
    """The name in our model; directories saved from the bare decoder, without `model.`, are read too."""
    return name.removeprefix("model.").removeprefix("decoder.")


def shapes_of(shape: Architecture) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model with its shape, in the model's order, without building the model."""
    d, e, f = shape.hidden_size, shape.embedding_size, shape.ffn_size
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (shape.vocabulary_size, e),
        "embed_positions.weight": (shape.max_positions + POSITION_OFFSET, d),
    }
    if shape.has_projections:
        shapes["project_in.weight"] = (d, e)
    for layer in range(shape.layers):
        shapes |= {f"layers.{layer}.{name}": size for name, size in _block_shapes(d, f).items()}
    if shape.norm_position == "pre":
        shapes |= _pair("final_layer_norm", (d,))
    if shape.has_projections:
        shapes["project_out.weight"] = (e, d)
    return shapes


def _block_shapes(d: int, f: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
        shapes |= _pair(f"self_attn.{name}", (d, d))
    for name, size in (
        ("self_attn_layer_norm", (d,)),
        ("fc1", (f, d)),
        ("fc2", (d, f)),
        ("final_layer_norm", (d,)),
    ):
        shapes |= _pair(name, size)
    return shapes


def _pair(name: str, size: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": size, f"{name}.bias": size[:1]}
