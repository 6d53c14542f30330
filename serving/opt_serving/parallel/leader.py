"""The first rank: starts the others, sends them every pass, and computes its own share of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from opt_api.architecture import Architecture
from opt_model.exchange.reader import Weights
from opt_serving.compute.group import TIMEOUT, Ranks
from opt_serving.compute.passes import Computer, ComputerLost, Pass
from opt_serving.compute.shares import Share
from opt_serving.engine.computers import make_computer, of_rank
from opt_serving.parallel.wire import encoded
from opt_serving.settings import EngineSettings

Process = subprocess.Popen[bytes]
END_SECONDS = 10.0
"""For a rank to end by itself; then it is killed."""
REAP_SECONDS = 1.0
"""For the system to tell of a rank's end: its connection is closed a moment earlier."""
_LOOPBACK = "127.0.0.1"


class ParallelComputer:
    """See `Computer`; the ranks end with it, or with this process."""

    def __init__(self, own: Computer, others: Sequence[Process], store: TCPStore) -> None:
        self._own, self._others, self._store = own, others, store

    @property
    def shape(self) -> Architecture:
        """See `Computer`."""
        return self._own.shape

    @property
    def name(self) -> str:
        """See `Computer`."""
        return f"{self._own.name}, {len(self._others) + 1} ranks"

    @property
    def pids(self) -> list[int]:
        """Processes of the other ranks, in order."""
        return [process.pid for process in self._others]

    def run(self, work: Pass) -> NDArray[np.float32]:
        """See `Computer.run`; whatever goes wrong, the ranks are out of step afterwards."""
        try:
            told = encoded(work)
            for process in self._others:
                assert process.stdin is not None
                process.stdin.write(told)
                process.stdin.flush()
            return self._own.run(work)
        except Exception as fault:
            raise ComputerLost(f"{self._ended() or 'a pass failed'}: {fault}") from fault

    def largest(self, logits_RV: NDArray[np.float32]) -> list[int]:
        """See `Computer.largest`."""
        return self._own.largest(logits_RV)

    def prepare(self) -> bool:
        """See `Computer.prepare`: nothing."""
        return False

    def close(self) -> None:
        """See `Computer.close`."""
        _end(self._others)
        self._own.close()

    def _ended(self) -> str:
        for process in self._others:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_SECONDS)
        ended = [(rank, process.poll()) for rank, process in enumerate(self._others, start=1)]
        return ", ".join(f"rank {rank} ended with {code}" for rank, code in ended if code is not None)


def start_ranks(weights: Weights, pages: int, settings: EngineSettings) -> ParallelComputer:
    """Start the other ranks of a model and load its first share here.

    Raises:
        ValueError: The settings do not fit the model or the machine.
        ComputerLost: A rank could not load its share.
    """
    size = settings.tensor_parallel
    store = TCPStore(_LOOPBACK, 0, size, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    others: list[Process] = []
    try:
        mine = of_rank(settings, 0)
        group = Ranks(Share(0, size), store, torch.device(mine.device))
        others += [_start(rank, weights, pages, settings, store.port) for rank in range(1, size)]
        own = make_computer(weights, pages, mine, group)
        for rank, process in enumerate(others, start=1):
            _await(rank, process)
        group.connect()
    except BaseException:
        _end(others)
        raise
    return ParallelComputer(own, others, store)


def _start(rank: int, weights: Weights, pages: int, settings: EngineSettings, port: int) -> Process:
    own = of_rank(settings, rank)
    job = {
        "folder": str(weights.folder), "settings": dataclasses.asdict(own), "pages": pages, "rank": rank, "port": port,
    }  # fmt: skip
    command = [sys.executable, "-m", "opt_serving.parallel.rank", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(own.threads)}
    # A session of its own: an interrupt from the terminal is for the first rank, which drains.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
    )


def _await(rank: int, process: Process) -> None:
    assert process.stdout is not None
    said = process.stdout.readline()
    reason = json.loads(said)["error"] if said else f"ended with {process.wait()} while it loaded"
    if reason:
        raise ComputerLost(f"rank {rank}: {reason}")


def _end(others: Sequence[Process]) -> None:
    for process in others:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # the end of passes
    for process in others:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
