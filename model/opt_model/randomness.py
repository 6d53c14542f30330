"""Which random numbers dropout draws: a pure function of where the run stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*place: int | str) -> int:
    """A 63-bit seed from a place such as (seed, step, micro-batch, rank); near places give unrelated seeds."""
    text = "/".join(map(str, place)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def reseed(*place: int | str) -> None:
    """Set torch's generators, of every device, from a place: what follows needs no saved generator state."""
    torch.manual_seed(seed_of(*place))


@contextmanager
def head_dropout_stream(head_rank: int, *, active: bool) -> Iterator[None]:
    """Within, draw numbers of this head rank's own; without, all ranks that share a layer draw alike.

    The ranks of a tensor-parallel group hold the same residual stream and must drop the same of it, yet each has heads
    of its own, which must not be dropped alike (Megatron-LM keeps two generators for the same reason).
    """
    if not active:
        yield
        return
    seed = int(torch.randint(2**62, ()).item())
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, head_rank))
        yield
