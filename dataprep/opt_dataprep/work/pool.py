"""Worker processes of the local driver; one that dies is replaced and its task given out again."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from opt_dataprep.errors import DataprepError, WorkerLost

MAX_LOSSES = 5
"""Times that workers may die on one task before the task is blamed."""


class Worker:
    """One process of `opt_dataprep.work.worker`, spoken to in lines."""

    def __init__(self, store: str, plan_key: str) -> None:
        command = [sys.executable, "-m", "opt_dataprep.work.worker", "--store", store, "--plan", plan_key]
        # Processes are the parallelism: threads inside would only fight over the same cores.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )

    def ask(self, stage: str, what: str) -> dict[str, Any] | None:
        """Send a task and return the answer; None if the worker is lost."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{stage} {what}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            return None
        if not line.endswith("\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


class Failed(DataprepError):  # noqa: N818 - as the other errors of this package
    """A task failed in a worker; carries the name of the error there."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep the kind of error for whoever maps it to an exit code."""
        super().__init__(message)
        self.kind = kind


class Pool:
    """Some workers and the tasks of one stage at a time."""

    def __init__(self, store: str, plan_key: str, workers: int) -> None:
        self._store, self._plan_key = store, plan_key
        self._workers = [self._make() for _ in range(workers)]
        self.losses = 0

    def _make(self) -> Worker:
        return Worker(self._store, self._plan_key)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers as they are now."""
        return [worker.process.pid for worker in self._workers]

    def run(self, stage: str, whats: list[str], told: Callable[[dict[str, Any]], None]) -> None:
        """Do tasks of a stage; `told` is called with each answer, one at a time.

        Raises:
            Failed: A task failed; the others were stopped.
            WorkerLost: Workers died on one task `MAX_LOSSES` times.
        """
        tasks: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        for what in whats:
            tasks.put((what, 0))
        faults: list[Exception] = []
        lock = threading.Lock()
        left = [len(whats)]

        def serve(slot: int) -> None:
            while left[0] and not faults and (task := tasks.get()):
                what, losses = task
                answer = self._workers[slot].ask(stage, what)
                with lock:
                    if answer is None:
                        self._lost(slot, stage, what, losses, tasks, faults)
                    else:
                        left[0] -= 1
                        if "error" in answer:
                            faults.append(Failed(answer["error"], answer["message"]))
                        else:
                            told(answer)
                    if faults or not left[0]:
                        for _ in self._workers:
                            tasks.put(None)  # wakes those who wait for a task

        threads = [threading.Thread(target=serve, args=(slot,), daemon=True) for slot in range(len(self._workers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def _lost(self, slot: int, stage: str, what: str, losses: int, tasks: Any, faults: list[Exception]) -> None:
        self.losses += 1
        code = self._workers[slot].process.wait()
        self._workers[slot].close()
        if losses + 1 >= MAX_LOSSES:
            faults.append(
                WorkerLost(
                    f"stage {stage!r}, task {what}: {MAX_LOSSES} workers died on it, the last with exit code {code} "
                    "(-9 is often the system's out-of-memory killer): give more memory or smaller partBytes"
                )
            )
            return
        self._workers[slot] = self._make()
        tasks.put((what, losses + 1))

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()
