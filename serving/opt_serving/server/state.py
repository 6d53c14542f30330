"""What the server knows of itself: its model, whether it takes requests, how many are under way."""

from __future__ import annotations

import asyncio
from typing import Literal

import structlog

from opt_serving.server.errors import ApiError, unavailable
from opt_serving.server.jobs import Inbox, Served
from opt_serving.server.metrics import Metrics
from opt_serving.settings import ServerSettings

Phase = Literal["loading", "ready", "draining", "failed"]
_log = structlog.get_logger("opt_serving.server")


class State:
    """Lives in the event loop."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.inbox = Inbox(asyncio.get_running_loop())
        self.metrics = Metrics(settings.model_name, lambda: self.served.engine.load() if self.served else None)
        self.served: Served | None = None
        self.phase: Phase = "loading"
        self.reason = "the model is being loaded"
        self.count = 0
        """Requests under way."""
        self._retired: set[asyncio.Task[None]] = set()

    def serve(self, served: Served) -> None:
        """Answer new requests with this model; one that was served before ends with its last request."""
        before, self.served = self.served, served
        if self.phase == "loading":
            self.phase, self.reason = "ready", ""
        _log.info("serving", root=served.root, revision=served.revision)
        if before is not None:
            task = asyncio.get_running_loop().create_task(_retire(before))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    def require(self, model: str | None) -> Served:
        """The model, if it is the one asked for and requests are taken.

        Raises:
            ApiError: Neither is so.
        """
        if self.phase != "ready" or self.served is None:
            raise unavailable(f"{self.phase}: {self.reason}", self.phase)
        if model is not None and model != self.settings.model_name:
            raise ApiError(
                404, f"model: found {model!r}; this server has {self.settings.model_name!r}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return self.served

    def drain(self) -> None:
        """Take no new requests."""
        if self.phase != "draining":
            self.phase, self.reason = "draining", "the server ends after its open requests"
            _log.info("draining", open=self.count)

    def fail(self, reason: str) -> None:
        """The model cannot be loaded; say so to whoever asks."""
        self.phase, self.reason = "failed", reason

    def close(self) -> None:
        """End the engine."""
        if self.served is not None:
            self.served.engine.close()


async def _retire(served: Served) -> None:
    while not served.engine.idle:  # noqa: ASYNC110 - another thread makes it so
        await asyncio.sleep(0.05)
    await asyncio.to_thread(served.engine.close)
    _log.info("no longer serving", root=served.root, revision=served.revision)
