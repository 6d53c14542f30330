"""Serve OPT-125M with random weights: our engine beside transformers, CTranslate2 and vLLM's CPU build.

One thread computes, pinned to a core; the client has another. Every engine runs in a process of its own, one after the
other in each round. Peers live in environments of their own: OPT_PEERS_PYTHON has CTranslate2 and transformers'
converter, OPT_VLLM_PYTHON has vLLM; a peer whose environment is not named is left out, and the notes say so.
Groups of cases, for runs of some minutes each: `--only float32-32` (precision, tokens of a prompt).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from common import OURS, Case, case_of, interleaved, run

CONCURRENCY, QUICK_CONCURRENCY = (1, 8, 32), (1, 8)
LENGTHS = (32, 256, 1024)
"""Tokens of a prompt."""
PRECISIONS = ("float32", "bfloat16", "int8")
PEERS = {
    "float32": ("transformers", "ctranslate2", "vllm"),
    "bfloat16": ("transformers", "vllm"),
    "int8": ("ctranslate2",),
}
AS_VLLM = "ours as vllm"
"""Our engine with vLLM's settings, beside it where they differ most."""
PYTHONS = {"ctranslate2": "OPT_PEERS_PYTHON", "vllm": "OPT_VLLM_PYTHON"}
TOKENS, REPEATS, QUICK_REPEATS = 32, 5, 1
MEMORY = "memory"
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
WEIGHTS = 12 * 7_077_888 + 50_272 * 768
"""Weights that a token passes through: those of the blocks' matrices and of the head."""
BUSY_PERCENT, PATIENCE_S = 15.0, 120.0
_PARTS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_OMP_THREADS_BIND": "0", "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip


def group(precision: str, length: int) -> Callable[[bool], list[Case]]:
    """Measure one precision with prompts of one length.

    Raises:
        SystemExit: The machine has other work.
    """

    def measure(quick: bool) -> list[Case]:
        refuse_when_busy()
        repeats = QUICK_REPEATS if quick else REPEATS
        cases = [f"{c}x{length}" for c in (QUICK_CONCURRENCY if quick else CONCURRENCY)]
        with tempfile.TemporaryDirectory(prefix="opt-bench-") as folder:
            model = Path(folder) / "opt-125m"
            write_model(model)
            return _of_precision(model, precision, cases, repeats, _compiled_reader(Path(folder)))

    return measure


def refuse_when_busy() -> None:
    """Wait a while for the machine to be quiet; figures of a busy one are of no use."""
    until = time.monotonic() + PATIENCE_S
    while (busy := psutil.cpu_percent(interval=2.0)) > BUSY_PERCENT:
        if time.monotonic() > until:
            sys.exit(
                f"refused: other programs use {busy:.0f} % of the processors; at most {BUSY_PERCENT:.0f} % is allowed"
            )


def write_model(model: Path) -> None:
    """Random weights as transformers writes them, converted for CTranslate2 where it is there."""
    from transformers import OPTConfig, OPTForCausalLM

    OPTForCausalLM(OPTConfig()).save_pretrained(model)
    (model / "vocab.json").write_text(json.dumps({f"t{i}": i for i in range(50272)}))
    if python := os.environ.get("OPT_PEERS_PYTHON"):
        subprocess.run([python, "-c", _CONVERT, str(model)], check=True, capture_output=True)


_CONVERT = """
import sys, pathlib, ctranslate2, torch, transformers
from ctranslate2.converters import transformers as t
model = sys.argv[1]
class Names:
    bos_token, eos_token, unk_token = "t2", "t1", "t3"
    def get_vocab(self): return {f"t{i}": i for i in range(50272)}
loader = t.OPTLoader()
spec = loader(transformers.OPTForCausalLM.from_pretrained(model, dtype=torch.float32), Names())
spec.validate()
spec.optimize(quantization=None)
out = pathlib.Path(model + "-ctranslate2"); out.mkdir()
spec.save(str(out))
"""


