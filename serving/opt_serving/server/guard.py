"""What every request passes before a handler sees it: its key, its size, and being counted."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opt_serving.server.errors import ApiError
from opt_serving.server.keys import Keys
from opt_serving.server.state import State

OPEN_PATHS = frozenset({"/", "/health", "/metrics", "/version", "/docs", "/openapi.json"})
"""Answered without a key: they tell nothing of what others ask, and probes and scrapers have none."""
_UNCOUNTED = frozenset({"/health", "/metrics"})


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, state: Callable[[], State]) -> None:
        self._app, self._state = app, state
        self._keys: Keys | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = self._state()
        state.count += scope["path"] not in _UNCOUNTED
        try:
            self._check_key(state, scope)
            self._check_length(state, scope)
            await self._app(scope, _bounded(receive, state.settings.limits.max_body_bytes), send)
        except ApiError as fault:
            state.metrics.refused(fault.status)
            await fault.response()(scope, receive, send)
        finally:
            state.count -= scope["path"] not in _UNCOUNTED

    def _check_key(self, state: State, scope: Scope) -> None:
        path = state.settings.api_keys
        if path is None or scope["path"] in OPEN_PATHS:
            return
        self._keys = self._keys or Keys(path)
        kind, _, key = _header(scope, b"authorization").partition(" ")
        if kind.lower() != "bearer" or not self._keys.allow(key.strip()):
            raise ApiError(
                401, "Authorization: no valid API key; send `Authorization: Bearer KEY`", code="invalid_api_key"
            )

    @staticmethod
    def _check_length(state: State, scope: Scope) -> None:
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > state.settings.limits.max_body_bytes:
            raise _too_large(state.settings.limits.max_body_bytes)


def _bounded(receive: Receive, most: int) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_large(most)
        return message

    return counted


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"body: larger than {most} bytes; send fewer or shorter prompts", code="body_too_large")


def _header(scope: Scope, name: bytes) -> str:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for key, value in headers if key == name), "")
