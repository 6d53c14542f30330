"""Which dimension of each weight a tensor-parallel group divides (Megatron-LM, arXiv 1909.08053, section 3)."""

from __future__ import annotations

_OUT, _IN = 0, 1
_DIVIDED: dict[str, int] = {
    "embed_tokens.weight": _OUT,
    "k_proj.weight": _OUT,
    "k_proj.bias": _OUT,
    "v_proj.weight": _OUT,
    "v_proj.bias": _OUT,
    "q_proj.weight": _OUT,
    "q_proj.bias": _OUT,
    "out_proj.weight": _IN,
    "fc1.weight": _OUT,
    "fc1.bias": _OUT,
    "fc2.weight": _IN,
}


def divided_dimension(name: str) -> int | None:
    """0 or 1, or None where every rank of the group holds the whole tensor."""
    return _DIVIDED.get(".".join(name.split(".")[-2:]))
