"""Telling the coordinator of a local run something."""

from __future__ import annotations

import json
from typing import Any

from opt_cli.stored import coordinator_of
from opt_runtime.wire import Gone


class NotRunning(Exception):  # noqa: N818 - caught by what is the case
    """Nobody is there to be told."""


def tell(name: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The coordinator's answer.

    Raises:
        NotRunning: No coordinator of that run answers on this machine.
        ValueError: It refuses; the message says why.
    """
    client = coordinator_of(name)
    if client is None:
        raise NotRunning(f"run {name!r} is not running on this machine; start it with `optctl run FILE`")
    try:
        found: dict[str, Any] = json.loads(client.ask("POST", path, json.dumps(body).encode()))
    except Gone as gone:
        raise NotRunning(f"run {name!r}: its coordinator does not answer: {gone}; try again") from gone
    finally:
        client.close()
    return found
