"""Faults to order: sentences and files of them, checked before anything starts, carried out at their steps.

`kill rank 1 at step 50`, `stop coordinator at step 20 for 10 s`, `spoil gradient of rank 0 at step 40`, ...
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from opt_api.documents.faults import FaultName, PlannedFault
from opt_runtime.local.acts import ACTS, ENDING, UNDO
from opt_runtime.local.cluster import LocalCluster

Status = dict[str, Any]
FAULTS: tuple[FaultName, ...] = get_args(FaultName)
INSIDE: frozenset[FaultName] = frozenset(FAULTS) - frozenset(ACTS)
"""Faults that a worker does to itself, because nobody else can reach what breaks."""
FOLDER = "faults"
"""Folder of the run's scratch space where workers find theirs: `<number>.json`, and `<number>.done` afterwards."""
DEFAULT_SECONDS = 10.0
_SENTENCE = re.compile(r"(?P<what>.+?) at step (?P<step>\d+)(?: for (?P<seconds>\d+(?:\.\d+)?) s)?")


class UnknownFault(ValueError):  # noqa: N818 - caught by what happened
    """No such fault, or it cannot happen in this run; the message lists what there is."""


def sentence_of(fault: PlannedFault) -> str:
    """The fault as `--fault` takes it."""
    target = f" {fault.target}" if fault.target else ""
    seconds = f" for {fault.seconds:g} s" if fault.seconds is not None else ""
    return f"{fault.fault}{target} at step {fault.step}{seconds}"


def parse_fault(sentence: str) -> PlannedFault:
    """Read one sentence.

    Raises:
        UnknownFault: No fault is said so; the message lists what there is.
    """
    found = _SENTENCE.fullmatch(" ".join(sentence.split()))
    for name in sorted(FAULTS, key=len, reverse=True) if found else ():
        assert found is not None
        target = found["what"].removeprefix(name).strip()
        if found["what"] == name or found["what"].startswith(f"{name} "):
            seconds = float(found["seconds"]) if found["seconds"] else None
            return PlannedFault(fault=name, target=target, step=int(found["step"]), seconds=seconds)
    raise UnknownFault(f"fault {sentence!r}: allowed are {allowed()}")


def allowed() -> str:
    """Every sentence, with NAME for what has to be filled in."""
    said = (
        f"{name}{' NAME' if takes(name) else ''} at step N{' [for S s]' if name in ENDING else ''}" for name in FAULTS
    )
    return f"{'; '.join(said)} (NAME is a rank's number or a host's name)"


def takes(name: FaultName) -> str:
    """What a fault's target is: `rank`, `host` or nothing."""
    last = name.rpartition(" ")[2]
    return last if last in ("rank", "host") else ""


def check_fault(fault: PlannedFault, ranks: int, hosts: Sequence[str], *, folder_store: bool) -> None:
    """Hold a fault against the run it is meant for.

    Raises:
        UnknownFault: Its target is not there, it takes none, or it does not end by itself.
    """
    said, kind = sentence_of(fault), takes(fault.fault)
    there = {"rank": [str(rank) for rank in range(ranks)], "host": list(hosts)}.get(kind, [""])
    if fault.target not in there:
        what = f"there is no {kind} {fault.target!r}; there are {', '.join(there)}" if kind else "it takes no name"
        raise UnknownFault(f"fault {said!r}: {what}")
    if fault.seconds is not None and fault.fault not in ENDING:
        raise UnknownFault(f"fault {said!r}: only {', '.join(sorted(ENDING))} end by themselves")
    if fault.fault == "lose store" and not folder_store:
        raise UnknownFault(f"fault {said!r}: only a store in a folder can be taken away; stop the S3 server instead")


class FaultScript:
    """Faults still to come, in any order.

    Args:
        faults: Checked ones.
        directory: Scratch folder of the run.
    """

    def __init__(self, faults: Iterable[PlannedFault], directory: Path) -> None:
        everything = list(faults)
        self._waiting = [fault for fault in everything if fault.fault in ACTS]
        self._folder = directory / FOLDER
        self._inside = dict(enumerate(fault for fault in everything if fault.fault in INSIDE))
        self._ending: list[tuple[float, Callable[[], object]]] = []

    def arm(self) -> None:
        """Lay out what workers do to themselves. Call it before they start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            old.unlink()
        for number, fault in self._inside.items():
            (self._folder / f"{number}.json").write_bytes(fault.model_dump_json(by_alias=True).encode())

    def look(self, cluster: LocalCluster, status: Status | None) -> list[str]:
        """Carry out what is due, end what is over; return sentences of what happened."""
        said = [*self._over(), *self._done_inside()]
        if status is None:
            return said
        for fault in [fault for fault in self._waiting if status["step"] >= fault.step]:
            if ACTS[fault.fault](cluster, status, fault.target):
                self._waiting.remove(fault)
                said.append(sentence_of(fault))
                self._remember(cluster, fault)
        return said

    def close(self) -> None:
        """End every fault that ends by itself, whether or not it is time."""
        for _, undo in self._ending:
            undo()
        self._ending.clear()

    def _remember(self, cluster: LocalCluster, fault: PlannedFault) -> None:
        if fault.fault in ENDING:
            until = time.monotonic() + (fault.seconds or DEFAULT_SECONDS)
            self._ending.append((until, lambda: UNDO[fault.fault](cluster)))

    def _over(self) -> list[str]:
        now = time.monotonic()
        over = [entry for entry in self._ending if entry[0] <= now]
        for entry in over:
            entry[1]()
            self._ending.remove(entry)
        return ["a fault is over"] * len(over)

    def _done_inside(self) -> list[str]:
        done = [number for number in self._inside if (self._folder / f"{number}.done").exists()]
        return [sentence_of(self._inside.pop(number)) for number in done]
