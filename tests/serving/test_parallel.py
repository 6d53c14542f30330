"""A model over several processes answers as one process does."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import psutil
import pytest

from opt_serving.compute.passes import Pass
from opt_serving.engine import Sampling, Sequence
from opt_serving.parallel.leader import ParallelComputer
from opt_serving.parallel.wire import decoded, encoded
from support.engines import engine_of, run
from support.served_models import POST, SHAPE, serving, write_model

pytestmark = pytest.mark.integration
PROMPTS = [[2, *range(10 + n, 14 + 7 * n)] for n in range(12)]


def answers(folder, **settings):
    with engine_of(folder, **settings) as engine:
        asked = [Sequence(p, Sampling(max_tokens=12, logprobs=1, prompt_logprobs=1)) for p in PROMPTS]
        told = run(engine, asked)
    logprobs = {sequence: [token.logprob for token in sequence.prompt_out[1:]] for sequence in asked}
    for progress in told:
        if progress.token is not None:
            logprobs[progress.sequence].append(progress.token.logprob)
    return [sequence.generated for sequence in asked], list(logprobs.values())


@pytest.mark.parametrize(
    ("shape", "ranks", "kernels"), [(SHAPE, 4, "yes"), (POST, 2, "no")], ids=["pre-4-kernels", "post-2-torch"]
)
def test_ranks_answer_as_one_process(tmp_path, shape, ranks, kernels):
    write_model(tmp_path, shape.model_copy(update={"vocabulary_size": 509}), tokenizer=False)
    wanted, wanted_logprobs = answers(tmp_path, kernels=kernels)
    found, logprobs = answers(tmp_path, kernels=kernels, tensor_parallel=ranks)
    assert found == wanted
    for own, one in zip(logprobs, wanted_logprobs, strict=True):
        assert own == pytest.approx(one, abs=1e-4)


def test_each_rank_holds_its_share_and_none_outlives_the_engine(folder):
    with engine_of(folder, tensor_parallel=2) as engine:
        computer = engine._computer
        assert isinstance(computer, ParallelComputer)
        assert "2 ranks" in engine.name
        (pid,) = computer.pids
        assert Path(f"/proc/{pid}").exists()
        weight = computer._own._model.layers[0].fc1.matrix.weight
        assert weight.shape == (SHAPE.ffn_size // 2, SHAPE.hidden_size)
    assert not Path(f"/proc/{pid}").exists()


def test_memory_of_a_ranks_pages_is_there_before_the_start_where_that_is_set(folder):
    def resident(**settings):
        with engine_of(folder, tensor_parallel=2, kernels="yes", kv_cache_bytes=400 << 20, **settings) as engine:
            (pid,) = engine._computer.pids
            return psutil.Process(pid).memory_info().rss

    assert 150 << 20 <= resident(kv_cache_pretouch=True) - resident() <= 250 << 20


def test_a_killed_rank_ends_what_is_asked_and_the_server(folder, tmp_path):
    with serving(folder, tmp_path / "log", "--tensor-parallel", "2", "--model-name", "tiny") as server:
        assert server.complete("Hello", max_tokens=4)["usage"]["completion_tokens"] <= 4
        (rank,) = psutil.Process(server.pid).children()
        rank.kill()
        answer = server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True})
        assert answer.status_code == 500
        assert "rank 1" in answer.text
        assert psutil.wait_procs([psutil.Process(server.pid)], timeout=60)[0][0].returncode in (1, None)
    assert "engine lost" in (tmp_path / "log").read_text()


def test_what_cannot_be_divided_is_refused(folder):
    with (
        pytest.raises(ValueError, match="tensor_parallel: found 3; the model's 4 attention heads"),
        engine_of(folder, tensor_parallel=3),
    ):
        pass


def test_a_pass_comes_through_a_pipe_as_it_was():
    work = Pass(
        *(np.arange(n, dtype=np.int64) for n in (5, 5, 5)), np.arange(6, dtype=np.int32).reshape(2, 3), np.array([4])
    )
    sent = io.BytesIO(encoded(work) * 2)
    for _ in range(2):
        found = decoded(sent.read)
        assert found is not None
        for name in ("tokens_N", "positions_N", "slots_N", "tables_SP", "rows_R"):
            assert np.array_equal(getattr(found, name), getattr(work, name))
    assert decoded(sent.read) is None
