"""The life of a forked worker: redirect, listen for a call for stacks, run the entry, report, end."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import NoReturn

from opt_api.documents.exit_report import EXIT_CODES, ExitReport
from opt_runtime.linux import die_with_parent
from opt_runtime.memory.rank import Acks, RankMemory, Tell, Whose
from opt_runtime.memory.slots import SlotFile
from opt_runtime.messages import WorkerOrder
from opt_runtime.worker.context import Entry, WorkerContext, send

STACKS_SIGNAL = signal.SIGUSR2
PACKET = 1 << 16
"""Longest message between agent, warm parent and workers, in bytes."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What workers share with their agent: a channel for messages, the page of acknowledgements, a slot file a rank."""

    channel: socket.socket
    acks: int
    slots: tuple[int, ...]


def live(order: WorkerOrder, shared: Shared, entry: Entry) -> NoReturn:
    """Be that worker; never returns into the parent's code."""
    code = EXIT_CODES["Internal"]
    try:
        die_with_parent()
        _redirect(order.log)
        code = EXIT_CODES[_run(order, shared, entry).cause]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    """Output and stacks into the worker's log; signals as in a fresh process."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to carry out, in order
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)


def environment_of(order: WorkerOrder, local_world_size: int) -> dict[str, str]:
    """What torchrun would have put into the worker's environment, for libraries that look there."""
    values = {
        "RANK": order.rank,
        "LOCAL_RANK": order.local_rank,
        "WORLD_SIZE": order.world_size,
        "LOCAL_WORLD_SIZE": local_world_size,
        "GROUP_RANK": order.rank // local_world_size,
        "TORCHELASTIC_RUN_ID": order.run,
        "TORCHELASTIC_RESTART_COUNT": order.attempt - 1,
    }
    return {name: str(value) for name, value in values.items()}


def _run(order: WorkerOrder, shared: Shared, entry: Entry) -> ExitReport:
    os.environ.update(environment_of(order, len(shared.slots)))
    whose = Whose(order.local_rank, order.unit, order.trajectory, order.beside)
    tell = Tell(
        copied=lambda step: send(shared.channel, "copy", f"{order.local_rank} {step}".encode()),
        full=lambda words: send(shared.channel, "full", f"rank {order.rank} on host {order.host}: {words}".encode()),
    )
    memory = RankMemory([SlotFile(fd) for fd in shared.slots], Acks(shared.acks), whose, tell)
    context = WorkerContext(order, memory, shared.channel)
    try:
        report = entry(context)
    except BaseException as fault:  # noqa: BLE001 - whatever ends a worker is reported
        traceback.print_exc()
        words = f"{type(fault).__name__}: {fault}"[:1000]
        report = ExitReport(cause="Internal", message=words, attempt=order.attempt, rank=order.rank, step=context.step)
    send(shared.channel, "exit", report.to_bytes())
    return report
