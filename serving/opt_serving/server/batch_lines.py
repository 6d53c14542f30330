"""The lines of a batch: each a request with an id of its own, each answered by a line."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opt_serving.server.completions import Completions
from opt_serving.server.errors import ApiError, bad_field, field_error
from opt_serving.server.schemas import CompletionRequest
from opt_serving.server.state import State

_PATIENCE_SECONDS = 0.2
"""Between two tries of a request that found the queue full."""


class _Counts(Protocol):
    total: int
    completed: int
    failed: int


class BatchLine(BaseModel):
    """One request of a file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"] = "POST"
    url: Literal["/v1/completions"] = "/v1/completions"
    body: dict[str, Any]


def read_lines(data: bytes) -> list[BatchLine]:
    """Every line of a file.

    Raises:
        ValueError: A line is no request, or an id comes twice; the message names the line.
    """
    lines: list[BatchLine] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(data.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = BatchLine.model_validate_json(text)
        except ValidationError as fault:
            first = fault.errors()[0]
            field = ".".join(map(str, first["loc"])) or "line"
            raise ValueError(f"line {number}: {field}: {first['msg']}") from fault
        if line.custom_id in seen:
            raise ValueError(f"line {number}: custom_id: {line.custom_id!r} is that of line {seen[line.custom_id]} too")
        seen[line.custom_id] = number
        lines.append(line)
    if not lines:
        raise ValueError("the file holds no request; give one JSON object a line")
    return lines


async def answer_lines(
    data: bytes, completions: Completions, state: State, counts: _Counts
) -> AsyncIterator[dict[str, Any]]:
    """Answer every line, several at once, as they become ready.

    Raises:
        ValueError: See `read_lines`.
    """
    lines = read_lines(data)
    counts.total = len(lines)
    at_once = asyncio.Semaphore(2 * state.settings.engine.max_sequences)
    tasks = [asyncio.ensure_future(_answer(line, completions, at_once)) for line in lines]
    try:
        for ready in asyncio.as_completed(tasks):
            answer = await ready
            good = answer["response"]["status_code"] == 200
            counts.completed, counts.failed = counts.completed + good, counts.failed + (not good)
            yield answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(line: BatchLine, completions: Completions, at_once: asyncio.Semaphore) -> dict[str, Any]:
    async with at_once:
        while True:
            status, body = await _try(line.body, completions)
            if status != 429:
                break
            await asyncio.sleep(_PATIENCE_SECONDS)
    response = {"status_code": status, "request_id": uuid.uuid4().hex, "body": body}
    return {"id": f"batch_req-{uuid.uuid4().hex}", "custom_id": line.custom_id, "response": response, "error": None}


async def _try(body: Mapping[str, Any], completions: Completions) -> tuple[int, dict[str, Any]]:
    try:
        request = CompletionRequest.model_validate(body)
        _refuse_stream(request)
        return 200, await completions.whole(completions.begin(request))
    except ValidationError as fault:
        wrong = field_error(fault.errors())
        return wrong.status, wrong.document()
    except ApiError as fault:
        return fault.status, fault.document()


def _refuse_stream(request: CompletionRequest) -> None:
    if request.stream:
        raise bad_field("stream", "a batch has no streams; leave it out")
