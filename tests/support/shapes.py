"""Small models with every structural feature of the published sizes."""

from opt_api.architecture import PRESETS, Architecture

TINY = Architecture(
    layers=2,
    heads=4,
    hidden_size=32,
    ffn_size=64,
    embedding_size=32,
    vocabulary_size=96,
    max_positions=64,
    dropout=0.0,
    attention_dropout=0.0,
    init_std=0.1,
)
TINY_POST = TINY.model_copy(update={"norm_position": "post", "embedding_size": 16})
"""As the 350M model: norms after each half, narrow embedding."""
OPT_125M = PRESETS["opt-125m"].architecture
OPT_350M = PRESETS["opt-350m"].architecture