def _of_precision(model: Path, precision: str, cases: list[str], repeats: int, reader: Path) -> list[Case]:
    runners: dict[str, Callable[[], dict[str, Any]]] = {
        MEMORY: lambda: {"read": _read(reader)},
        OURS: _runner(OURS, model, precision, cases),
    }
    missing = []
    if "vllm" in PEERS[precision] and cases[0].endswith("x1024"):
        runners[AS_VLLM] = _runner(AS_VLLM, model, precision, cases)
    for peer in PEERS[precision]:
        if (peer in PYTHONS and not os.environ.get(PYTHONS[peer])) or _takes_hours(peer, precision):
            missing.append(peer)
        else:
            runners[peer] = _runner(peer, model, precision, cases)
    results = interleaved(runners, repeats)
    limits = [result["read"] for result in results.pop(MEMORY)]
    notes = f"not measured: {', '.join(missing)}" if missing else ""
    read = "512 MiB, 1 to 16 streams, the best; once in each round"
    return [
        case_of("memory read by one thread (the limit)", "GB/s", "higher", {OURS: limits}, read),
        *(case for name in cases for case in _cases(name, precision, results, limits, notes)),
        case_of(
            f"cold start to first token, {precision}, {cases[0]}",
            "s",
            "lower",
            _each(results, lambda r: r["cold"]),
            notes,
        ),
        case_of(
            f"start until it has nothing to do, {precision}",
            "s",
            "lower",
            _each(results, lambda r: r["settled"]),
            notes,
        ),
        case_of(f"peak RSS, {precision}, to {cases[-1]}", "MiB", "lower", _each(results, lambda r: r["rss"]), notes),
    ]


def _takes_hours(peer: str, precision: str) -> bool:
    """Torch's own bfloat16 products on a processor without such units: two tokens a second."""
    slow = (peer, precision) == ("transformers", "bfloat16")
    return slow and not {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split())


def _runner(engine: str, model: Path, precision: str, cases: list[str]) -> Callable[[], dict[str, Any]]:
    python = os.environ.get(PYTHONS.get(engine, ""), sys.executable)
    numbers = [[int(part) for part in case.split("x")] for case in cases]
    job = {"engine": engine, "model": str(model), "precision": precision, "cases": numbers, "tokens": TOKENS, "seed": 1}

    def one_round() -> dict[str, Any]:
        script = str(Path(__file__).with_name("serving_peers.py"))
        done = subprocess.run(
            [python, script, json.dumps(job)], capture_output=True, text=True, check=False, env={**os.environ, **_PARTS}
        )
        if done.returncode:
            raise RuntimeError(f"{engine} {precision} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    return one_round


def _cases(
    name: str, precision: str, results: Mapping[str, Sequence[dict[str, Any]]], limits: Sequence[float], notes: str
) -> list[Case]:
    label = f"{name} {precision}"
    made = [
        *(
            case_of(f"{what} {label}", "tok/s", "higher", _each(results, lambda r, k=what: r["cases"][name][k]), notes)
            for what in ("decode", "prefill", "answers")
        ),
        *(
            case_of(
                f"{what} p{share} {label}", "ms", "lower",
                _each(results, lambda r, k=key, s=share: 1e3 * _percentile(r["cases"][name][k], s)), notes,
            )
            for what, key in (("first token", "first"), ("between tokens", "gaps"))
            for share in (50, 99)
        ),
    ]  # fmt: skip
    if name == "1x32":
        most = [limit * 1e9 / (WEIGHTS * BYTES[precision]) for limit in limits]
        shares = {
            engine: [100 * value / best for value, best in zip(values, most, strict=True)]
            for engine, values in _each(results, lambda r: r["cases"][name]["decode"]).items()
        }
        told = f"limit {statistics.median(most):.1f} tok/s, of the round's own"
        made.append(case_of(f"share of the bandwidth limit {label}", "%", "higher", shares, told))
    return made


def _each(results: Mapping[str, Sequence[dict[str, Any]]], value: Callable[..., float]) -> dict[str, list[float]]:
    return {engine: [value(result) for result in found] for engine, found in results.items()}


def _percentile(values: Sequence[float], share: int) -> float:
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def _compiled_reader(folder: Path) -> Path:
    program = folder / "read"
    source = str(Path(__file__).with_name("serving_read.cpp"))
    subprocess.run(["g++", "-O3", "-march=native", "-std=c++17", source, "-o", str(program)], check=True)
    return program


def _read(program: Path) -> float:
    """How fast one thread reads memory, GB/s, from one place and from several at once; the best is the limit.

    It changes by half within an hour on a machine that is shared, so that each round has its own.
    """
    return max(map(float, subprocess.check_output([program], text=True).split()))


if __name__ == "__main__":
    run(
        "serving", {f"{precision}-{length}": group(precision, length) for length in LENGTHS for precision in PRECISIONS}
    )
