"""What clients send and get, as OpenAI's API has it for completions, and as vLLM extends it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

TokenId = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
LOGPROBS = 20
"""Likeliest tokens told for each place, at most; OpenAI's bound is 5."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Request):
    """How a stream ends."""

    include_usage: bool = False
    """One more event before the end, with the count of tokens and no choice."""


class CompletionRequest(_Request):
    """`POST /v1/completions`."""

    model: str | None = None
    """The served model when absent."""
    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    """Text or token ids, one prompt or several."""
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    """0 generates nothing: with `echo` and `logprobs` it scores the prompt."""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1)] | None = 1
    best_of: Annotated[int, Field(ge=1)] | None = None
    """Generate this many, return the `n` with the highest mean log probability."""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=LOGPROBS)] | None = None
    """Log probabilities of each token and of this many of the likeliest; 0 tells the token's own only."""
    echo: bool | None = False
    """The answer begins with the prompt."""
    stop: str | list[str] | None = None
    """Up to 16 texts that end the answer."""
    seed: Seed | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    """Token id, as text, to what is added to its logit."""
    suffix: str | None = None
    user: str | None = None

    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Draw among this many; 0 and -1 among all."""
    min_tokens: Annotated[int, Field(ge=0)] | None = 0
    ignore_eos: bool | None = False
    """Go on after the end of the document."""
    stop_token_ids: list[TokenId] | None = None
    add_special_tokens: bool | None = True
    """Begin text prompts with the token that begins a document."""
    return_token_ids: bool | None = False
    """Also give `token_ids` and `prompt_token_ids`."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_kind(cls, prompt: Any) -> Any:
        """One message instead of one for each kind that it is not."""
        if isinstance(prompt, str) or _all(prompt, str) or _all(prompt, int):
            return prompt
        if isinstance(prompt, list) and prompt and all(_all(part, int) for part in prompt):
            return prompt
        raise PydanticCustomError("prompt", "allowed are a text, token ids, a list of texts, or a list of lists of ids")

    @field_validator("stop", mode="after")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > 16:
            raise PydanticCustomError("stop", "allowed are at most 16 texts")
        return stop

    @model_validator(mode="after")
    def _fit_together(self) -> CompletionRequest:
        if self.suffix:
            raise PydanticCustomError("suffix", "suffix: OPT cannot fill in before a suffix; leave it out")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise PydanticCustomError("best_of", "best_of: must not be below n")
        if self.stream and self.best_of is not None and self.best_of > (self.n or 1):
            raise PydanticCustomError("best_of", "best_of: cannot be streamed, the best is known at the end")
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options: only with stream")
        return self


def _all(prompt: Any, kind: type) -> bool:
    """Whether it is a list of one kind with something in it; a truth value is no number."""
    return (
        isinstance(prompt, list)
        and bool(prompt)
        and all(isinstance(p, kind) and not isinstance(p, bool) for p in prompt)
    )


class Logprobs(BaseModel):
    """Log probabilities of a choice's tokens, in places that go together."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class Choice(BaseModel):
    """One answer."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None
    stop_reason: str | int | None = None
    """The stop text or token that ended it."""
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class PromptTokensDetails(BaseModel):
    """What of the prompts was at hand."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None


class Completion(BaseModel):
    """The answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str | None = None
    """Names the weights that answered."""
    choices: list[Choice]
    usage: Usage | None = None


class TokenizeRequest(_Request):
    """`POST /tokenize`."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = True


class Tokenized(BaseModel):
    """The answer of `POST /tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str]


class DetokenizeRequest(_Request):
    """`POST /detokenize`."""

    model: str | None = None
    tokens: list[TokenId]


class Detokenized(BaseModel):
    """The answer of `POST /detokenize`."""

    prompt: str


class ModelCard(BaseModel):
    """One served model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "opt-operator"
    root: str
    """Where the weights came from."""
    revision: str | None = None
    max_model_len: int


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Message(_Request):
    """One message of a chat."""

    role: Annotated[str, Field(min_length=1)]
    content: str
    name: str | None = None


class ChatRequest(_Request):
    """`POST /v1/chat/completions`; needs a template."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1)] | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    user: str | None = None
