"""Answers that are no success, in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse

RETRY_SECONDS = 2
"""Retry-After of an answer that says to come again."""


class ApiError(Exception):
    """What a client is told instead of an answer.

    Attributes:
        status: HTTP.
        message: What is wrong, and what is allowed.
        param: The field.
        code: For programs.
        retry_after: Seconds; None when trying again is of no use.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    def document(self) -> dict[str, Any]:
        """The body."""
        return {"error": {"message": self.message, "type": _type(self.status), "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.document(), self.status, headers)


def bad_field(field: str, message: str) -> ApiError:
    """400: one field is wrong."""
    return ApiError(400, f"{field}: {message}", param=field, code="invalid_value")


def busy(message: str) -> ApiError:
    """429: the queue is full."""
    return ApiError(429, message, code="queue_full", retry_after=RETRY_SECONDS)


def unavailable(message: str, code: str) -> ApiError:
    """503: not now."""
    return ApiError(503, message, code=code, retry_after=RETRY_SECONDS)


def field_error(errors: Any) -> ApiError:
    """400 from pydantic's list: the first field that is wrong, and how many more are."""
    first, *more = errors
    if first["type"] == "json_invalid":
        return ApiError(400, f"body: no JSON: {first.get('ctx', {}).get('error', first['msg'])}", code="invalid_json")
    path = [str(part) for part in first["loc"] if part != "body"]
    path = path[: next((at for at, part in enumerate(path) if part == "str" or "[" in part), None)]  # kinds of a union
    field = ".".join(path) or "body"
    if not path and ": " in first["msg"]:  # a rule over several fields names the field itself
        field, _, message = first["msg"].partition(": ")
    elif first["type"] == "extra_forbidden":
        message = "no such field; see /docs for those there are"
    else:
        message = f"{first['msg']}; found {_short(first['input'])}"
    others = f" ({len(more)} more wrong)" if more else ""
    return ApiError(400, f"{field}: {message}{others}", param=field, code="invalid_value")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type(status: int) -> str:
    named = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    return named.get(status, "invalid_request_error" if status < 500 else "server_error")
