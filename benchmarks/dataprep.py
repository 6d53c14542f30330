"""Manual pages from JSON lines to token shards, with one and two workers, beside datatrove on the same files.

Both deduplicate by MinHash and encode with the same vocabulary; ours also drops exact duplicates, verifies candidates,
packs, permutes, holds out and writes a manifest. The pages are those of this machine. datatrove is installed into an
environment of its own under ${OPT_OPERATOR_CACHE:-~/.cache/opt-operator} the first time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import OURS, ROOT, Case, case_of, interleaved, measured, run
from dataprep_truth import FILES, judge, read_corpus, similar_pairs, write_corpus

VOCABULARY = ROOT / "../shared/tokenizer"
DATATROVE = ("datatrove[io,processing]==0.10.*", "spacy")
"""spacy splits words for its MinHash, by its own default."""
SIZE, QUICK_SIZE = 1 << 40, 8_000_000
"""Bytes of text at most; all pages there are, or few."""
REPEATS, QUICK_REPEATS = 3, 1
THRESHOLD = 0.95
BANDS = {"datatrove": (14, 8), "datatrove 8x16": (8, 16)}
"""datatrove's default, and our bands in its code."""
TOKENISED = 20_000_000
"""Bytes of text that the encoders are timed on."""


def measure(quick: bool) -> Sequence[Case]:
    """Return the cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_corpus(folder / "corpus", QUICK_SIZE if quick else SIZE)
        write_corpus(folder / "quarter", size // 4)
        tokenizer = write_tokenizer(folder / "tokenizer.json")
        repeats = QUICK_REPEATS if quick else REPEATS
        return [
            *end_to_end(folder, size, tokenizer, repeats),
            *encoding(folder, repeats),
            *memory(folder, repeats),
        ]


def end_to_end(folder: Path, size: int, tokenizer: Path, repeats: int) -> list[Case]:
    """Speed, memory, and what was found, with one and with two workers."""
    texts = {name: " ".join(text.split()) for name, text in read_corpus(folder / "corpus").items()}
    pairs = similar_pairs(texts, THRESHOLD)
    cases: list[Case] = []
    for workers in (1, 2):
        runners: dict[str, Callable[[], dict[str, Any]]] = {OURS: ours(folder / "corpus", workers)}
        for name, bands in BANDS.items():
            if workers == 1 or name == "datatrove":
                runners[name] = datatrove(folder, tokenizer, workers, bands)
        results = interleaved(runners, repeats)
        notes = f"{size / 1e6:.1f} MB of text in {FILES} files, {len(texts)} documents"

        def add(
            case: str, unit: str, better: Any, value: Callable[[dict[str, Any]], float], notes: str = notes
        ) -> None:
            found = {name: [value(one) for one in many] for name, many in results.items()}  # noqa: B023
            cases.append(case_of(f"{case}, {workers} workers", unit, better, found, notes))  # noqa: B023

        add("end to end", "MB/s/core", "higher", lambda one: size / 1e6 / one["seconds"] / workers)  # noqa: B023
        add("largest process", "MiB", "lower", lambda one: one["peak_rss_mib"])
        if workers == 1:
            answer = f"{len(pairs)} pairs at Jaccard >= {THRESHOLD} of 5-word shingles, by brute force"
            for what in ("recall", "precision", "removed"):
                better = "lower" if what == "removed" else "higher"
                add(what, "share" if what != "removed" else "documents", better,
                    lambda one, what=what: judge(set(one["removed"]), pairs, len(texts))[what], answer)  # fmt: skip
    return cases


def encoding(folder: Path, repeats: int) -> list[Case]:
    """Encoding alone, one core."""
    names = {OURS: "FastEncoder", "tokenizers": "ReferenceEncoder"}
    runners = {
        name: lambda encoder=encoder: measured(__file__, {"encode": encoder, "corpus": str(folder / "corpus")})
        for name, encoder in names.items()
    }
    results = interleaved(runners, max(repeats, 1))
    values = {name: [one["mb_per_second"] for one in many] for name, many in results.items()}
    return [case_of("encode with OPT's vocabulary", "MB/s/core", "higher", values, f"at most {TOKENISED / 1e6:.0f} MB")]


def memory(folder: Path, repeats: int) -> list[Case]:
    """The largest process at a quarter of the corpus, given as peer, and at the whole."""
    runners = {OURS: ours(folder / "corpus", 2), "quarter of the corpus": ours(folder / "quarter", 2)}
    results = interleaved(runners, max(repeats - 1, 1))
    values = {name: [one["peak_rss_mib"] for one in many] for name, many in results.items()}
    return [case_of("largest process, whole and quarter", "MiB", "lower", values, "our own at two sizes, 4x apart")]


def ours(corpus: Path, workers: int) -> Callable[[], dict[str, Any]]:
    """A runner of our pipeline."""
    return lambda: measured(__file__, {"corpus": str(corpus), "workers": workers}, timeout_s=7200)


def datatrove(folder: Path, tokenizer: Path, workers: int, bands: tuple[int, int]) -> Callable[[], dict[str, Any]]:
    """A runner of datatrove's pipeline, in its own environment and an empty folder."""

    def one() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            job = {"source": str(folder / "corpus"), "folder": work, "tokenizer": str(tokenizer), "tasks": FILES}
            job |= {"workers": workers, "bands": bands[0], "rows": bands[1]}
            command = [str(datatrove_python()), str(Path(__file__).with_name("dataprep_datatrove.py")), json.dumps(job)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=7200)
            if done.returncode:
                raise RuntimeError(f"datatrove ended with {done.returncode}:\n{done.stderr[-3000:]}")
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found

    return one


