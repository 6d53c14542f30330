"""`/v1/files` and `/v1/batches`: many requests from a file, worked off while others are answered."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
import uuid
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Body, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from opt_serving.server.batch_lines import answer_lines
from opt_serving.server.completions import Completions
from opt_serving.server.errors import ApiError, bad_field
from opt_serving.server.state import State

router = APIRouter()
_ID = re.compile(r"(file|batch)-[0-9a-f]{32}")
_OPEN = frozenset({"validating", "in_progress", "cancelling"})


class FileObject(BaseModel):
    """A stored file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class Deleted(BaseModel):
    """The answer of a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class Counts(BaseModel):
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: Literal["/v1/completions"] = "/v1/completions"
    input_file_id: str
    completion_window: str = "24h"
    status: Literal["validating", "in_progress", "completed", "failed", "cancelling", "cancelled"] = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: dict[str, Any] | None = None
    created_at: int
    in_progress_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Field(default_factory=Counts)
    metadata: dict[str, str] | None = None


class BatchRequest(BaseModel):
    """`POST /v1/batches`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    input_file_id: str
    endpoint: Literal["/v1/completions"]
    completion_window: Literal["24h"] = "24h"
    metadata: dict[str, str] | None = None


class Batches:
    """Files in a folder, batches in memory; both end with the server unless a folder was given for the files."""

    def __init__(self, state: State, completions: Completions) -> None:
        self._state, self._completions = state, completions
        self._given = state.settings.files
        self._folder = Path()
        self._batches: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._folder = self._given or Path(mkdtemp(prefix="opt-files-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._given is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, name: str, data: bytes, purpose: Literal["batch", "batch_output"]) -> FileObject:
        """Store a file."""
        made = FileObject(
            id=f"file-{uuid.uuid4().hex}", bytes=len(data), created_at=int(time.time()), filename=name, purpose=purpose
        )
        (self._folder / made.id).write_bytes(data)
        (self._folder / f"{made.id}.json").write_text(made.model_dump_json())
        return made

    def files(self) -> list[FileObject]:
        """All stored files, oldest first."""
        found = [FileObject.model_validate_json(path.read_bytes()) for path in self._folder.glob("file-*.json")]
        return sorted(found, key=lambda file: (file.created_at, file.id))

    def file(self, file_id: str, field: str = "file_id") -> FileObject:
        """One stored file.

        Raises:
            ApiError: There is none.
        """
        path = self._folder / f"{file_id}.json"
        if not _ID.fullmatch(file_id) or not path.is_file():
            raise ApiError(404, f"{field}: no file {file_id!r}", param=field, code="not_found")
        return FileObject.model_validate_json(path.read_bytes())

    def content(self, file: FileObject) -> bytes:
        """What a file holds."""
        return (self._folder / file.id).read_bytes()

    def remove(self, file: FileObject) -> None:
        """Delete a file."""
        (self._folder / file.id).unlink(missing_ok=True)
        (self._folder / f"{file.id}.json").unlink(missing_ok=True)

    def start(self, request: BatchRequest) -> Batch:
        """Begin to work off a file."""
        file = self.file(request.input_file_id, "input_file_id")
        batch = Batch(
            id=f"batch-{uuid.uuid4().hex}", input_file_id=file.id, created_at=int(time.time()),
            metadata=request.metadata,
        )  # fmt: skip
        self._batches[batch.id] = batch
        self._tasks[batch.id] = asyncio.get_running_loop().create_task(self._work(batch, self.content(file)))
        return batch

    def batch(self, batch_id: str) -> Batch:
        """One batch.

        Raises:
            ApiError: There is none.
        """
        if batch_id not in self._batches:
            raise ApiError(404, f"batch_id: no batch {batch_id!r}", param="batch_id", code="not_found")
        return self._batches[batch_id]

    def batches(self) -> list[Batch]:
        """All batches, oldest first."""
        return list(self._batches.values())

    def cancel(self, batch: Batch) -> Batch:
        """Stop a batch; what is answered stays."""
        if batch.status in _OPEN:
            batch.status = "cancelling"
            self._tasks[batch.id].cancel()
        return batch

    async def _work(self, batch: Batch, data: bytes) -> None:
        out: list[str] = []
        wrong: list[str] = []
        batch.status, batch.in_progress_at = "in_progress", int(time.time())
        try:
            async for line in answer_lines(data, self._completions, self._state, batch.request_counts):
                good = line["response"] is not None and line["response"]["status_code"] == 200
                (out if good else wrong).append(json.dumps(line, ensure_ascii=False))
            batch.status, batch.completed_at = "completed", int(time.time())
        except asyncio.CancelledError:
            batch.status, batch.cancelled_at = "cancelled", int(time.time())
        except ValueError as fault:
            batch.status, batch.failed_at = "failed", int(time.time())
            batch.errors = {"object": "list", "data": [{"code": "invalid_input", "message": str(fault)}]}
        self._keep(batch, out, wrong)

    def _keep(self, batch: Batch, out: list[str], wrong: list[str]) -> None:
        if out:
            batch.output_file_id = self.add(f"{batch.id}_output.jsonl", _lines(out), "batch_output").id
        if wrong:
            batch.error_file_id = self.add(f"{batch.id}_error.jsonl", _lines(wrong), "batch_output").id


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _of(request: Request) -> Batches:
    batches: Batches = request.app.state.batches
    return batches


@router.post("/v1/files")
async def upload(request: Request, file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()]) -> FileObject:
    """Store a JSONL of requests."""
    if purpose != "batch":
        raise bad_field("purpose", f"found {purpose!r}; allowed is 'batch'")
    return _of(request).add(file.filename or "input.jsonl", await file.read(), "batch")


@router.get("/v1/files")
async def list_files(request: Request) -> dict[str, Any]:
    """All files."""
    return {"object": "list", "data": _of(request).files(), "has_more": False}


@router.get("/v1/files/{file_id}")
async def get_file(request: Request, file_id: str) -> FileObject:
    """One file."""
    return _of(request).file(file_id)


@router.get("/v1/files/{file_id}/content")
async def get_content(request: Request, file_id: str) -> Response:
    """What a file holds."""
    batches = _of(request)
    return Response(batches.content(batches.file(file_id)), media_type="application/jsonl")


@router.delete("/v1/files/{file_id}")
async def delete_file(request: Request, file_id: str) -> Deleted:
    """Delete a file."""
    batches = _of(request)
    batches.remove(batches.file(file_id))
    return Deleted(id=file_id)


@router.post("/v1/batches")
async def create_batch(request: Request, body: Annotated[BatchRequest, Body()]) -> Batch:
    """Work off a file."""
    return _of(request).start(body)


@router.get("/v1/batches")
async def list_batches(request: Request) -> dict[str, Any]:
    """All batches."""
    return {"object": "list", "data": _of(request).batches(), "has_more": False}


@router.get("/v1/batches/{batch_id}")
async def get_batch(request: Request, batch_id: str) -> Batch:
    """One batch."""
    return _of(request).batch(batch_id)


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(request: Request, batch_id: str) -> Batch:
    """Stop a batch."""
    batches = _of(request)
    return batches.cancel(batches.batch(batch_id))
