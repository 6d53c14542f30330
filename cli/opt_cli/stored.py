"""Finding a local run by name: its store, and its coordinator if it is running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opt_runtime.local.scratch import scratch_of
from opt_runtime.wire import Client
from opt_store import NotFound, Store, open_store

ADDRESS_FILE = "coordinator.json"
"""Where a run on this machine says how its coordinator is reached, in its scratch folder."""


def stored_run(name: str, url: str | None) -> Store:
    """The store that holds a run.

    Raises:
        opt_store.NotFound: There is no such run.
    """
    if url is None and not Path("runs", name).is_dir():
        raise NotFound(f"run {name!r}: there is no folder runs/{name} here; name its store with --store")
    store = open_store(url or Path("runs", name).absolute().as_uri())
    if next(iter(store.list(f"runs/{name}/")), None) is None:
        raise NotFound(f"run {name!r}: {store.url} holds nothing of it")
    return store


def coordinator_of(name: str) -> Client | None:
    """The coordinator of a run on this machine; None while it is not running."""
    path = scratch_of(name) / ADDRESS_FILE
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return Client(found["address"])
