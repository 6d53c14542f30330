"""OPT itself: modules, weight layouts and the exchange with Hugging Face."""

from opt_model.attention import AttentionCache
from opt_model.initial import fill, initialise
from opt_model.opt import OPT, LossSum
from opt_model.partition import divided_dimension
from opt_model.randomness import reseed, seed_of

__all__ = ["OPT", "AttentionCache", "LossSum", "divided_dimension", "fill", "initialise", "reseed", "seed_of"]
