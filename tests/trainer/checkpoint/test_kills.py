"""kill -9 of trainer, writer or both at random moments of a save: what is published is whole, nothing else counts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from opt_trainer.checkpoint.catalog import catalog, loadable
from opt_trainer.checkpoint.verify import problems_of
from support import saving_process
from support.checkpoints import RUN, boxes, restorer, store_in

SEED = 20_260_101


def start(folder: Path, attempt: int, rank: int, ranks: int) -> subprocess.Popen[str]:
    program = [sys.executable, saving_process.__file__, str(folder), str(attempt), str(rank), str(ranks)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def writer_of(trainer: subprocess.Popen[str]) -> psutil.Process:
    (writer,) = psutil.Process(trainer.pid).children()
    return writer


def await_gone(process: psutil.Process) -> None:
    """A writer whose trainer died ends by itself when its work is done."""
    process.wait(90)


def state_at(folder: Path) -> int:
    """Load everything; every tensor must be of the step that the checkpoint says."""
    got = {"w": torch.zeros(saving_process.ELEMENTS), "m": torch.zeros(7, 1000, dtype=torch.bfloat16)}
    restored = restorer(folder).restore(boxes(got))
    if restored is None:
        return 0
    assert all(tensor.float().unique().tolist() == [restored.state.step] for tensor in got.values())
    return restored.state.step


@pytest.mark.integration
@pytest.mark.parametrize("victim", ["trainer", "writer", "both"])
def test_kill_at_random_points(tmp_path, victim):
    kill_again_and_again(tmp_path, victim, 2)


@pytest.mark.long
@pytest.mark.parametrize("victim", ["trainer", "writer", "both"])
def test_kill_at_many_random_points(tmp_path, victim):
    kill_again_and_again(tmp_path, victim, 34)


def kill_again_and_again(tmp_path: Path, victim: str, kills: int) -> None:
    draw, folder = random.Random(f"{SEED}-{victim}-{kills}"), tmp_path / "store"
    store, newest = store_in(folder), 0
    for attempt in range(1, kills + 1):
        trainer = start(folder, attempt, 0, 1)
        try:
            assert int(trainer.stdout.readline()) == newest + 1
            for _ in range(draw.randrange(3)):
                trainer.stdout.readline()
            writer = writer_of(trainer)
            time.sleep(draw.uniform(0, 0.4))
            for process in {"trainer": [trainer], "writer": [writer], "both": [writer, trainer]}[victim]:
                os.kill(process.pid, signal.SIGKILL)
        finally:
            trainer.kill()
            trainer.wait()
            trainer.stdout.close()
        await_gone(writer)
        for found in loadable(catalog(store, RUN)):
            assert problems_of(store, found.prefix) == []
        now = state_at(folder)
        assert now >= newest
        newest = now
    assert newest > 0 or kills < 5


@pytest.mark.integration
def test_a_rank_killed_while_the_others_save_leaves_the_one_before(tmp_path):
    folder = tmp_path / "store"
    store = store_in(folder)
    pair = [start(folder, 1, rank, 2) for rank in range(2)]
    try:
        writers = []
        for trainer in pair:
            assert [int(trainer.stdout.readline()) for _ in range(2)] == [1, 2]
            writers.append(writer_of(trainer))
        for process in (writers[1], pair[1]):
            os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not loadable(catalog(store, RUN)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for process in [*pair, *writers]:
            process.kill()
        for trainer in pair:
            trainer.wait()
            trainer.stdout.close()
    assert state_at(folder) in {1, 2}
    assert all(problems_of(store, f.prefix) == [] for f in loadable(catalog(store, RUN)))
