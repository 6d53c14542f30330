"""The gang meets at a store before anything else, so that who does not come is named, and soon."""

from __future__ import annotations

import os
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from opt_trainer.errors import BadSpec, LostPeer
from opt_trainer.program.config import WorkerConfig

_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_AGENTS = "TORCHELASTIC_USE_AGENT_STORE"
"""Set to True by torchrun, which then serves the store itself."""


def meet(config: WorkerConfig) -> Store:
    """Wait until every worker of the gang is there; return the store, in the attempt's own name space.

    Raises:
        LostPeer: Some did not come within the plan's deadline for `init`; the message has their ranks.
        BadSpec: Nobody said where to meet.
    """
    deadline = config.plan.resilience.section_deadlines.init
    store = PrefixStore(f"opt-trainer/{config.attempt}", config.meeting or _served(config, deadline))
    keys = [f"here/{rank}" for rank in range(config.world_size)]
    try:
        store.set(keys[config.rank], "1")
        store.wait(keys, timedelta(seconds=deadline))
    except dist.DistError as problem:
        raise LostPeer(_missing(store, keys, deadline)) from problem
    return store


def _served(config: WorkerConfig, deadline: float) -> Store:
    """The store at MASTER_ADDR:MASTER_PORT, which rank 0 serves if torchrun does not."""
    if unset := [name for name in _ADDRESS if name not in os.environ]:
        raise BadSpec(f"gang of {config.world_size}: {' and '.join(unset)} not set; they say where its workers meet")
    host, port = (os.environ[name] for name in _ADDRESS)
    serves = config.rank == 0 and os.environ.get(_AGENTS) != str(True)
    within = timedelta(seconds=deadline)
    try:
        return TCPStore(host, int(port), is_master=serves, timeout=within, wait_for_workers=False)
    except dist.DistError as problem:
        who = "port in use" if serves else "rank 0 or its agent does not answer"
        raise LostPeer(f"meeting at {host}:{port}: {who} within {deadline:g} s: {problem}") from problem


def _missing(store: Store, keys: list[str], deadline: float) -> str:
    world = len(keys)
    try:
        ranks = [rank for rank, key in enumerate(keys) if not store.check([key])]
    except dist.DistError as problem:
        return f"gang of {world}: the store at which it meets went away while ranks were awaited: {problem}"
    return (
        f"gang of {world}: rank(s) {', '.join(map(str, ranks))} did not join within {deadline:g} s "
        "(sectionDeadlines.init); see why their workers did not start"
    )
