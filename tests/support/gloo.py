"""Real workers: processes joined by gloo, one torch thread each, that run a function and hand back its result."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

TIMEOUT_S = 540.0


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_gang(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `function(rank, *arguments)` on every rank of a new gang; returns the results by rank.

    Raises:
        AssertionError: A rank failed; the message has its traceback.
    """
    context = get_context("forkserver")  # torch is imported once for all gangs of a test run
    context.set_forkserver_preload(["torch", "opt_trainer.program.worker"])
    port = free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(world_size)]
    workers = [
        context.Process(target=_main, args=(pipes[rank][1], rank, world_size, port, function, arguments))
        for rank in range(world_size)
    ]
    for worker, (_, sending) in zip(workers, pipes, strict=True):
        worker.start()
        sending.close()  # the worker alone holds it, so that its death ends the wait for its result
    try:
        return [_result(rank, pipe) for rank, (pipe, _) in enumerate(pipes)]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()


def _result(rank: int, pipe: Connection) -> Any:
    assert pipe.poll(TIMEOUT_S), f"rank {rank} gave no result in {TIMEOUT_S:.0f} s"
    try:
        ok, value = pickle.loads(pipe.recv_bytes())
    except EOFError:
        raise AssertionError(f"rank {rank} ended without a result; is its function importable by itself?") from None
    assert ok, f"rank {rank}:\n{value}"
    return value


def _main(pipe: Connection, rank: int, world: int, port: int, function: Callable[..., Any], arguments: Any) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    try:
        if world > 1:
            dist.init_process_group("gloo", rank=rank, world_size=world)
        said = (True, function(rank, *arguments))
    except BaseException:  # noqa: BLE001 - the parent shows it
        said = (False, traceback.format_exc())
    pipe.send_bytes(pickle.dumps(said))  # by value: `send` would leave a tensor in memory that ends with this worker
    if dist.is_initialized():
        dist.destroy_process_group()
