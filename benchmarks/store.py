"""Write and read 1.5 GB as 1, 16 and 64 objects on a local S3 server, beside three other clients.

Every transfer runs in a process of its own, from memory to memory. The server's data lies on a memory file system and
server and clients share the machine's cores, so the figures compare clients; they are not those of a network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import OURS, ROOT, Case, case_of, measured, run, timed
from store_clients import CLIENTS, EXPECTED, Place

MIB, GIB = 1 << 20, 1 << 30
TOTAL, QUICK_TOTAL = 1536 * MIB, 96 * MIB
COUNTS = (1, 16, 64)
REPEATS, QUICK_REPEATS = 5, 2
MEMORY = Path("/dev/shm")


def of_count(count: int) -> Callable[[bool], list[Case]]:
    """Return what measures one number of objects."""

    def measure(quick: bool) -> list[Case]:
        sys.path.append(str(ROOT / "tests"))
        total, repeats = (QUICK_TOTAL, QUICK_REPEATS) if quick else (TOTAL, REPEATS)
        return _with_count(count, total, repeats)

    return measure


def _with_count(count: int, total: int, repeats: int) -> list[Case]:
    """Every repeat has a server of its own: what was overwritten would otherwise fill the memory."""
    found: dict[str, dict[str, list[Mapping[str, float]]]] = {"write": {}, "read": {}}
    for number in range(repeats):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder, _started(Path(folder)) as place:
            for direction, results in found.items():
                for client in _turned([name for name in CLIENTS if (direction, name) != ("write", EXPECTED)], number):
                    job = {"place": asdict(place), "direction": direction, "count": count, "size": total // count}
                    results.setdefault(client, []).append(measured(__file__, {**job, "client": client}))
    return [
        case
        for direction, results in found.items()
        for case in _cases(f"{direction} {total // MIB} MiB as {count}, minio", results)
    ]


def _turned(names: list[str], by: int) -> list[str]:
    """The names from another one on each time, so that no client always comes first."""
    return names[by % len(names) :] + names[: by % len(names)]


@contextmanager
def _started(folder: Path) -> Iterator[Place]:
    from support.s3 import minio_server

    with minio_server(folder) as server:
        yield Place(server.endpoint, server.bucket, server.access_key, server.secret_key)


def _cases(name: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Case]:
    units: Sequence[tuple[str, Any, Callable[[Mapping[str, float]], float]]] = (
        ("MiB/s", "higher", lambda r: r["bytes"] / MIB / r["seconds"]),
        ("CPU-s/GiB", "lower", lambda r: r["cpu_seconds"] / (r["bytes"] / GIB)),
        ("MiB peak RSS", "lower", lambda r: r["peak_rss_mib"]),
    )
    peers = {client: found for client, found in results.items() if client not in (OURS, EXPECTED)}
    compared = {name: peers | {OURS: results[OURS]}}
    if EXPECTED in results:
        compared[f"{name}, digest expected"] = peers | {OURS: results[EXPECTED]}
    return [
        case_of(case, unit, better, {client: [value(r) for r in found] for client, found in clients.items()})
        for case, clients in compared.items()
        for unit, better, value in units
    ]


def work(job: dict[str, Any]) -> dict[str, float]:
    """Do one transfer in this process; a reader finds what the writers of the same client left."""
    client = CLIENTS[job["client"]](Place(**job["place"]))
    keys = [f"{client.writer}/{job['count']}/{number:03d}" for number in range(job["count"])]
    client.warm_up()
    if job["direction"] == "write":
        objects = {key: _content(job["size"], number) for number, key in enumerate(keys)}
        with timed() as usage:
            client.write(objects)
    else:
        with timed() as usage:
            counts = client.read(dict.fromkeys(keys, job["size"]))
        assert counts == [job["size"]] * len(keys), f"short read: {counts}"
    return {"bytes": float(job["size"] * job["count"]), **asdict(usage())}


def _content(size: int, number: int) -> memoryview:
    """Return bytes that do not compress and differ from object to object, made quickly."""
    tile = os.urandom(MIB)
    data = bytearray(size)
    for start in range(0, size, MIB):
        piece = memoryview(data)[start : start + MIB]
        piece[:] = tile[: piece.nbytes]
        piece[:8] = (start + number).to_bytes(8, "big")
    return memoryview(data)


if __name__ == "__main__":
    run("store", {f"of-{count}": of_count(count) for count in COUNTS}, work)
