#!/usr/bin/env python3
"""Writes the results of the benchmarks out: `docs/benchmarks.md` in full, and the chosen rows of the README.

Figures stand in one place, `benchmarks/results/`; with ``--check`` nothing is written, and stale text is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

CHOSEN: tuple[tuple[str, str, str], ...] = (
    ("store", "write 1536 MiB as 16, minio", "MiB/s"),
    ("store", "read 1536 MiB as 16, minio", "MiB/s"),
    ("dataprep", "end to end, 101 MB of manual pages, 1 worker", "MB/s/core"),
    ("dataprep", "end to end, 101 MB of manual pages, 2 workers", "MB/s/core"),
    ("dataprep", "encode with OPT's vocabulary", "MB/s/core"),
    ("train", "float32, dropout 0", "tokens/s"),
    ("train", "bfloat16, dropout 0", "tokens/s"),
    ("train", "2 workers, DDP, float32", "tokens/s"),
    ("train", "2 workers, FSDP2, float32", "tokens/s"),
    ("train_gpu", "OPT-125m, bfloat16, compiled, NVIDIA H200", "tokens/s"),
    ("train_gpu", "OPT-1.3b, bfloat16, compiled, NVIDIA H200", "% MFU"),
    ("checkpoint", "stall per save, 1.50 GB", "ms"),
    ("recovery", "kill-rank p50", "s"),
    ("recovery", "lose-host p95", "s"),
    ("operator", "lost node to next step, p95", "s"),
    ("serving", "decode 1x32 float32", "tok/s"),
    ("serving", "decode 8x32 float32", "tok/s"),
    ("serving", "decode 8x32 int8", "tok/s"),
)
"""Rows of the README: benchmark, case, unit. One that has not been measured yet is left out."""

ABOUT = """# Benchmarks

Written by `hack/figures.py` from `benchmarks/results/`; do not edit. `make bench` measures everything,
`hack/bench NAME -- --only GROUP` a part. Ours and the peers' come from the same interleaved run; a value is the median
of the repeats, ± the interquartile range of ours. Load is the machine's average over 1, 5 and 15 minutes at the start.
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or with ``--check`` compare them; 1 when one of them is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    check = parser.parse_args(arguments).check
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    wanted = {PAGE: page(results), README: replaced(README.read_text(), chosen(results))}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is stale; run `make generate`", file=sys.stderr)
        else:
            path.write_text(wanted[path])
    return 1 if check and stale else 0


def page(results: Mapping[str, Any]) -> str:
    """Every case of every result."""
    return "\n".join([ABOUT, *(section(stem, result) for stem, result in results.items())])


def section(stem: str, result: Mapping[str, Any]) -> str:
    """One benchmark, or one of its machines: where it ran, and its cases."""
    machine, name = result["machine"], result["benchmark"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    when = f"{result['date'][:10]}, commit {result['commit']}"
    head = f"## {stem}\n\n`python benchmarks/{name}.py --json`, {when}, {where}, "
    rows = ["| case | unit | better | ours | peers | repeats | notes |", "|---|---|---|---|---|---|---|"]
    rows += [row(case) for case in result["cases"]]
    return head + f"load {', '.join(map(str, result['load']))}.\n\n" + "\n".join(rows) + "\n"


def row(case: Mapping[str, Any]) -> str:
    """One case as a row of the page."""
    ours = f"**{case['ours']:g}** ± {case['spread']:g}"
    cells = [case["case"], case["unit"], case["better"], ours, peers(case), str(case["repeats"]), case["notes"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def peers(case: Mapping[str, Any]) -> str:
    """The peers' values."""
    return ", ".join(f"{name} {value:g}" for name, value in case["peers"].items()) or "none"


def chosen(results: Mapping[str, Any]) -> str:
    """The README's rows."""
    rows = ["| | ours | peers in the same run | command |", "|---|---|---|---|"]
    rows += [line for name, case, unit in CHOSEN for line in _line(results.get(name), case, unit)]
    return "\n".join(rows)


def _line(result: Mapping[str, Any] | None, case: str, unit: str) -> Iterable[str]:
    if result is None:
        return
    for found in result["cases"]:
        if (found["case"], found["unit"]) == (case, unit):
            command = f"python benchmarks/{result['benchmark']}.py"
            yield f"| {result['benchmark']}: {case} | {found['ours']:g} {unit} | {peers(found)} | `{command}` |"


def replaced(text: str, rows: str) -> str:
    """The README with the rows between its two marks.

    Raises:
        ValueError: It has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md must hold the lines {BEGIN} and {END}, where the figures go")
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
