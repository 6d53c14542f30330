"""From a request for completions to its answer, whole or as a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from opt_serving.engine import Refused, Sampling, Sequence
from opt_serving.engine.engine import Progress
from opt_serving.server.choices import Delta, Growing, logprobs_document
from opt_serving.server.errors import ApiError, bad_field, busy, unavailable
from opt_serving.server.jobs import Job, Served
from opt_serving.server.schemas import CompletionRequest
from opt_serving.server.state import State
from opt_serving.text.tokenizer import END

SEED_STEP = 1
"""The choices of one prompt draw with the request's seed, that plus one, and so on."""


@dataclass
class Answer:
    """A request under way."""

    request: CompletionRequest
    served: Served
    job: Job
    choices: list[Growing]
    head: dict[str, Any]

    @property
    def kept(self) -> int:
        """Choices of each prompt that are returned."""
        return self.request.n or 1


class Completions:
    """Answers requests with the model that is served when they come."""

    def __init__(self, state: State) -> None:
        self._state = state

    def begin(self, request: CompletionRequest) -> Answer:
        """Check a request and start to compute it.

        Raises:
            ApiError: It cannot be served, or not now.
        """
        served = self._state.require(request.model)
        prompts = list(_prompts(request, served))
        sampling = _sampling(request, served)
        each = request.best_of or request.n or 1
        self._check_size(len(prompts), each)
        choices = list(self._choices(request, served, prompts, sampling, each))
        job = Job(served.engine, self._state.inbox, [choice.sequence for choice in choices])
        load = served.engine.load()
        if load.waiting + len(choices) > self._state.settings.limits.max_queue:
            raise busy(f"{load.waiting} requests wait already, at most {self._state.settings.limits.max_queue} may")
        try:
            job.start()
        except Refused as fault:
            raise bad_field(fault.field, str(fault).removeprefix(f"{fault.field}: ")) from fault
        head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()),
                "model": self._state.settings.model_name, "system_fingerprint": served.revision}  # fmt: skip
        return Answer(request, served, job, choices, head)

    async def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer in one piece.

        Raises:
            ApiError: It could not be brought to its end.
        """
        grown = {choice: Delta() for choice in answer.choices}
        async with aclosing(self._deltas(answer)) as deltas:
            async for choice, delta in deltas:
                grown[choice].add(delta)
        best = _best(answer)
        documents = [
            choice_document(answer, choice, grown[choice], index=index, whole=True) for index, choice in enumerate(best)
        ]
        return answer.head | {"choices": documents, "usage": usage_document(answer)}

    async def stream(self, answer: Answer) -> AsyncGenerator[str]:
        """The answer as server-sent events, `[DONE]` last."""
        async with aclosing(self.documents(answer)) as documents:
            async for document in documents:
                yield event(document)
        yield "data: [DONE]\n\n"

    async def documents(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """What the events of a stream hold; an error is the last of them."""
        options = answer.request.stream_options
        usage = options is not None and options.include_usage
        head = answer.head | ({"usage": None} if usage else {})
        try:
            async with aclosing(self._deltas(answer)) as deltas:
                async for choice, delta in deltas:
                    if delta:
                        yield head | {"choices": [choice_document(answer, choice, delta, index=choice.index)]}
            if usage:
                yield answer.head | {"choices": [], "usage": usage_document(answer)}
        except ApiError as fault:
            self._state.metrics.refused(fault.status)
            yield fault.document()

    async def _deltas(self, answer: Answer) -> AsyncGenerator[tuple[Growing, Delta]]:
        choice_of = {choice.sequence: choice for choice in answer.choices}
        last: dict[Sequence, float] = {}
        async with aclosing(answer.job.news()) as news:
            async for progress in news:
                choice = choice_of[progress.sequence]
                if progress.token is not None:
                    last[progress.sequence] = self._state.metrics.token(progress.sequence, last.get(progress.sequence))
                delta = choice.take(progress.token, _reason(progress))
                if choice.done:
                    self._state.metrics.ended(progress.sequence, str(delta.finish))
                    answer.job.drop(progress.sequence)
                yield choice, delta

    def _choices(
        self, request: CompletionRequest, served: Served, prompts: list[tuple[list[int], str]], sampling: Sampling,
        each: int,
    ) -> Iterator[Growing]:  # fmt: skip
        stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
        if stops and served.tokenizer is None:
            raise bad_field("stop", "this model has no tokenizer; give stop_token_ids")
        deadline = time.monotonic() + self._state.settings.limits.deadline_seconds
        for at, (ids, text) in enumerate(prompts):
            first: Sequence | None = None
            for number in range(each):
                seed = None if request.seed is None else request.seed + number * SEED_STEP
                own = Sampling(**{**_fields(sampling), "seed": seed})
                sequence = Sequence(ids, own, deadline, after=first)
                first = first or sequence
                echo = text if request.echo else None
                yield Growing(at * each + number, sequence, served.tokenizer, stops, echo)

    def _check_size(self, prompts: int, each: int) -> None:
        limits = self._state.settings.limits
        if prompts > limits.max_prompts:
            raise bad_field("prompt", f"found {prompts} prompts; at most {limits.max_prompts} are allowed")
        if each > limits.max_choices:
            raise bad_field("n", f"found {each} choices; at most {limits.max_choices} are allowed")
        if prompts * each > limits.max_queue:
            raise bad_field("prompt", f"found {prompts} prompts with {each} choices each; this server queues at most "
                            f"{limits.max_queue}")  # fmt: skip


def _prompts(request: CompletionRequest, served: Served) -> Iterator[tuple[list[int], str]]:
    """Ids and text of each prompt."""
    prompt = request.prompt
    several: list[Any] = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    tokenizer = served.tokenizer
    for one in several:
        if isinstance(one, str):
            if tokenizer is None:
                raise bad_field("prompt", "this model has no tokenizer; give token ids")
            ids = tokenizer.encode(one, start=request.add_special_tokens is not False)
            yield ids, one
        else:
            vocabulary = served.engine.shape.vocabulary_size
            known = tokenizer is not None and all(i < vocabulary for i in one)
            yield one, tokenizer.decode(one) if tokenizer is not None and known else ""


def _sampling(request: CompletionRequest, served: Served) -> Sampling:
    vocabulary = served.engine.shape.vocabulary_size
    stop_ids = frozenset(request.stop_token_ids or ()) | (frozenset() if request.ignore_eos else {END})
    best_of = (request.best_of or 0) > (request.n or 1)
    logprobs = 0 if request.logprobs is None and best_of else request.logprobs
    for token in request.stop_token_ids or ():
        if token >= vocabulary:
            raise bad_field("stop_token_ids", f"found {token}; allowed are 0 to {vocabulary - 1}")
    return Sampling(
        max_tokens=16 if request.max_tokens is None else request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=max(0, request.top_k or 0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logit_bias=_bias(request, vocabulary),
        logprobs=logprobs,
        prompt_logprobs=request.logprobs if request.echo else None,
        stop_ids=stop_ids,
        min_tokens=request.min_tokens or 0,
    )


def _bias(request: CompletionRequest, vocabulary: int) -> dict[int, float]:
    found: dict[int, float] = {}
    for token, bias in (request.logit_bias or {}).items():
        if not token.isdecimal() or not token.isascii() or int(token) >= vocabulary:
            raise bad_field("logit_bias", f"found token {token!r}; allowed are ids from 0 to {vocabulary - 1}")
        found[int(token)] = bias
    return found


def _fields(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in sampling.__dataclass_fields__}


def _reason(progress: Progress) -> str | None:
    """Why a sequence ended, in OpenAI's words; what is no proper end is an error."""
    match progress.finish:
        case "deadline":
            raise unavailable("the answer was not ready in time; ask for fewer tokens, or later", "deadline_exceeded")
        case "abort":
            raise unavailable("the server ended before the answer did", "shutting_down")
        case "error":
            raise ApiError(500, f"the engine failed: {progress.sequence.error}", code="engine_error")
        case finish:
            return finish


