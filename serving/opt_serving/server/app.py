"""The routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from opt_serving.server import chat
from opt_serving.server.batches import Batches
from opt_serving.server.batches import router as batches_router
from opt_serving.server.completions import Answer, Completions
from opt_serving.server.disconnect import ClientGone, unless_gone
from opt_serving.server.errors import ApiError, bad_field, field_error
from opt_serving.server.guard import Guard
from opt_serving.server.jobs import Served
from opt_serving.server.metrics import CONTENT_TYPE
from opt_serving.server.schemas import (
    ChatRequest,
    Completion,
    CompletionRequest,
    Detokenized,
    DetokenizeRequest,
    ModelCard,
    ModelList,
    Tokenized,
    TokenizeRequest,
)
from opt_serving.server.state import State
from opt_serving.settings import ServerSettings
from opt_serving.text.tokenizer import Tokenizer

PAGE = Path(__file__).parent / "page.html"
Beside = Callable[[State], AbstractAsyncContextManager[None]]
"""Loads the model into the state it is given, and may go on changing it; left when the server ends."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A field is wrong; `error.param` names it."},
    401: {"description": "No valid API key."},
    404: {"description": "No such model."},
    413: {"description": "The body is too large."},
    429: {"description": "The queue is full; Retry-After says when to come again."},
    503: {"description": "Loading, draining, or not ready in time; with Retry-After."},
}


def build_app(settings: ServerSettings, beside: Beside) -> FastAPI:
    """The server's ASGI application.

    Args:
        settings: What it is told.
        beside: Runs while the server does.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = State(settings)
        app.state.server = state
        app.state.completions = Completions(state)
        async with Batches(state, app.state.completions) as batches, beside(state):
            app.state.batches = batches
            yield
        state.close()

    app = FastAPI(
        title="opt-operator", version=version("opt-operator"), lifespan=lifespan, redoc_url=None,
        description="OpenAI-compatible server of an OPT model.",
    )  # fmt: skip
    app.add_middleware(Guard, state=lambda: app.state.server)
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(RequestValidationError, _told_of_fields)
    app.add_exception_handler(HTTPException, _told_of_route)
    app.add_exception_handler(ClientGone, _told_nobody)
    _add_generation(app)
    _add_text(app)
    _add_state(app)
    app.include_router(batches_router)
    return app


def _add_generation(app: FastAPI) -> None:
    @app.post("/v1/completions", response_model=Completion, responses=_ANSWERS)
    async def completions(request: Request, body: Annotated[CompletionRequest, Body()]) -> Response:
        """Continue or score prompts."""
        made: Completions = app.state.completions
        answer = made.begin(body)
        if body.stream:
            return _events(made.stream(answer), answer)
        return JSONResponse(await unless_gone(request, made.whole(answer)))

    @app.post("/v1/chat/completions", responses=_ANSWERS)
    async def chat_completions(request: Request, body: Annotated[ChatRequest, Body()]) -> Response:
        """Answer messages, where the server was given a chat template; 400 elsewhere."""
        made: Completions = app.state.completions
        template = app.state.server.settings.chat_template
        answer = made.begin(chat.as_completion(body, template.read_text() if template else None))
        if body.stream:
            return _events(chat.stream(made, answer), answer)
        return JSONResponse(await unless_gone(request, chat.whole(made, answer)))


def _add_text(app: FastAPI) -> None:
    @app.post("/tokenize", responses=_ANSWERS)
    async def tokenize(body: Annotated[TokenizeRequest, Body()]) -> Tokenized:
        """The token ids of a text."""
        served = app.state.server.require(body.model)
        tokenizer = _tokenizer(served, "prompt")
        ids = tokenizer.encode(body.prompt, start=body.add_special_tokens)
        names = [tokenizer.name_of(i) for i in ids]
        return Tokenized(count=len(ids), max_model_len=served.engine.longest, tokens=ids, token_strs=names)

    @app.post("/detokenize", responses=_ANSWERS)
    async def detokenize(body: Annotated[DetokenizeRequest, Body()]) -> Detokenized:
        """The text of token ids, special tokens included."""
        served = app.state.server.require(body.model)
        vocabulary = served.engine.shape.vocabulary_size
        wrong = next((i for i in body.tokens if i >= vocabulary), None)
        if wrong is not None:
            raise bad_field("tokens", f"found id {wrong}; allowed are 0 to {vocabulary - 1}")
        return Detokenized(prompt=_tokenizer(served, "tokens").decode(body.tokens, special=True))


def _add_state(app: FastAPI) -> None:
    @app.get("/v1/models", responses=_ANSWERS)
    async def models() -> ModelList:
        """The served model."""
        state: State = app.state.server
        served = state.require(None)
        card = ModelCard(
            id=state.settings.model_name, created=served.created, root=served.root, revision=served.revision,
            max_model_len=served.engine.longest,
        )  # fmt: skip
        return ModelList(data=[card])

    @app.get("/v1/models/{model:path}", responses=_ANSWERS)
    async def model(model: str) -> ModelCard:
        """One model."""
        app.state.server.require(model)
        return (await models()).data[0]

    @app.get("/health", responses={503: _ANSWERS[503]})
    async def health() -> Response:
        """200 when requests are taken; 503 while loading or draining, and when the model cannot be loaded."""
        state: State = app.state.server
        own = {"instance": state.settings.instance} if state.settings.instance else {}
        if state.phase == "ready":
            return JSONResponse({"status": "ready", **own})
        return JSONResponse({"status": state.phase, "reason": state.reason, **own}, 503, {"Retry-After": "2"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics under vLLM's names."""
        return Response(app.state.server.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/version")
    async def own_version() -> dict[str, str]:
        """This program's version."""
        return {"version": app.version}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))


def _events(events: AsyncGenerator[str], answer: Answer) -> StreamingResponse:
    async def closed_with_the_client() -> AsyncGenerator[str]:
        try:
            async for text in events:
                yield text
        finally:
            await events.aclose()
            for sequence in answer.job.sequences:
                answer.job.drop(sequence)

    return StreamingResponse(
        closed_with_the_client(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


def _tokenizer(served: Served, field: str) -> Tokenizer:
    if served.tokenizer is None:
        raise bad_field(field, "this model came without a tokenizer")
    return served.tokenizer


async def _told(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, ApiError)
    request.app.state.server.metrics.refused(fault.status)
    return fault.response()


async def _told_of_fields(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    return await _told(request, field_error(fault.errors()))


async def _told_of_route(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if isinstance(fault.__cause__, ApiError):  # raised while the body was read, which FastAPI takes for a broken body
        return await _told(request, fault.__cause__)
    response = await _told(request, ApiError(fault.status_code, f"{request.method} {request.url.path}: {fault.detail}"))
    response.headers.update(fault.headers or {})
    return response


async def _told_nobody(request: Request, fault: Exception) -> Response:
    return Response(status_code=499)
