"""lm-evaluation-harness finds the same numbers through our server as with its own Hugging Face model in process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Tokenizer

from support.served_models import TEXT, Server

pytestmark = pytest.mark.integration
TASK = {
    "task": "local",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
PERPLEXITY = {
    "task": "local_text",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
}


def write_tasks(folder: Path) -> Path:
    words = " ".join(TEXT).split()
    documents = [
        {"text": " ".join(words[at : at + 9]), "choices": [f" {words[at + 9]}", " dog", " über x"], "label": at % 3}
        for at in range(20)
    ]
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    tasks = folder / "tasks"
    tasks.mkdir()
    for task in (TASK, PERPLEXITY):
        more = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
        (tasks / f"{task['task']}.yaml").write_text(json.dumps({**task, **more}))
    return tasks


def write_auto_tokenizer(model: Path) -> None:
    """What lm-eval's AutoTokenizer needs; OPT's own adds </s> at the start, which lm-eval leaves to add_bos_token."""
    tokenizer = GPT2Tokenizer(
        str(model / "vocab.json"), str(model / "merges.txt"), unk_token="<unk>", bos_token="</s>", eos_token="</s>",
        pad_token="<pad>",
    )  # fmt: skip
    tokenizer.save_pretrained(model)


def evaluate(folder: Path, kind: str, arguments: str, tasks: Path, *more: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "lm_eval", "--model", kind, "--model_args", arguments, "--tasks", "local,local_text",
        "--include_path", str(tasks), "--batch_size", "1", "--output_path", str(folder / kind), "--log_samples", *more,
    ]  # fmt: skip
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (folder / kind).rglob("results_*.json")
    found: dict[str, Any] = json.loads(results.read_text())["results"]
    samples = sorted((folder / kind).rglob("samples_*.jsonl"))
    found["samples"] = [json.loads(line)["resps"] for path in samples for line in path.read_text().splitlines()]
    return found


def test_the_harness_finds_the_same_numbers(folder: Path, server: Server, tmp_path: Path):
    folder = shutil.copytree(folder, tmp_path / "model")  # other tests have no use for a second form of the tokenizer
    write_auto_tokenizer(folder)
    tasks = write_tasks(tmp_path)
    theirs = evaluate(tmp_path, "hf", f"pretrained={folder},dtype=float32,max_length=255", tasks, "--device", "cpu")
    address = f"model=tiny,base_url={server.url}/v1/completions,tokenizer={folder},tokenizer_backend=huggingface"
    ours = evaluate(tmp_path, "local-completions", f"{address},num_concurrent=4,max_length=256", tasks)
    for task in ("local", "local_text"):
        for name, value in theirs[task].items():
            if isinstance(value, float):
                assert ours[task][name] == pytest.approx(value, rel=1e-4), name
    for one, other in zip(numbers(theirs["samples"]), numbers(ours["samples"]), strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def numbers(nested: Any) -> list[float]:
    """Every log likelihood, and whether it was greedy, of nested lists of texts."""
    if isinstance(nested, list):
        return [number for part in nested for number in numbers(part)]
    return [float({"True": 1, "False": 0}.get(str(nested), nested))]
