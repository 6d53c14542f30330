"""What carries out a fault from outside: signals, limits, a store that is taken away. One function for each."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from opt_api.documents.faults import FaultName
from opt_runtime.linux import processes_of_session
from opt_runtime.local.cluster import LocalCluster, kill

FULL_BYTES = 16_384
"""Nothing that a process whose disk is full writes lies beyond this, files in memory included (RLIMIT_FSIZE)."""
AWAY = ".away"
Act = Callable[[LocalCluster, dict[str, Any], str], bool]
"""Cluster, status, target; False when the target is not there yet."""


def _on_rank(act: Callable[[int], None]) -> Act:
    def on(_: LocalCluster, status: dict[str, Any], target: str) -> bool:
        found = [w["pid"] for w in status["workers"] if w["rank"] == int(target) and w["pid"] and not w["ended"]]
        for pid in found:
            act(pid)
        return bool(found)

    return on


def _fill(pid: int) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES, resource.RLIM_INFINITY))


def _on_program(number: signal.Signals, name: str = "") -> Act:
    def on(cluster: LocalCluster, _: dict[str, Any], target: str) -> bool:
        kill(cluster.programs[name or target].pid, number)
        return True

    return on


def _stop_host(cluster: LocalCluster, _: dict[str, Any], target: str) -> bool:
    """Everything of the host at once, as when a machine freezes: its agent leads a session of its own."""
    for pid in processes_of_session(cluster.programs[target].pid):
        kill(pid, signal.SIGSTOP)
    return True


def _return_host(cluster: LocalCluster, _: dict[str, Any], target: str) -> bool:
    if cluster.programs[target].exit_code() is None:
        return False
    cluster.host_returns(target)
    return True


def folder_of(cluster: LocalCluster) -> Path:
    """Folder of a store in a folder."""
    return Path(unquote(urlsplit(cluster.store).path))


def _lose_store(cluster: LocalCluster, _: dict[str, Any], __: str) -> bool:
    """The folder goes away, and a file stands in its place so that nobody makes a new one."""
    folder = folder_of(cluster)
    folder.rename(folder.with_name(folder.name + AWAY))
    folder.touch()
    return True


def find_store(cluster: LocalCluster) -> None:
    """Bring a store back that was taken away; nothing if it is there."""
    folder = folder_of(cluster)
    away = folder.with_name(folder.name + AWAY)
    if away.is_dir():
        folder.unlink(missing_ok=True)
        away.rename(folder)


def _continue(name: str) -> Callable[[LocalCluster], None]:
    return lambda cluster: kill(cluster.programs[name].pid, signal.SIGCONT)


ACTS: dict[FaultName, Act] = {
    "kill rank": _on_rank(lambda pid: kill(pid, signal.SIGKILL)),
    "stop rank": _on_rank(lambda pid: kill(pid, signal.SIGSTOP)),
    "fill disk of rank": _on_rank(_fill),
    "kill host": _on_program(signal.SIGKILL),
    "stop host": _stop_host,
    "stop agent of host": _on_program(signal.SIGSTOP),
    "return host": _return_host,
    "kill coordinator": _on_program(signal.SIGKILL, "coordinator"),
    "stop coordinator": _on_program(signal.SIGSTOP, "coordinator"),
    "kill rendezvous": _on_program(signal.SIGKILL, "rendezvous"),
    "stop rendezvous": _on_program(signal.SIGSTOP, "rendezvous"),
    "lose store": _lose_store,
}
UNDO: dict[FaultName, Callable[[LocalCluster], None]] = {
    "stop coordinator": _continue("coordinator"),
    "stop rendezvous": _continue("rendezvous"),
    "lose store": find_store,
}
"""How a fault ends that ends by itself."""
ENDING = frozenset(UNDO)
