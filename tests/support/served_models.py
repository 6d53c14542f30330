"""Small random OPT directories with a tokenizer, as transformers writes them, and servers of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from opt_api.architecture import Architecture
from support.hugging_face import reference
from support.processes import free_ports, running

SHAPE = Architecture(
    layers=3, heads=4, hidden_size=64, ffn_size=256, embedding_size=64, vocabulary_size=512, max_positions=256
)  # fmt: skip
POST = SHAPE.model_copy(update={"norm_position": "post", "embedding_size": 32})
"""As the 350M model: norms after each half, narrow embedding."""
TEXT = [
    "The quick brown fox jumps over the lazy dog. Hello, my dog is cute; so is yours!",
    "Größe, naïve café, 日本語のテキスト, emoji 🙂🚀 and ﬁ ligatures.",
    "def main() -> None:\n    print('hello world')\n",
] * 3
OPTCTL = str(Path(sys.executable).with_name("optctl"))
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def write_tokenizer(folder: Path, size: int) -> None:
    """A byte-level BPE with OPT's special ids, trained on a few sentences: vocab.json and merges.txt."""
    core = Tokenizer(BPE())
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(TEXT, trainer)
    core.model.save(str(folder))


def write_model(folder: Path, shape: Architecture = SHAPE, *, seed: int = 1, tokenizer: bool = True) -> Any:
    """Write a directory; returns transformers' model of it."""
    model = reference(shape, seed)
    model.save_pretrained(folder)
    if tokenizer:
        write_tokenizer(folder, min(400, shape.vocabulary_size))
    return model


@dataclass
class Server:
    """A running `optctl serve`."""

    url: str
    pid: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def post(self, path: str, body: Any, **more: Any) -> requests.Response:
        """POST a JSON document."""
        return requests.post(self.url + path, json=body, headers=self.headers, timeout=120, **more)

    def get(self, path: str) -> requests.Response:
        """GET."""
        return requests.get(self.url + path, headers=self.headers, timeout=120)

    def complete(self, prompt: Any, **fields: Any) -> dict[str, Any]:
        """A completion that must succeed, greedy unless said."""
        answer = self.post("/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a stream; `[DONE]` must be the last."""
        with self.post("/v1/completions", {"stream": True, **body}, stream=True) as answer:
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line.decode() for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        yield from (json.loads(line.removeprefix("data: ")) for line in lines[:-1])

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


@contextmanager
def serving(source: Path | str, log: Path, *options: str, wait: bool = True, **environment: str) -> Iterator[Server]:
    """Run a server from when it is ready (or listens) to the end of the block."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [OPTCTL, "serve", str(source), "--port", str(port), "--threads", "1", *options]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with running(command, log, lambda: _answers(url, wait), environment=variables, deadline_s=180) as process:
        yield Server(url, process.pid, log)


def _answers(url: str, wait: bool) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).status_code == 200 or not wait
    except requests.RequestException:
        return False
