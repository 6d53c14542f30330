"""Another rank than the first: `python -m opt_serving.parallel.rank JOB`; passes come in by stdin, until its end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from opt_serving.compute.group import TIMEOUT, Ranks
from opt_serving.compute.shares import Share
from opt_serving.engine.computers import make_computer, open_weights
from opt_serving.parallel.wire import decoded
from opt_serving.settings import EngineSettings


def main(job: dict[str, Any]) -> None:
    """Load this rank's share, say so in one JSON line, then compute every pass."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints
    settings = EngineSettings(**job["settings"])
    try:
        store = TCPStore("127.0.0.1", job["port"], settings.tensor_parallel, is_master=False, timeout=TIMEOUT)
        group = Ranks(Share(job["rank"], settings.tensor_parallel), store, torch.device(settings.device))
        computer = make_computer(open_weights(Path(job["folder"])), job["pages"], settings, group)
    except Exception as fault:  # noqa: BLE001 - whatever it was, the first rank tells it
        _say(told, f"{type(fault).__name__}: {fault}")
        return
    _say(told, "")
    group.connect()
    while (work := decoded(sys.stdin.buffer.read)) is not None:
        computer.run(work)


def _say(told: Any, error: str) -> None:
    print(json.dumps({"error": error}), file=told, flush=True)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except RuntimeError as fault:  # the others are gone
        sys.exit(f"rank ended: {fault}")
