"""Continuous batching: who is computed next, with which pages, and which token follows."""

from opt_serving.engine.engine import Engine
from opt_serving.engine.opening import open_engine
from opt_serving.engine.requests import Finish, Refused, Sampling, Sequence, TokenOut

__all__ = ["Engine", "Finish", "Refused", "Sampling", "Sequence", "TokenOut", "open_engine"]
