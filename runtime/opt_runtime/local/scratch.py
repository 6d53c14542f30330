"""Where a local run keeps what is of no use elsewhere: logs, shards, the address of its coordinator."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = "OPT_SCRATCH"
"""Variable that names another folder for it."""


def scratch_of(run: str) -> Path:
    """Scratch folder of a run on this machine, beside the store's default, not in it."""
    return Path(os.environ.get(ROOT, "runs/.scratch")).absolute() / run