def _best(answer: Answer) -> list[Growing]:
    """The `n` choices of each prompt with the highest mean log probability, where more were generated."""
    each = answer.request.best_of or answer.kept
    kept: list[Growing] = []
    for start in range(0, len(answer.choices), each):
        group = answer.choices[start : start + each]
        if each > answer.kept:
            group = sorted(group, key=lambda c: c.logprob_sum / max(1, c.count), reverse=True)[: answer.kept]
        kept += group
    return kept


def choice_document(
    answer: Answer, choice: Growing, delta: Delta, *, index: int, whole: bool = False
) -> dict[str, Any]:
    """One choice, or what is new of it."""
    count = answer.request.logprobs
    told = logprobs_document(delta.tokens, answer.served.tokenizer, count) if count is not None else None
    document: dict[str, Any] = {"index": index, "text": delta.text, "logprobs": told, "finish_reason": delta.finish}
    if answer.request.return_token_ids:
        document["token_ids"] = delta.ids
        if whole:
            document["prompt_token_ids"] = choice.sequence.prompt
    return document


def usage_document(answer: Answer) -> dict[str, Any]:
    """Tokens of each prompt once, and all that were generated."""
    each = answer.request.best_of or answer.kept
    firsts = answer.choices[::each]
    prompt = sum(len(choice.sequence.prompt) for choice in firsts)
    generated = sum(choice.count for choice in answer.choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(choice.sequence.reused for choice in firsts)},
    }


def event(document: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"
