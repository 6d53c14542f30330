"""Chat, where a template is given; a base model has none of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from opt_serving.server.completions import Answer, Completions, event
from opt_serving.server.errors import ApiError, bad_field
from opt_serving.server.schemas import ChatRequest, CompletionRequest

NO_TEMPLATE = (
    "messages: this is a base model without a chat template; use /v1/completions, or start the server with "
    "--chat-template FILE"
)
_TOKENS = dict.fromkeys(("bos_token", "eos_token"), "</s>")
_SHARED = (
    "model", "temperature", "top_p", "n", "stream", "stream_options", "stop", "seed", "presence_penalty",
    "frequency_penalty", "logit_bias",
)  # fmt: skip


def as_completion(request: ChatRequest, template: str | None) -> CompletionRequest:
    """The request that the template makes of a chat.

    Raises:
        ApiError: There is no template, or it cannot take these messages.
    """
    if template is None:
        raise ApiError(400, NO_TEMPLATE, param="messages", code="no_chat_template")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    messages = [message.model_dump(exclude_none=True) for message in request.messages]
    try:
        prompt = environment.from_string(template).render(messages=messages, add_generation_prompt=True, **_TOKENS)
    except TemplateError as fault:
        raise bad_field("messages", f"the chat template refuses them: {fault}") from fault
    shared = {name: getattr(request, name) for name in _SHARED}
    most = request.max_completion_tokens or request.max_tokens or 256
    return CompletionRequest(**shared, prompt=prompt, max_tokens=most, add_special_tokens=not prompt.startswith("</s>"))


async def whole(completions: Completions, answer: Answer) -> dict[str, Any]:
    """The answer in one piece, in the chat form."""
    document = await completions.whole(answer)
    choices = [
        {"index": c["index"], "message": {"role": "assistant", "content": c["text"]}, "logprobs": None,
         "finish_reason": c["finish_reason"]}
        for c in document["choices"]
    ]  # fmt: skip
    return document | {"object": "chat.completion", "choices": choices}


async def stream(completions: Completions, answer: Answer) -> AsyncGenerator[str]:
    """The answer as server-sent events, in the chat form."""
    answer.head["object"] = "chat.completion.chunk"
    for choice in answer.choices:
        opening = {"index": choice.index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        yield event(answer.head | {"choices": [opening]})
    async with aclosing(completions.documents(answer)) as documents:
        async for document in documents:
            yield event(document | {"choices": [_delta(c) for c in document["choices"]]} if document.get("choices")
                        else document)  # fmt: skip
    yield "data: [DONE]\n\n"


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    delta = {"content": choice["text"]} if choice["text"] else {}
    return {"index": choice["index"], "delta": delta, "finish_reason": choice["finish_reason"]}


def _refuse(message: str) -> None:
    raise TemplateError(message)
