"""Heartbeats as a file per rank, for whoever starts workers as plain programs."""

from __future__ import annotations

from pathlib import Path

from opt_api.documents.heartbeat import Heartbeat


class HeartbeatFile:
    """Holds the newest heartbeat; a reader always finds a whole one."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"heartbeat-{rank}.json"
        self._fresh = folder / f".heartbeat-{rank}.json"

    def __call__(self, beat: Heartbeat) -> None:
        """Replace the one before."""
        self._fresh.write_bytes(beat.to_bytes())
        self._fresh.replace(self._path)