def datatrove_python() -> Path:
    """The interpreter of datatrove's environment, made if it is not there."""
    cache = Path(os.environ.get("OPT_OPERATOR_CACHE") or "~/.cache/opt-operator").expanduser()
    folder = cache / "datatrove-0.10"
    python = folder / "bin/python"
    if not python.exists() or subprocess.run([python, "-c", "import datatrove, orjson, spacy"], check=False).returncode:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *DATATROVE], check=True)
    return python


def write_tokenizer(path: Path) -> Path:
    """OPT's vocabulary as one file for `tokenizers`."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    model = BPE.from_file(str(VOCABULARY / "gpt2-vocab.json"), str(VOCABULARY / "gpt2-merges.txt"))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    tokenizer.save(str(path))
    return path


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """What runs in a process of its own: our pipeline, or one of the encoders."""
    return encode(job) if "encode" in job else prepare_all(job)


def prepare_all(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare the corpus into an empty store."""
    from opt_api.training.data import DataSpec, Source, Tokenizer, TokenizerFiles
    from opt_dataprep.work.driver import prepare

    files = TokenizerFiles(
        vocab_uri=(VOCABULARY / "gpt2-vocab.json").resolve().as_uri(),
        merges_uri=(VOCABULARY / "gpt2-merges.txt").resolve().as_uri(),
    )
    source = Source(name="man", uri=Path(job["corpus"]).as_uri())
    data = DataSpec(sources=(source,), tokenizer=Tokenizer(files=files), part_bytes=8 << 20)
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        prepared = prepare(data, Path(store).as_uri(), workers=job["workers"])
        seconds = time.perf_counter() - started
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return {
            "seconds": seconds,
            "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used),
            "peak_rss_mib": max(one.ru_maxrss for one in used) / 1024,
            "removed": removed(prepared.uri),
        }


def removed(uri: str) -> list[str]:
    """Ids of the documents that our stages dropped as duplicates, found through the places of the others."""
    import pyarrow.parquet as pq

    from opt_dataprep.dedup.drops import dropped_rows
    from opt_dataprep.steps.documents import TEXTS
    from opt_dataprep.work.preparation import load_preparation
    from opt_dataprep.work.results import commits_of, entry
    from opt_store import open_store

    folder, _, identity = uri.rpartition("/")[0].removeprefix("file://").rpartition("/")
    store = open_store(f"file://{folder.removesuffix('/data')}")
    preparation = load_preparation(store, f"data/{identity}/plan.json")
    ids = []
    for part, commit in enumerate(commits_of(preparation, "read")):
        table = pq.read_table(Path(folder) / entry(commit, TEXTS).key, columns=["slice", "position"])
        places = list(zip(table["slice"].to_pylist(), table["position"].to_pylist(), strict=True))
        for row in dropped_rows(preparation, part)["row"].tolist():
            piece = preparation.plan.parts[part].slices[places[row][0]]
            planned = preparation.plan.objects[piece.object]
            with Path(f"{planned.uri.removeprefix('file://')}/{planned.key}").open("rb") as file:
                file.seek(places[row][1])
                ids.append(json.loads(file.readline())["id"])
    return ids


def encode(job: dict[str, Any]) -> dict[str, Any]:
    """Time one encoder over the corpus."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from opt_dataprep.tokens import encoders
    from opt_dataprep.tokens.vocabulary import parse_vocabulary

    files = [VOCABULARY / "gpt2-vocab.json", VOCABULARY / "gpt2-merges.txt"]
    vocabulary = parse_vocabulary(files[0].read_bytes(), files[1].read_bytes(), (str(files[0]), str(files[1])))
    encoder = getattr(encoders, job["encode"])(vocabulary)
    texts, size = [], 0
    for text in read_corpus(Path(job["corpus"])).values():
        if size >= TOKENISED:
            break
        texts.append(text)
        size += len(text.encode())
    started = time.perf_counter()
    for text in texts:
        encoder.encode(text)
    return {"mb_per_second": size / 1e6 / (time.perf_counter() - started)}


if __name__ == "__main__":
    run("dataprep", measure, worker)
