"""The corpus of manual pages, and the exact answer: every pair of documents at or above a Jaccard similarity.

Shares no code with what is measured: plain Python sets and the prefix filter of Bayardo et al. (WWW 2007).
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

MANUAL = Path("/usr/share/man")
FILES = 16


def write_corpus(folder: Path, most: int) -> int:
    """Deal pages as JSON lines into `FILES` files until there are `most` bytes of text; return how many there are.

    When all pages of the machine are used up they come again, with every sixth word made a new one, so that the copies
    are no duplicates.
    """
    folder.mkdir(parents=True)
    files = [(folder / f"{number:02d}.jsonl").open("w") for number in range(FILES)]
    pages = sorted(MANUAL.rglob("*.gz"))
    if not pages:
        raise SystemExit(f"{MANUAL} holds no manual pages: install packages that have some, for example manpages-dev")
    total = 0
    for count, (turn, path) in enumerate((turn, path) for turn in itertools.count() for path in pages):
        if total >= most:
            break
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").replace("\0", "").strip()
        if text:
            text = renewed(text, turn)
            files[count % FILES].write(json.dumps({"id": f"{path.relative_to(MANUAL)} {turn}", "text": text}) + "\n")
            total += len(text.encode())
    for file in files:
        file.close()
    return total


def renewed(text: str, turn: int) -> str:
    """The text for turn 0, else with every sixth word made one that no other turn has."""
    if not turn:
        return text
    parts = text.split(" ")
    parts[::6] = [f"{part}x{turn}" for part in parts[::6]]
    return " ".join(parts)


def read_corpus(folder: Path) -> dict[str, str]:
    """Text of each document by its id."""
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.open())
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


def shingles(text: str) -> frozenset[int]:
    """Runs of five words, as Python's hashes of tuples: good for one process."""
    words = text.split()
    return frozenset(hash(tuple(words[i : i + 5])) for i in range(max(1, len(words) - 4)))


def similar_pairs(texts: Mapping[str, str], threshold: float) -> dict[tuple[str, str], float]:
    """Every pair at or above the threshold."""
    sets = {name: shingles(text) for name, text in texts.items()}
    often = Counter(shingle for found in sets.values() for shingle in found)
    index: dict[int, list[str]] = defaultdict(list)
    pairs = {}
    for name, found in sorted(sets.items(), key=lambda item: len(item[1])):
        rare = sorted(found, key=lambda shingle: (often[shingle], shingle))
        prefix = rare[: len(found) - math.ceil(threshold * len(found) - 1e-9) + 1]
        for other in {name for shingle in prefix for name in index[shingle]}:
            if len(sets[other]) >= threshold * len(found) - 1e-9:
                shared = len(found & sets[other])
                value = shared / (len(found) + len(sets[other]) - shared)
                if value >= threshold - 1e-9:
                    pairs[other, name] = value
        for shingle in prefix:
            index[shingle].append(name)
    return pairs


def judge(removed: set[str], pairs: Mapping[tuple[str, str], float], documents: int) -> dict[str, float]:
    """Recall: pairs of which at least one is gone. Precision: removed documents with a kept one similar enough."""
    partners: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        partners[one].add(other)
        partners[other].add(one)
    found = sum(bool(removed & {one, other}) for one, other in pairs)
    justified = sum(bool(partners[name] - removed) for name in removed)
    return {
        "recall": found / max(1, len(pairs)),
        "precision": justified / max(1, len(removed)),
        "removed": len(removed),
        "documents": documents,
        "pairs": len(pairs),
    }
