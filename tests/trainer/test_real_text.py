"""Training on real text: this machine's manual pages, OPT-125M's recipe scaled down, below a stated validation loss."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from opt_api.training.data import (
    DataSpec,
    Deduplication,
    Source,
    Tokenizer,
    TrainedTokenizer,
    Validation,
)
from opt_dataprep.work.driver import Prepared, prepare
from opt_store import open_store
from opt_trainer.checkpoint.job import StoreAddress
from opt_trainer.data.dataset import Dataset, open_dataset
from opt_trainer.program.config import WorkerConfig
from opt_trainer.program.worker import run
from support.plans import tiny_plan
from support.recorder import Recorder, lines_of

MANUAL = Path("/usr/share/man/man1")
PAGES, SEQUENCE, BATCH, STEPS, VOCABULARY = 60, 64, 16, 240, 512
BELOW_NATS = 4.8
"""Stated validation loss in nats per token; 4.54 was seen (the pages differ by machine), 6.24 is chance."""

PLAN = tiny_plan(
    model={
        "layers": 2, "heads": 4, "hiddenSize": 128, "ffnSize": 512, "vocabularySize": VOCABULARY,
        "maxPositions": SEQUENCE, "initStd": 0.02, "dropout": 0.1, "attentionDropout": 0.1,
    },
    data={"dataset": "file:///data/manifest.json", "sequenceLength": SEQUENCE},
    optimisation={
        "learningRate": 6e-3, "batchTokens": BATCH * SEQUENCE, "totalTokens": STEPS * BATCH * SEQUENCE,
        "warmupTokens": 10 * BATCH * SEQUENCE,
    },
    checkpointing={"interval": {"steps": 1000}, "export": False},
    evaluation={"intervalSteps": STEPS, "maxBatches": 40},
)  # fmt: skip


def manual_pages(folder: Path) -> Path:
    """A folder with some of this machine's manual pages, every k-th in the order of their names."""
    pages = [page for page in sorted(MANUAL.glob("*.1.gz")) if page.stat().st_size > 2000]
    if len(pages) < PAGES:
        pytest.fail(f"{MANUAL} has {len(pages)} pages above 2 kB, {PAGES} are needed: apt-get install man-db manpages")
    folder.mkdir()
    for page in pages[:: len(pages) // PAGES][:PAGES]:
        shutil.copy(page, folder / page.name)
    return folder


def prepared(folder: Path) -> Prepared:
    spec = DataSpec(
        sources=(Source(name="manual", uri=f"file://{manual_pages(folder / 'pages')}/", format="text"),),
        normalisation=("utf8", "man", "whitespace"),
        tokenizer=Tokenizer(train=TrainedTokenizer(vocabulary_size=VOCABULARY)),
        sequence_length=SEQUENCE,
        validation=Validation(fraction=0.08),
        deduplication=Deduplication(near_enabled=False),
    )
    (folder / "store").mkdir()
    return prepare(spec, f"file://{folder}/store", workers=1)


def unigram_nats(dataset: Dataset) -> float:
    """Cross entropy of the held-out tokens under their own frequencies: what no model without context goes below."""
    blocks = dataset.validation()["manual"]
    counts = Counter(blocks.read(range(len(blocks))).reshape(-1).tolist())
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


@pytest.mark.integration
def test_training_on_manual_pages_falls_below_the_stated_loss(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    key = found.uri.removeprefix(f"file://{tmp_path}/store/")
    dataset = open_dataset(open_store(f"file://{tmp_path}/store"), key, tmp_path / "shards", PLAN)
    series = tmp_path / "series"
    store = StoreAddress(url=f"file://{tmp_path}/store")
    config = WorkerConfig(PLAN, store, 0, 0, 1, 0, tmp_path / "work", found.uri, threads=torch.get_num_threads())
    report = run(config, lambda *_: Recorder(series))
    assert report.cause == "Completed", report.message
    losses = next(line["losses"] for line in lines_of(series) if "validation" in line)
    assert isinstance(losses, dict)
    assert losses["manual"] < BELOW_NATS
    assert losses["manual"] < unigram_nats(dataset) - 0.5, found.manifest.train_blocks
