"""Each engine behind the same two calls: begin, and a run of a few prompts that notes when each token came.

Run by `serving.py` in a process of its own, with the Python that has the engine: it needs nothing of this project but
for our own engine. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol

STARTED = time.perf_counter()
SERVER_CORE, CLIENT_CORE = 0, 1
Times = list[list[float]]
"""For each prompt, when each of its tokens came."""


class Engine(Protocol):
    """What is measured."""

    def run(self, prompts: list[list[int]], count: int) -> Times:
        """Greedy, exactly `count` tokens each."""


class Ours:
    """This project's engine; its thread has a core, the one that asks has another."""

    settings: ClassVar[dict[str, Any]] = {"max_sequences": 32, "kv_cache_bytes": 4 << 30}

    def __init__(self, model: Path, precision: str) -> None:
        from opt_serving.engine import open_engine
        from opt_serving.settings import EngineSettings

        self._engine = open_engine(model, EngineSettings(weights=precision, **self.settings))  # type: ignore[arg-type]
        os.sched_setaffinity(0, {CLIENT_CORE % (os.cpu_count() or 1)})

    def run(self, prompts: list[list[int]], count: int) -> Times:
        from queue import SimpleQueue

        from opt_serving.engine import Sampling, Sequence

        told: SimpleQueue[Any] = SimpleQueue()
        sequences = [Sequence(prompt, Sampling(max_tokens=count)) for prompt in prompts]
        times: dict[Any, list[float]] = {sequence: [] for sequence in sequences}
        for sequence in sequences:
            self._engine.submit(sequence, lambda news: told.put((time.perf_counter(), news)))
        open_ones = len(sequences)
        while open_ones:
            now, news = told.get()
            for progress in news:
                times[progress.sequence].append(now)
                open_ones -= progress.finish is not None
        return [times[sequence] for sequence in sequences]


class OursAsVllm(Ours):
    """Set as vLLM is: all memory of the cache beforehand, and whole chunks of prompts whoever waits for them."""

    settings: ClassVar[dict[str, Any]] = {
        **Ours.settings, "kv_cache_pretouch": True, "prefill_chunk_seconds": 3600.0
    }  # fmt: skip


class Transformers:
    """`generate` of transformers over a static batch."""

    def __init__(self, model: Path, precision: str) -> None:
        import torch
        from transformers import OPTForCausalLM

        torch.set_num_threads(1)
        self._torch = torch
        self._model = OPTForCausalLM.from_pretrained(model, dtype=getattr(torch, precision)).eval()

    def run(self, prompts: list[list[int]], count: int) -> Times:
        times: list[float] = []

        def note(ids: Any, scores: Any) -> Any:
            times.append(time.perf_counter())
            return scores

        with self._torch.inference_mode():
            ids = self._torch.tensor(prompts)
            self._model.generate(
                ids, attention_mask=self._torch.ones_like(ids), max_new_tokens=count, do_sample=False,
                eos_token_id=None, pad_token_id=1, logits_processor=[note],
            )  # fmt: skip
        return [times] * len(prompts)


class CTranslate2:
    """CTranslate2's generator over a static batch; the model was converted beforehand."""

    def __init__(self, model: Path, precision: str) -> None:
        import ctranslate2

        self._generator = ctranslate2.Generator(
            str(model.with_name(f"{model.name}-ctranslate2")), compute_type=precision, intra_threads=1, inter_threads=1
        )

    def run(self, prompts: list[list[int]], count: int) -> Times:
        times: Times = [[] for _ in prompts]

        def note(step: Any) -> bool:
            times[step.batch_id].append(time.perf_counter())
            return False

        texts = [[f"t{i}" for i in prompt] for prompt in prompts]
        self._generator.generate_batch(
            texts, max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False, callback=note,
            end_token="t1",
        )  # fmt: skip
        return times


class Vllm:
    """vLLM's engine in this process."""

    def __init__(self, model: Path, precision: str) -> None:
        from vllm import EngineArgs, LLMEngine, SamplingParams

        self._parameters = SamplingParams
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(model), skip_tokenizer_init=True, dtype=precision, max_num_seqs=32, max_model_len=2048,
                enable_prefix_caching=False, disable_log_stats=True, enforce_eager=True,
            )
        )  # fmt: skip
        self._number = 0

    def run(self, prompts: list[list[int]], count: int) -> Times:
        how = self._parameters(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
        times: dict[str, list[float]] = {}
        for prompt in prompts:
            self._number += 1
            times[str(self._number)] = []
            self._engine.add_request(str(self._number), {"prompt_token_ids": prompt}, how)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                made = times[output.request_id]
                made += [time.perf_counter()] * (len(output.outputs[0].token_ids) - len(made))
        return list(times.values())


REST_S, SETTLED_S = 1.0, 60.0
"""Between two cases, for every engine: what a server does while it is not asked (ours has the system clear memory); and
the longest that an engine is left alone before the first of them."""
IDLE = 0.05
"""Share of a processor that an engine with nothing to do takes at most."""
ENGINES = {
    "ours": Ours,
    "ours as vllm": OursAsVllm,
    "transformers": Transformers,
    "ctranslate2": CTranslate2,
    "vllm": Vllm,
}


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Load, make a first token, warm up, then measure every case."""
    os.sched_setaffinity(0, {SERVER_CORE})
    engine: Engine = ENGINES[job["engine"]](Path(job["model"]), job["precision"])
    rng = random.Random(job["seed"])
    engine.run([[2, 5, 7]], 1)
    cold = time.perf_counter() - STARTED
    engine.run([_prompt(rng, 40)], 4)
    settled = _settled()
    cases = {f"{c}x{p}": _measure(engine, rng, c, p, job["tokens"]) for c, p in job["cases"]}
    return {"cold": cold, "settled": settled, "rss": _peak_mib(), "cases": cases}


def _settled() -> float:
    """Leave the engine alone until it does nothing (vLLM has provided its cache before it is there at all).

    Returns: Seconds since the process began.
    """
    while (begun := time.perf_counter()) - STARTED < SETTLED_S:
        used = time.process_time()
        time.sleep(REST_S / 4)
        if time.process_time() - used < IDLE * REST_S / 4:
            break
    return begun - STARTED


def _peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin with what its parent had when it was forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _measure(engine: Engine, rng: random.Random, concurrency: int, length: int, count: int) -> dict[str, Any]:
    prompts = [_prompt(rng, length) for _ in range(concurrency)]
    time.sleep(REST_S)
    begun = time.perf_counter()
    times = engine.run(prompts, count)
    assert all(len(one) == count for one in times), [len(one) for one in times]
    last_first = max(one[0] for one in times)
    after = [at for one in times for at in one if at > last_first]
    gaps = [b - a for one in times for a, b in pairwise(one)]
    return {
        "decode": len(after) / (max(after) - last_first),
        "prefill": concurrency * length / (last_first - begun),
        "answers": concurrency * count / (max(one[-1] for one in times) - begun),
        "first": [one[0] - begun for one in times],
        "gaps": gaps,
    }


def _prompt(rng: random.Random, length: int) -> list[int]:
    return [2, *(rng.randrange(4, 50000) for _ in range(length - 1))]


if __name__ == "__main__":
    out = os.dup(1)
    os.dup2(2, 1)  # what engines print is no result
    os.write(out, json.dumps(main(json.loads(sys.argv[1]))).encode() + b"\n")
    os._exit(0)
