"""The engine's answers are transformers', whatever else it computes meanwhile."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from opt_model.zeros import LARGE
from opt_serving.compute.native_computer import NativeComputer
from opt_serving.compute.torch_computer import TorchComputer
from opt_serving.engine import Refused, Sampling, Sequence
from opt_serving.engine.engine import Progress
from opt_serving.settings import PAGE
from support.engines import engine_of, greedy, prompts, run, until_ended
from support.served_models import POST, SHAPE, write_model
from support.shapes import OPT_125M

pytestmark = pytest.mark.integration
NEW = 20


@pytest.mark.parametrize("kernels", ["yes", "no"])
@pytest.mark.parametrize("shape", [SHAPE, POST], ids=["pre", "post"])
def test_greedy_ids_are_those_of_transformers_on_100_prompts(tmp_path, shape, kernels):
    hf = write_model(tmp_path, shape, tokenizer=False)
    wanted = prompts(100, 150, shape.vocabulary_size)
    with engine_of(tmp_path, kernels=kernels) as engine:
        assert isinstance(engine._computer, NativeComputer if kernels == "yes" else TorchComputer)
        sequences = [Sequence(prompt, Sampling(max_tokens=NEW)) for prompt in wanted]
        run(engine, sequences)
    for sequence in sequences:
        assert sequence.generated == greedy(hf, sequence.prompt, NEW)
        assert sequence.finish == "length"


def test_a_model_of_the_shape_of_125m_answers_as_transformers(tmp_path):
    hf = write_model(tmp_path, OPT_125M, tokenizer=False)
    asked = prompts(4, 80, 50265)
    with engine_of(tmp_path, kv_cache_bytes=None, max_sequences=4) as engine:
        sequences = [Sequence(prompt, Sampling(max_tokens=8, prompt_logprobs=0, logprobs=0)) for prompt in asked]
        run(engine, sequences)
    for sequence in sequences:
        assert sequence.generated == greedy(hf, sequence.prompt, 8)
        check_prompt_logprobs(hf, sequence)


@pytest.mark.parametrize("kernels", ["yes", "no"])
def test_every_log_probability_is_within_a_thousandth(hf, folder, kernels):
    with engine_of(folder, kernels=kernels) as engine:
        asked = [Sequence(p, Sampling(max_tokens=5, logprobs=3, prompt_logprobs=3)) for p in prompts(12, 150, 512)]
        told = run(engine, asked)
    for sequence in asked:
        check_prompt_logprobs(hf, sequence)
        tokens = [p.token for p in told if p.sequence is sequence and p.token is not None]
        reference = logprobs(hf, [*sequence.prompt, *sequence.generated])
        for at, token in enumerate(tokens, start=len(sequence.prompt) - 1):
            best = reference[at].topk(3)
            assert token.logprob == pytest.approx(float(reference[at, token.id]), abs=1e-3)
            assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-3)


def check_prompt_logprobs(hf: Any, sequence: Sequence) -> None:
    reference = logprobs(hf, sequence.prompt)
    assert [token.id for token in sequence.prompt_out] == sequence.prompt
    assert sequence.prompt_out[0].logprob is None
    for at, token in enumerate(sequence.prompt_out[1:]):
        assert token.logprob == pytest.approx(float(reference[at, token.id]), abs=1e-3)


@torch.inference_mode()
def logprobs(hf: Any, ids: list[int]) -> torch.Tensor:
    return torch.log_softmax(hf(torch.tensor([ids])).logits[0], -1)


def test_answers_do_not_depend_on_what_else_is_asked(folder):
    """Not in the last bit of a log probability: the kernels sum in one order, whatever a pass holds."""
    rng = random.Random(9)
    asked = prompts(40, 120, 512, seed=3)
    with engine_of(folder) as engine:
        assert isinstance(engine._computer, NativeComputer)
        alone = []
        for prompt in asked:
            sequence = Sequence(prompt, Sampling(max_tokens=NEW, logprobs=0))
            alone.append(tokens_of(sequence, run(engine, [sequence])))
    told: queue.Queue = queue.Queue()
    with engine_of(folder) as engine:
        kinds = [Sampling(max_tokens=NEW, logprobs=0, prompt_logprobs=rng.choice([None, 1])) for _ in asked]
        crowd = [Sequence(prompt, kind) for prompt, kind in zip(asked, kinds, strict=True)]
        noise = [Sequence(p, Sampling(max_tokens=50, temperature=1.0, seed=1)) for p in prompts(20, 200, 512, seed=4)]
        everything = [*crowd, *noise]
        rng.shuffle(everything)
        for sequence in everything:
            engine.submit(sequence, told.put)
            time.sleep(rng.random() * 0.004)
        said = until_ended(told, len(everything))
    assert [tokens_of(sequence, said) for sequence in crowd] == alone


def tokens_of(sequence: Sequence, said: list[Progress]) -> list[tuple[int, float | None]]:
    return [(p.token.id, p.token.logprob) for p in said if p.sequence is sequence and p.token is not None]


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_a_long_pass_gives_what_short_ones_give(folder, weights):
    """To the last bit, though the kernels work it off in parts and queries share passes in other groups."""
    asked, told = prompts(16, 150, 512), []
    for chunk in (16, 64, 4096):
        with engine_of(folder, weights=weights, prefill_chunk_tokens=chunk, max_sequences=16, kernels="yes") as engine:
            sequences = [Sequence(p, Sampling(max_tokens=3, logprobs=2, prompt_logprobs=2)) for p in asked]
            answers = run(engine, sequences)
            assert chunk != 4096 or engine.passes < 6
        told.append([(s.prompt_out, [p.token for p in answers if p.sequence is s]) for s in sequences])
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_a_server_of_compiled_kernels_has_no_torch(folder, weights):
    """It costs a second of every cold start and 200 MiB. In a process of its own: this one has torch."""
    command = [sys.executable, "-c", _WITHOUT_TORCH, folder, weights]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, ["5 []"], "")


_WITHOUT_TORCH = """
import queue, sys
from pathlib import Path
import opt_serving.server.running
from opt_serving.engine import Sampling, Sequence, open_engine
from opt_serving.settings import EngineSettings
engine = open_engine(Path(sys.argv[1]), EngineSettings(weights=sys.argv[2], kernels="yes", kv_cache_bytes=1 << 20))
asked = Sequence([5, 6, 7], Sampling(max_tokens=5, temperature=1.0, top_p=0.9, logprobs=2, prompt_logprobs=2))
told = queue.Queue()
engine.submit(asked, told.put)
while asked.finish is None:
    told.get(timeout=60)
