"""From whatever ended a worker to a cause that whoever restarts it can act on, as a table."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import torch
import torch.distributed as dist

from opt_api.documents.exit_report import ExitCause, ExitReport
from opt_store import Corrupt, StoreError
from opt_trainer.checkpoint.errors import BadCheckpoint, Fenced, NoGoodCheckpoint, SaveFailed, WrongCheckpoint
from opt_trainer.data.dataset import BadData
from opt_trainer.errors import BadHost, BadSpec, Diverged, LostPeer

MESSAGE_CHARACTERS = 1024
_CAUSES: tuple[tuple[type[BaseException], ExitCause], ...] = (
    (BadSpec, "BadSpec"),
    (BadHost, "BadHost"),
    (LostPeer, "LostPeer"),
    (WrongCheckpoint, "BadSpec"),
    (BadData, "BadData"),
    (Diverged, "Diverged"),
    (Fenced, "Stopped"),
    (BadCheckpoint, "BadCheckpoint"),
    (NoGoodCheckpoint, "BadCheckpoint"),
    (SaveFailed, "StoreUnavailable"),
    (Corrupt, "BadData"),
    (StoreError, "StoreUnavailable"),
    (MemoryError, "OutOfMemory"),
    (torch.OutOfMemoryError, "OutOfMemory"),
    (dist.DistError, "LostPeer"),
    (torch.AcceleratorError, "BadHost"),
)
"""The first row that matches counts. Only shards of the data set are read outside the checkpoint's own errors, so
`Corrupt` is bad data."""
_BROKEN = frozenset({errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENODEV, errno.EUCLEAN, errno.EMFILE})
"""Of local files: the store's own errors have been told apart before. A full disk is the host's fault, too: what other
runs left fills it, and another host has room."""
_WORDS: tuple[tuple[str, ExitCause], ...] = (
    ("can't allocate memory", "OutOfMemory"),
    ("Cannot allocate memory", "OutOfMemory"),
    ("Connection closed by peer", "LostPeer"),
    ("Connection reset by peer", "LostPeer"),
    ("Connection refused", "LostPeer"),
    ("Broken pipe", "LostPeer"),
    ("Timed out waiting", "LostPeer"),
    ("gloo", "LostPeer"),
    ("NCCL", "LostPeer"),
)
"""torch raises plain RuntimeErrors for these; the text is all there is to tell them by."""


def cause_of(problem: BaseException) -> ExitCause:
    """Why a worker ended."""
    for kind, cause in _CAUSES:
        if isinstance(problem, kind):
            return cause
    if isinstance(problem, OSError) and problem.errno in _BROKEN:
        return "BadHost"
    if isinstance(problem, (RuntimeError, OSError)):
        return next((cause for words, cause in _WORDS if words in str(problem)), "Internal")
    return "Internal"


def message_of(problem: BaseException) -> str:
    """Its first thousand characters, with the kind of error where the cause alone does not say it."""
    text = str(problem) if cause_of(problem) != "Internal" else f"{type(problem).__name__}: {problem}"
    return text[:MESSAGE_CHARACTERS]


def write(report: ExitReport, path: Path) -> None:
    """Write the report whole or not at all; a path that must be written in place (a device, a mount) is."""
    data = report.to_bytes()
    if path.exists() and not os.access(path.parent, os.W_OK):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.replace(path)
