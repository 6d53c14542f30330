"""Log lines of agents and coordinators: one JSON object each, with the keys of a run on every line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from structlog.types import EventDict, WrappedLogger


def write_json(keys: Callable[[], Mapping[str, Any]]) -> None:
    """Write JSON to standard output from now on.

    Args:
        keys: Asked at each line; what it gives is on the line unless the line says otherwise (run, attempt, step, ...).
    """

    def with_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**keys(), **event}

    structlog.configure(
        processors=[
            with_keys,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )
