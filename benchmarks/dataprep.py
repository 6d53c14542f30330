"""Manual pages from JSON lines to token shards, with one and two workers, beside datatrove on the same files.

Both deduplicate by MinHash and encode with the same vocabulary; ours also drops exact duplicates, verifies candidates,
packs, permutes, holds out and writes a manifest. The pages are those of this machine. datatrove is installed into an
environment of its own under ${OPT_OPERATOR_CACHE:-~/.cache/opt-operator} the first time.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from common import OURS, ROOT, Case, case_of, interleaved, measured, run
from dataprep_truth import FILES, judge, read_corpus, similar_pairs, write_corpus

VOCABULARY = ROOT / "../shared/tokenizer"
DATATROVE = ("datatrove[io,processing]==0.10.*", "spacy")
"""spacy splits words for its MinHash, by its own default."""
LARGE, SMALL, QUICK = 101_000_000, 12_000_000, 3_000_000
"""Bytes of text: once with everything, several times with few, and for a test of the program."""
MEMORY_SIZES, QUICK_MEMORY_SIZES = (120_000_000, 480_000_000), (3_000_000, 12_000_000)
REPEATS, LARGE_REPEATS = 5, {1: 1, 2: 3}
"""Rounds of the small corpus and of the encoders; of the large one by workers: one keeps datatrove busy for minutes."""
THRESHOLD = 0.95
BANDS = {"datatrove": (14, 8), "datatrove 8x16": (8, 16)}
"""datatrove's default, and our bands in its code."""
TOKENISED = 20_000_000
"""Bytes of text that the encoders are timed on."""
PART_BYTES = 8 << 20
"""Parts of the timed runs: at the default of 128 MiB so small a corpus would be one part, and one worker's."""


def large(workers: int) -> Callable[[bool], Sequence[Case]]:
    """Speed and memory on the large corpus."""

    def measure(quick: bool) -> Sequence[Case]:
        with corpus_of(QUICK if quick else LARGE) as (folder, size):
            runners = runners_of(folder, workers, {"datatrove": BANDS["datatrove"]})
            return [*end_to_end(runners, size, workers, 1 if quick else LARGE_REPEATS[workers])]

    return measure


def small(quick: bool) -> Sequence[Case]:
    """All runners several times, on the small corpus, with one worker."""
    with corpus_of(QUICK if quick else SMALL) as (folder, size):
        return [*end_to_end(runners_of(folder, 1, BANDS), size, 1, 1 if quick else REPEATS)]


def duplicates(quick: bool) -> Sequence[Case]:
    """What each found on the large corpus, once, against the exact answer: the same whatever the load."""
    with corpus_of(QUICK if quick else LARGE) as (folder, size):
        pairs, documents = exact_answer(folder / "corpus")
        found = {name: set(runner()["removed"]) for name, runner in runners_of(folder, 2, BANDS).items()}
    exact = f"{len(pairs)} pairs of {documents} documents at Jaccard >= {THRESHOLD} of 5-word shingles, by brute force"
    judged = {name: judge(removed, pairs, documents) for name, removed in found.items()}
    return [
        case_of(f"{what}, {size / 1e6:.0f} MB of manual pages", unit, better,
                {name: [verdict[what]] for name, verdict in judged.items()}, exact)
        for what, unit, better in JUDGED
    ]  # fmt: skip


@contextmanager
def corpus_of(size: int) -> Iterator[tuple[Path, int]]:
    """Give a folder with manual pages under `corpus`, and their size."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), write_corpus(Path(name) / "corpus", size)


def runners_of(
    folder: Path, workers: int, peers: Mapping[str, tuple[int, int]]
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Our pipeline, and datatrove's with some bands and rows."""
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    runners = {OURS: ours(folder / "corpus", workers, PART_BYTES)}
    return runners | {name: datatrove(folder, tokenizer, workers, bands) for name, bands in peers.items()}


def end_to_end(
    runners: Mapping[str, Callable[[], dict[str, Any]]], size: int, workers: int, repeats: int
) -> Iterator[Case]:
    """Speed of all runners over a corpus of `size` bytes; with one worker also time and memory of their processes.

    datatrove's workers are forked by a server of their own, whose children its parent is not told of.
    """
    results = interleaved(runners, repeats)
    about = f"{size / 1e6:.0f} MB of manual pages, {workers} worker{'s' if workers > 1 else ''}"
    for name, unit, better, value in MEASURED if workers == 1 else MEASURED[:1]:
        values = {runner: [value(one, size / workers) for one in many] for runner, many in results.items()}
        yield case_of(f"{name}, {about}", unit, better, values, f"{FILES} files of JSON lines")


MEASURED: tuple[tuple[str, str, Literal["higher", "lower"], Callable[[Any, float], float]], ...] = (
    ("end to end", "MB/s/core", "higher", lambda one, share: share / 1e6 / one["seconds"]),
    ("processor time", "s", "lower", lambda one, _: one["cpu_seconds"]),
    ("largest process", "MiB", "lower", lambda one, _: one["peak_rss_mib"]),
)
JUDGED: tuple[tuple[str, str, Literal["higher", "lower"]], ...] = (
    ("recall", "share", "higher"),
    ("precision", "share", "higher"),
    ("removed", "documents", "lower"),
)


