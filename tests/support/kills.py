"""Running data preparation in processes that are killed at random."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from opt_api.training.data import DataSpec

DRIVER = """
import sys
from opt_api.training.data import DataSpec
from opt_dataprep.work.driver import prepare
print(prepare(DataSpec.model_validate_json(sys.stdin.read()), sys.argv[1], workers=int(sys.argv[2])).uri)
"""
DEADLINE_S = 300.0


def start(data: DataSpec, store: Path, workers: int) -> subprocess.Popen[str]:
    store.mkdir(exist_ok=True)
    command = [sys.executable, "-c", DRIVER, store.as_uri(), str(workers)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdin.write(data.model_dump_json(by_alias=True, exclude_none=True))
    process.stdin.close()
    process.stdin = None
    return process


def dataset_bytes(store: Path) -> dict[str, bytes]:
    """Every object of every data set in the store, without the parts' work."""
    folder = store / "data"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "work"
    }


def wait_for_progress(process: subprocess.Popen[str], store: Path) -> None:
    """Wait for another commit, so that kills hit work and not only interpreters that start."""
    had = commits(store)
    while process.poll() is None and commits(store) == had:
        time.sleep(0.01)


def commits(store: Path) -> int:
    return sum(1 for _ in (store / "data" / "work").glob("*/*/commit.json"))


@dataclass
class Killer:
    """Runs preparations one after the other and kills their processes until `kills` have been made."""

    data: DataSpec
    folder: Path
    rng: random.Random
    drivers: int = 0
    workers: int = 0

    def run(self, kills: int, workers: int, longest_wait_s: float) -> list[dict[str, bytes]]:
        """Return what each finished preparation left; at least one is finished after the last kill."""
        finished: list[dict[str, bytes]] = []
        store = self.folder / "store-0"
        while self.drivers + self.workers < kills or (store / "data").exists() or not finished:
            process = start(self.data, store, workers)
            while process.poll() is None and self.drivers + self.workers < kills:
                wait_for_progress(process, store)
                time.sleep(self.rng.uniform(0, longest_wait_s))
                self._kill_one(process)
            _, errors = process.communicate(timeout=DEADLINE_S)
            if process.returncode == 0:
                finished.append(dataset_bytes(store))
                shutil.rmtree(store)
                store = self.folder / f"store-{len(finished)}"
            else:
                assert process.returncode == -9, errors
        return finished

    def _kill_one(self, process: subprocess.Popen[str]) -> None:
        """Kill the driver or one of its workers; a driver's orphans are left to finish their tasks."""
        try:
            victims = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
            victim = self.rng.choice(victims)
            victim.kill()
        except psutil.NoSuchProcess:
            return
        if victim.pid == process.pid:
            self.drivers += 1
        else:
            self.workers += 1
