"""datatrove's MinHash pipeline and tokenisation over JSON lines; runs in datatrove's own environment, alone.

Prints one JSON object: seconds, processor seconds, the largest process in MiB, and the ids of the documents it kept.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    job = json.loads(sys.argv[1])
    # Processes are the parallelism here too; threads inside the tokenizer would take the other workers' cores.
    os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1")
    started = time.perf_counter()
    pipeline(job["source"], job["folder"], job["tokenizer"], job["tasks"], job["workers"], job["bands"], job["rows"])
    seconds = time.perf_counter() - started
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {
        "seconds": seconds,
        "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        "peak_rss_mib": max(one.ru_maxrss for one in used) / 1024,
        "removed": removed(Path(job["folder"]) / "removed"),
    }
    print(json.dumps(found))


def pipeline(source: str, folder: str, tokenizer: str, tasks: int, workers: int, bands: int, rows: int) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers.jsonl import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=bands, hashes_per_bucket=rows, n_grams=5)

    def reader() -> JsonlReader:
        return JsonlReader(source, text_key="text", id_key="id")

    def at(name: str) -> str:
        return f"{folder}/{name}"

    stages = [
        (tasks, [reader(), MinhashDedupSignature(output_folder=at("signatures"), config=config)]),
        (bands, [MinhashDedupBuckets(input_folder=at("signatures"), output_folder=at("buckets"), config=config)]),
        (1, [MinhashDedupCluster(input_folder=at("buckets"), output_folder=at("drops"), config=config)]),
        (
            tasks,
            [
                reader(),
                MinhashDedupFilter(input_folder=at("drops"), exclusion_writer=JsonlWriter(at("removed"))),
                DocumentTokenizer(
                    output_folder=at("tokens"),
                    local_working_dir=at("local"),
                    tokenizer_name_or_path=tokenizer,
                    eos_token="</s>",
                ),
            ],
        ),
    ]
    for number, (count, steps) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=steps, tasks=count, workers=workers, logging_dir=at(f"logs-{number}"), randomize_start_duration=0
        ).run()


def removed(folder: Path) -> list[str]:
    ids = []
    for path in folder.rglob("*.jsonl.gz"):
        with gzip.open(path, "rt") as lines:
            ids += [json.loads(line)["id"] for line in lines]
    return ids


if __name__ == "__main__":
    main()