def encoding(quick: bool) -> Sequence[Case]:
    """Encoding alone, one core, over normalised text as the pipeline has it."""
    names = {OURS: "FastEncoder", "tiktoken": "tiktoken", "tokenizers": "ReferenceEncoder"}
    with corpus_of(QUICK if quick else TOKENISED) as (folder, size):
        runners = {
            name: lambda encoder=encoder: measured(__file__, {"encode": encoder, "corpus": str(folder / "corpus")})
            for name, encoder in names.items()
        }
        results = interleaved(runners, 1 if quick else REPEATS)
    values = {name: [one["mb_per_second"] for one in many] for name, many in results.items()}
    return [case_of("encode with OPT's vocabulary", "MB/s/core", "higher", values, f"{size / 1e6:.0f} MB")]


def memory(quick: bool) -> Sequence[Case]:
    """Our largest process at a quarter of a corpus, given as peer, and at the whole, with parts of the default size."""
    peaks = {}
    for wanted in QUICK_MEMORY_SIZES if quick else MEMORY_SIZES:
        with corpus_of(wanted) as (folder, size):
            peaks[size] = ours(folder / "corpus", 2, None)()["peak_rss_mib"]
    quarter, whole = peaks
    values = {OURS: [peaks[whole]], "a quarter of it": [peaks[quarter]]}
    notes = (
        f"{whole / 1e6:.0f} and {quarter / 1e6:.0f} MB, 2 workers; pages beyond the machine's are copies with new words"
    )
    return [case_of("largest process at two sizes", "MiB", "lower", values, notes)]


def exact_answer(corpus: Path) -> tuple[dict[tuple[str, str], float], int]:
    """Similar pairs, and the number of documents; found once a corpus, in a process that gives its memory back."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(corpus.glob("*.jsonl")))).hexdigest()
    kept = cache() / f"dataprep-truth-{digest[:16]}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(measured(__file__, {"truth": str(corpus)}, timeout_s=7200)))
    found = json.loads(kept.read_text())
    return {(one, other): value for one, other, value in found["pairs"]}, found["documents"]


def truth(job: dict[str, Any]) -> dict[str, Any]:
    """Find every similar pair."""
    texts = read_corpus(Path(job["truth"]))
    pairs = similar_pairs(texts, THRESHOLD)
    return {"pairs": [[*names, value] for names, value in pairs.items()], "documents": len(texts)}


def ours(corpus: Path, workers: int, part_bytes: int | None) -> Callable[[], dict[str, Any]]:
    """A runner of our pipeline; without `part_bytes` with parts of the default size."""
    job = {"corpus": str(corpus), "workers": workers, "part_bytes": part_bytes}
    return lambda: measured(__file__, job, timeout_s=7200)


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
    folder = cache() / "datatrove-0.10"
    python = folder / "bin/python"
    if not python.exists() or subprocess.run([python, "-c", "import datatrove, orjson, spacy"], check=False).returncode:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *DATATROVE], check=True)
    return python


def cache() -> Path:
    """Where what takes long to make is kept."""
    return Path(os.environ.get("OPT_OPERATOR_CACHE") or "~/.cache/opt-operator").expanduser()


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
    """What runs in a process of its own: one of the encoders, the exact answer, or our pipeline."""
    return encode(job) if "encode" in job else truth(job) if "truth" in job else prepare_all(job)


def prepare_all(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare the corpus into an empty store."""
    from opt_api.training.data import DataSpec, Source, Tokenizer, TokenizerFiles
    from opt_dataprep.work.driver import prepare

    files = TokenizerFiles(
        vocab_uri=(VOCABULARY / "gpt2-vocab.json").resolve().as_uri(),
        merges_uri=(VOCABULARY / "gpt2-merges.txt").resolve().as_uri(),
    )
    source = Source(name="man", uri=Path(job["corpus"]).as_uri())
    data = DataSpec(sources=(source,), tokenizer=Tokenizer(files=files))
    data = data.model_copy(update={"part_bytes": job["part_bytes"] or data.part_bytes})
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
    import pyarrow as pa

    from opt_dataprep.steps.normalise import whitespace
    from opt_dataprep.tokens.encoders import FastEncoder, ReferenceEncoder
    from opt_dataprep.tokens.vocabulary import parse_vocabulary

    files = [VOCABULARY / "gpt2-vocab.json", VOCABULARY / "gpt2-merges.txt"]
    vocabulary = parse_vocabulary(files[0].read_bytes(), files[1].read_bytes(), (str(files[0]), str(files[1])))
    texts = list(map(whitespace, read_corpus(Path(job["corpus"])).values()))
    fast, reference = FastEncoder(vocabulary), ReferenceEncoder(vocabulary)
    columns = [pa.array(texts[at : at + 500]) for at in range(0, len(texts), 500)]
    started = time.perf_counter()
    if job["encode"] == "FastEncoder":
        for column in columns:
            fast.encode_column(column)
    else:
        encode_one = reference.encode if job["encode"] == "ReferenceEncoder" else fast.encode
        for text in texts:
            encode_one(text)
    return {"mb_per_second": sum(len(text.encode()) for text in texts) / 1e6 / (time.perf_counter() - started)}


if __name__ == "__main__":
    groups = {"large-1": large(1), "large-2": large(2), "small": small, "duplicates": duplicates}
    run("dataprep", {**groups, "encode": encoding, "memory": memory}, worker)
