"""Workers look to libraries as if torchrun had started them, and the rendezvous is torch elastic's own interface."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.distributed.elastic.rendezvous.api import RendezvousHandler

from opt_runtime.messages import WorkerOrder
from opt_runtime.rendezvous.joining import OrderedRendezvous
from opt_runtime.worker.child import environment_of

pytestmark = pytest.mark.unit


def order(rank: int, attempt: int, port: int = 1) -> WorkerOrder:
    return WorkerOrder(
        run="r", host="h", attempt=attempt, trajectory=1, rank=rank, local_rank=rank % 2, world_size=4, unit=rank,
        beside=(rank % 2,), rendezvous=f"127.0.0.1:{port}", directory="/d", log="/l",
    )  # fmt: skip


def test_the_environment_is_torchruns() -> None:
    found = environment_of(order(3, attempt=2), local_world_size=2)
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"], found["GROUP_RANK"]) == ("3", "1", "4", "1")
    assert (found["TORCHELASTIC_RUN_ID"], found["TORCHELASTIC_RESTART_COUNT"]) == ("r", "1")


def test_ranks_of_one_attempt_meet_and_those_of_another_do_not() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    handlers = [OrderedRendezvous(order(rank, attempt, server.port)) for rank, attempt in ((0, 1), (3, 1), (0, 2))]
    assert all(isinstance(handler, RendezvousHandler) for handler in handlers)
    first, peer, later = (handler.next_rendezvous() for handler in handlers)
    assert [(i.rank, i.world_size) for i in (first, peer, later)] == [(0, 4), (3, 4), (0, 4)]
    first.store.set("here", "1")
    assert peer.store.check(["here"])
    assert not later.store.check(["here"])
    assert (handlers[0].get_run_id(), handlers[0].num_nodes_waiting(), handlers[0].is_closed()) == ("r", 0, False)