engine.close()
print(len(asked.generated), sorted({"torch", "transformers", "scipy", "pandas"} & set(sys.modules)))
"""


def test_memory_of_pages_is_provided_while_there_is_nothing_to_do(folder):
    with engine_of(folder, kernels="yes", kv_cache_bytes=100 << 20) as engine:
        computer = engine._computer
        assert isinstance(computer, NativeComputer)
        deadline = time.monotonic() + 20
        while (computer._room.provided < len(computer._room.pages) or computer._moving) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not computer.prepare()
        sequence = Sequence(prompts(1, 100, 512)[0], Sampling(max_tokens=2))
        run(engine, [sequence])
        assert len(sequence.generated) == 2


@pytest.mark.parametrize(("seconds", "meanwhile"), [(1e-9, 4), (3600.0, 2)])
def test_those_that_decode_wait_as_long_for_prompts_as_is_set(folder, seconds, meanwhile):
    (short,), (long,) = prompts(1, 2, 512), prompts(1, 2, 512, seed=1)
    short, long = short + [5] * (100 - len(short)), long + [7] * (256 - len(long))
    decodes, comes = Sequence(short, Sampling(max_tokens=NEW)), Sequence(long, Sampling(max_tokens=1))
    with engine_of(folder, prefill_chunk_tokens=128, prefill_chunk_seconds=seconds) as engine:
        both_are_there = threading.Event()
        engine.submit(Sequence([2], Sampling(max_tokens=1)), lambda _: both_are_there.wait(60))
        told: queue.Queue[list[Progress]] = queue.Queue()
        for sequence in (decodes, comes):
            engine.submit(sequence, told.put)
        both_are_there.set()
        progress = until_ended(told, 2)
    assert [one.sequence for one in progress].index(comes) == 1 + meanwhile


def test_twice_as_many_pages_are_provided_ahead_as_a_burst_took(folder, monkeypatch):
    monkeypatch.setattr("opt_serving.compute.cache._AHEAD", 1)
    with engine_of(folder, kernels="yes", max_sequences=8) as engine:
        computer = engine._computer
        assert isinstance(computer, NativeComputer)
        run(engine, [Sequence(p, Sampling(max_tokens=2)) for p in prompts(8, 5 * PAGE, 512)])
        deadline = time.monotonic() + 20
        room = computer._room
        while room.provided < 3 * room.used and time.monotonic() < deadline:
            time.sleep(0.01)
        assert room.used >= 8
        assert not room.prepare()
        a_large_one = -(-LARGE // room.pages[0].nbytes)
        assert 3 * room.used <= room.provided <= min(len(room.pages) - 1, 3 * room.used + a_large_one)


def test_a_known_beginning_is_not_computed_again(folder):
    (prompt,) = prompts(1, 2, 512)
    prompt = prompt + list(range(10, 10 + 5 * PAGE))
    with engine_of(folder) as engine:
        first, again = (Sequence(prompt, Sampling(max_tokens=NEW)) for _ in range(2))
        longer = Sequence([*prompt[: 3 * PAGE], 7, 8, 9], Sampling(max_tokens=NEW))
        scored = Sequence(prompt, Sampling(max_tokens=NEW, prompt_logprobs=0))
        for sequence in (first, again, longer, scored):
            run(engine, [sequence])
    assert (first.reused, again.reused, longer.reused, scored.reused) == (0, 5 * PAGE, 3 * PAGE, 0)
    assert first.generated == again.generated == scored.generated


def test_several_answers_share_their_prompts_pages(folder):
    prompt = [2, *range(10, 10 + 4 * PAGE)]
    with engine_of(folder) as engine:
        first = Sequence(prompt, Sampling(max_tokens=4, temperature=1.0, seed=1))
        others = [Sequence(prompt, Sampling(max_tokens=4, temperature=1.0, seed=s), after=first) for s in (2, 3)]
        run(engine, [first, *others])
        assert [other.reused for other in others] == [4 * PAGE] * 2


def test_more_than_fits_waits_and_is_answered(folder):
    page = PAGE * SHAPE.layers * 2 * SHAPE.hidden_size * 4
    with engine_of(folder, kv_cache_bytes=6 * page, max_sequences=3) as engine:
        crowd = [Sequence(p, Sampling(max_tokens=NEW)) for p in prompts(30, 60, 512, seed=5)]
        run(engine, crowd)
        assert all(sequence.finish == "length" for sequence in crowd)
        assert engine.load().pages_used == 0


def test_what_can_never_be_served_is_refused_by_field(folder):
    page = PAGE * SHAPE.layers * 2 * SHAPE.hidden_size * 4
    with engine_of(folder, kv_cache_bytes=2 * page) as engine:
        for prompt, count, field in (
            ([], 1, "prompt"),
            ([512], 1, "prompt"),
            ([-1], 1, "prompt"),
            ([5] * 257, 1, "prompt"),
            ([5] * 250, 8, "max_tokens"),
            ([5] * 60, 10, "max_tokens"),
        ):
            with pytest.raises(Refused) as refused:
                engine.submit(Sequence(prompt, Sampling(max_tokens=count)), print)
            assert refused.value.field == field
        run(engine, [Sequence([5] * 60, Sampling(max_tokens=5))])


def test_the_last_position_can_be_used(hf, folder):
    prompt = [2, *([9, 11] * 127)]
    with engine_of(folder) as engine:
        sequence = Sequence(prompt, Sampling(max_tokens=2))
        run(engine, [sequence])
    assert len(prompt) + 2 == 257
    assert sequence.generated[:1] == greedy(hf, prompt, 1)


def test_a_cancelled_sequence_frees_its_slot(folder):
    told: queue.Queue = queue.Queue()
    with engine_of(folder, max_sequences=1) as engine:
        endless, next_one = (Sequence([2, 5], Sampling(max_tokens=250)), Sequence([2, 6], Sampling(max_tokens=2)))
        engine.submit(endless, told.put)
        engine.submit(next_one, told.put)
        told.get(timeout=60)
        engine.cancel(endless)
        until_ended(told, 2)
        assert (endless.finish, next_one.finish) == ("abort", "length")
        assert len(endless.generated) < 250
        assert engine.idle


def test_a_late_sequence_ends_with_its_deadline(folder):
    with engine_of(folder) as engine:
        late = Sequence([2], Sampling(max_tokens=5), deadline=time.monotonic() - 1)
        run(engine, [late])
        assert late.finish == "deadline"


def test_a_failing_pass_ends_its_sequences_and_not_the_engine(folder):
    with engine_of(folder) as engine:
        good, engine._computer.run = engine._computer.run, _fail  # type: ignore[method-assign]
        bad = Sequence([2], Sampling(max_tokens=5))
        run(engine, [bad])
        assert bad.finish == "error"
        assert "out of luck" in bad.error
        engine._computer.run = good  # type: ignore[method-assign]
        fine = Sequence([2], Sampling(max_tokens=5))
        run(engine, [fine])
        assert fine.finish == "length"


def _fail(_: object) -> None:
    raise RuntimeError("out of luck")


def test_closing_ends_everything_and_the_thread(folder):
    told: queue.Queue = queue.Queue()
    with engine_of(folder) as engine:
        sequences = [Sequence([2, i + 4], Sampling(max_tokens=200)) for i in range(20)]
        for sequence in sequences:
            engine.submit(sequence, told.put)
    assert {sequence.finish for sequence in sequences} <= {"abort", "length"}
    assert not any(thread.name == "engine" for thread in threading.enumerate())


@pytest.mark.parametrize("kernels", ["yes", "no"])
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_other_number_formats_stay_near(hf, folder, weights, kernels):
    with engine_of(folder, weights=weights, kernels=kernels) as engine:
        asked = [Sequence(p, Sampling(max_tokens=1, prompt_logprobs=0)) for p in prompts(10, 200, 512, seed=6)]
        run(engine, asked)
    for sequence in asked:
        reference = logprobs(hf, sequence.prompt)
        for at, token in enumerate(sequence.prompt_out[1:]):
            assert token.logprob == pytest.approx(float(reference[at, token.id]), abs=0.05)


def test_a_broken_directory_is_refused_with_the_reason(tmp_path: Path, folder: Path):
    from opt_serving.engine.opening import BrokenModel

    for name, content, said in (
        ("config.json", b"{", "config.json|JSON|Expecting"),
        ("config.json", b'{"model_type": "llama"}', "missing|another model"),
        ("model.safetensors", b"123", "header|safetensors|deserializ"),
    ):
        broken = tmp_path / f"{name}-{len(content)}"
        broken.mkdir()
        for file in folder.iterdir():
            (broken / file.name).write_bytes(content if file.name == name else file.read_bytes())
        with pytest.raises(BrokenModel, match=said), engine_of(broken):
            pass
    with pytest.raises(BrokenModel, match=r"config\.json"), engine_of(tmp_path / "nothing"):
        pass
