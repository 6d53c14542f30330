"""Weights in and out: Hugging Face directories, and the layout that OPT was trained in."""

from opt_model.exchange.config import architecture_of, config_of
from opt_model.exchange.names import from_hugging_face, to_hugging_face
from opt_model.exchange.original import read_original, unfuse
from opt_model.exchange.reader import Weights, load
from opt_model.exchange.writer import TOKENIZER_FILES, write

__all__ = [
    "TOKENIZER_FILES",
    "Weights",
    "architecture_of",
    "config_of",
    "from_hugging_face",
    "load",
    "read_original",
    "to_hugging_face",
    "unfuse",
    "write",
]
