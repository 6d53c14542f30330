"""What an engine and a server are told; the same words as in an `OPTServe`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WeightFormat = Literal["float32", "bfloat16", "float16", "int8"]
PAGE = 32
"""Positions of a page of keys and values; the kernels are compiled for it."""


@dataclass(frozen=True)
class EngineSettings:
    """One engine.

    Attributes:
        weights: Number format of the matrices.
        device: `cpu`, or a CUDA device.
        threads: Threads that compute, of all ranks together.
        tensor_parallel: Ranks: processes (on accelerators, devices too) that each hold a share of every matrix.
        max_sequences: Sequences decoded together.
        max_sequence_length: Positions of a sequence; the model's when None.
        kv_cache_bytes: Room for keys and values, on a cpu of all ranks together; by default what `max_sequences` whole
            sequences need, at most a quarter of the memory that is free.
        kv_cache_pretouch: All of that room gets its memory while there is nothing to do (with several ranks, before the
            start), not as it comes to be used. Torch alone has it beforehand in any case.
        prefill_chunk_tokens: Tokens of prompts in one pass.
        prefill_chunk_seconds: While others decode, no more tokens of prompts than take this long: the next token of
            each of those waits for them.
        kernels: Use the compiled kernels on a CPU; `auto` does where they are to be had.
    """

    weights: WeightFormat = "float32"
    device: str = "cpu"
    threads: int = 1
    tensor_parallel: int = 1
    max_sequences: int = 64
    max_sequence_length: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_pretouch: bool = False
    prefill_chunk_tokens: int = 2048
    prefill_chunk_seconds: float = 0.75
    kernels: Literal["auto", "yes", "no"] = "auto"


@dataclass(frozen=True)
class Limits:
    """What a server accepts; beyond it a client gets 4xx or 503 with Retry-After.

    Attributes:
        max_queue: Sequences that wait for the engine.
        max_body_bytes: Of one request.
        deadline_seconds: From a request's arrival to its last token.
        max_prompts: Of one request.
        max_choices: `n` and `best_of`.
    """

    max_queue: int = 256
    max_body_bytes: int = 4_194_304
    deadline_seconds: float = 300.0
    max_prompts: int = 128
    max_choices: int = 128


@dataclass(frozen=True)
class ServerSettings:
    """One server.

    Attributes:
        model_name: Name in the API.
        engine: How the model is run.
        limits: What is accepted.
        api_keys: File with one key a line, read anew when it changes; open when None.
        chat_template: File with a Jinja template; chat answers 400 when None.
        files: Where uploaded files and results of batches lie.
        drain_seconds: How long open requests may take to end after SIGTERM.
        instance: What this server calls itself at /health, so that a gateway knows it from a stranger.
    """

    model_name: str
    engine: EngineSettings = field(default_factory=EngineSettings)
    limits: Limits = field(default_factory=Limits)
    api_keys: Path | None = None
    chat_template: Path | None = None
    files: Path | None = None
    drain_seconds: float = 300.0
    instance: str | None = None
