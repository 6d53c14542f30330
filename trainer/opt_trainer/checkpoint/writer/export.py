"""Starts the export, which needs torch, as a program of its own."""

from __future__ import annotations

import subprocess
import sys

from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import ExportRequest, StoreAddress

_SECONDS = 3600


def run_export(store: StoreAddress, prefix: str, request: ExportRequest) -> None:
    """Write the Hugging Face directory of the checkpoint at `prefix`.

    Raises:
        SaveFailed: It did not work; the checkpoint itself is not affected.
    """
    command = [sys.executable, "-m", "opt_trainer.checkpoint.export", store.model_dump_json(), prefix]
    done = subprocess.run(
        [*command, request.model_dump_json()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        tail = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SaveFailed(f"export of {prefix!r}: exit code {done.returncode}: {tail}; run the export again by hand")
