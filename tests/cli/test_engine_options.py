"""What the command line gives an engine when nothing is said is what an engine, and a replica of an OPTServe, has."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import pytest
from click.testing import CliRunner

from opt_api.serving.spec import EngineSpec
from opt_cli.engine_options import engine_options
from opt_serving.settings import EngineSettings

pytestmark = pytest.mark.unit


def told(*arguments: str) -> EngineSettings:
    found: list[EngineSettings] = []

    @click.command()
    @engine_options
    def command(store: str | None, engine: partial[EngineSettings], **_: Any) -> None:
        found.append(engine())

    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0
    return found[0]


def test_nothing_said_is_the_engines_own_default() -> None:
    assert told("--threads", "1") == EngineSettings()


def test_a_replica_has_the_same_where_both_have_a_default() -> None:
    spec, own = EngineSpec(), EngineSettings()
    names = (
        "max_sequences", "max_sequence_length", "kv_cache_bytes", "kv_cache_pretouch", "prefill_chunk_tokens",
        "prefill_chunk_seconds", "tensor_parallel",
    )  # fmt: skip
    for name in names:
        assert getattr(spec, name) == getattr(own, name)


def test_what_is_said_counts() -> None:
    said = told(
        "--threads", "3", "--prefill-chunk", "64", "--kernels", "no", "--kv-cache-pretouch",
        "--prefill-chunk-seconds", "2.5",
    )  # fmt: skip
    assert said == EngineSettings(
        threads=3, prefill_chunk_tokens=64, kernels="no", kv_cache_pretouch=True, prefill_chunk_seconds=2.5
    )
