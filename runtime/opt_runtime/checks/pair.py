"""Two hosts measure the way between them with a collective, whoever happens to be checked at the same time.

They find each other at the rendezvous: the counter there deals places in pairs. Who comes second finds the first one
waiting, or a closed pair, and then goes without.
"""

from __future__ import annotations

import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from opt_runtime.checks.load import best_round

BYTES = 4 << 20


def meet(rendezvous: str, run: str, seconds: float) -> float | None:
    """Bytes per second of an all-reduce with another host; None when nobody came, or it did not work."""
    host, _, port = rendezvous.rpartition(":")
    try:
        store = TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=10), wait_for_workers=False)
        place = store.add(f"{run}/checks/arrived", 1) - 1
        pair = PrefixStore(f"{run}/checks/{place // 2}", store)
        return _measure(pair, place % 2, seconds) if _other_is_there(pair, place % 2, max(seconds, 2.0)) else None
    except (RuntimeError, dist.DistError):
        return None


def _other_is_there(pair: Store, role: int, seconds: float) -> bool:
    """Exactly one of the two closes the pair: the first by waiting too long, or the second by coming."""
    if role == 1:
        return bool(pair.compare_set("state", "", "met") == b"met")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if pair.check(["state"]):
            return bool(pair.get("state") == b"met")
        time.sleep(0.05)
    return bool(pair.compare_set("state", "", "closed") == b"met")


def _measure(pair: Store, role: int, seconds: float) -> float:
    """The two must do the same number of rounds: the first tells how many, from what one takes."""
    dist.init_process_group("gloo", store=pair, rank=role, world_size=2, timeout=timedelta(seconds=30))
    try:
        data = torch.ones(BYTES // 4)
        one = best_round(lambda: dist.all_reduce(data), 0.0)
        rounds = torch.tensor([max(1, min(1000, int(seconds / one)))])
        dist.broadcast(rounds, 0)
        best = min(best_round(lambda: dist.all_reduce(data), 0.0) for _ in range(int(rounds)))
        return BYTES / best
    finally:
        dist.destroy_process_group()
