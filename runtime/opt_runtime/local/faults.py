"""Faults to order: one sentence each, carried out on a local cluster when the run has come to a step.

`kill rank 1 at step 50`, `stop rank 0 at step 30`, `kill host host-1 at step 20`, `return host host-1 at step 80`,
`kill coordinator at step 10`, `kill rendezvous at step 10`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opt_runtime.local.cluster import LocalCluster, kill

Status = dict[str, Any]


class UnknownFault(ValueError):  # noqa: N818 - caught by what happened
    """A sentence that no fault has."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, not before `step`.

    Attributes:
        what: Its sentence without the step.
        target: Rank, host or program.
        step: When.
    """

    what: str
    target: str
    step: int

    def __str__(self) -> str:
        return f"{self.what.replace('#', self.target)} at step {self.step}"


def _signal_rank(number: signal.Signals) -> Callable[[LocalCluster, Status, str], bool]:
    def act(_: LocalCluster, status: Status, target: str) -> bool:
        found = [w["pid"] for w in status["workers"] if w["rank"] == int(target) and w["pid"] and not w["ended"]]
        for pid in found:
            kill(pid, number)
        return bool(found)

    return act


def _kill_program(cluster: LocalCluster, _: Status, target: str) -> bool:
    kill(cluster.programs[target].pid, signal.SIGKILL)
    return True


def _return_host(cluster: LocalCluster, _: Status, target: str) -> bool:
    if cluster.programs[target].exit_code() is None:
        return False
    cluster.host_returns(target)
    return True


ACTS: dict[str, Callable[[LocalCluster, Status, str], bool]] = {
    "kill rank #": _signal_rank(signal.SIGKILL),
    "stop rank #": _signal_rank(signal.SIGSTOP),
    "kill host #": _kill_program,
    "return host #": _return_host,
    "kill coordinator": _kill_program,
    "kill rendezvous": _kill_program,
}
"""Every fault, and what carries it out: False when its target is not there yet. `#` is a rank or a host."""

_SENTENCE = re.compile(r"\s*(?P<verb>\w+)\s+(?P<noun>\w+)(?:\s+(?P<target>[\w-]+))?\s+at\s+step\s+(?P<step>\d+)\s*")


def parse_fault(sentence: str, ranks: int, hosts: Sequence[str]) -> Fault:
    """Read one sentence.

    Raises:
        UnknownFault: No such fault, rank or host; the message lists what there is.
    """
    found = _SENTENCE.fullmatch(sentence)
    named = bool(found and found["target"])
    what = f"{found['verb']} {found['noun']}{' #' if named else ''}" if found else ""
    if found is None or what not in ACTS:
        known = "; ".join(f"{name.replace('#', 'NAME')} at step N" for name in ACTS)
        raise UnknownFault(f"fault {sentence!r}: allowed are {known} (NAME is a rank's number or a host's name)")
    target = found["target"] or found["noun"]
    allowed = [str(rank) for rank in range(ranks)] if found["noun"] == "rank" else list(hosts)
    if named and target not in allowed:
        raise UnknownFault(
            f"fault {sentence!r}: there is no {found['noun']} {target!r}; there are {', '.join(allowed)}"
        )
    return Fault(what, target, int(found["step"]))


class FaultScript:
    """Faults still to come, in any order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._waiting = list(faults)

    def look(self, cluster: LocalCluster, status: Status | None) -> list[Fault]:
        """Carry out what is due; return what was carried out."""
        if status is None:
            return []
        due = [fault for fault in self._waiting if status["step"] >= fault.step]
        done = [fault for fault in due if ACTS[fault.what](cluster, status, fault.target)]
        self._waiting = [fault for fault in self._waiting if fault not in done]
        return done
