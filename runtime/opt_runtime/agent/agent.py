"""The agent itself: carry out the newest orders, report what is. Losing the coordinator changes nothing here."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from opt_api.documents.exit_report import ExitCause, ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.logbook import Cause
from opt_runtime.agent.burn_in import BurnIn
from opt_runtime.agent.copies import Copies, NoCopy
from opt_runtime.agent.workers import Ears, Workers
from opt_runtime.memory.units import Division
from opt_runtime.messages import AgentReport, AgentWord, Copy, Orders, Stack, WorkerOrder
from opt_runtime.wire import Client, Gone, Server
from opt_runtime.worker.context import CHANGES_FOLDER

LONG_POLL_S = 10.0
RETRY_S = 0.2
MIN_GAP_S = 0.01
BEATS_KEPT = 4096
WORDS_KEPT = 64
log = structlog.get_logger(__name__)


class NoWorkers(Exception):  # noqa: N818
    """No worker can be started on this host; the message says why."""


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """Who this host is.

    Attributes:
        run: Training it serves.
        host: Its name.
        hardware: The machine, whatever its name.
        domain: Hosts of one domain may fail together.
        directory: Its scratch folder.
    """

    run: str
    host: str
    hardware: str
    domain: str
    directory: Path


class Agent:
    """One host's agent.

    Args:
        identity: Who it is.
        coordinator: `host:port` of the coordinator.
        entry: Import string of the worker entry.
        workers: Workers of this host.
        listen: `host:port` of its own server; port 0 takes a free one.
        burn_in: What it does before it may train; None for nothing.
    """

    def __init__(
        self,
        identity: HostIdentity,
        coordinator: str,
        entry: str,
        workers: int,
        listen: str,
        burn_in: BurnIn | None = None,
    ) -> None:
        self._burn_in = burn_in or BurnIn()
        self._identity, self._coordinator = identity, Client(coordinator)
        self._copies = Copies(workers)
        self._server = Server(listen, self._copies.routes())
        self._beats: deque[Heartbeat] = deque(maxlen=BEATS_KEPT)
        self._words: deque[AgentWord] = deque(maxlen=WORDS_KEPT)
        self._dirty = threading.Event()
        self._ended = threading.Event()
        self._orders: queue.SimpleQueue[Orders] = queue.SimpleQueue()
        self._newest = Orders(number=0, state="idle")
        self._done = 0
        self._phases: dict[str, float] = {}
        self._stacks: tuple[Stack, ...] = ()
        self._fault = ""
        ears = Ears(self._on_beat, self._on_full, self._on_barren, self._dirty.set)
        self._workers = Workers(entry, self._copies, ears)

    def run(self) -> None:
        """Serve until ordered to leave.

        Raises:
            NoWorkers: This host cannot start any.
        """
        self._server.start()
        self._burn_in.start(self._identity.run, self._identity.directory, self._dirty.set)
        for work in (self._report_all, self._poll_all):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        while not self._ended.is_set():
            orders = self._orders.get()
            if orders.number > self._newest.number or orders.attempt > self._newest.attempt:
                before, self._newest = self._newest, orders
                CARRY_OUT[orders.state](self, before, orders)
                self._done = orders.number
                self._dirty.set()
        self._server.stop()
        if self._fault:
            raise NoWorkers(self._fault)

    def _run_gang(self, before: Orders, orders: Orders) -> None:
        self._write_changes(orders)
        if orders.attempt == before.attempt and before.state == "run":
            self._copies.partner(orders.partner) if orders.partner != before.partner else None
            return
        began = time.monotonic()
        found = self._workers.collect_stacks(orders.stacks)
        self._stacks = tuple(Stack(rank=r, before_attempt=orders.attempt, text=text) for r, text in found.items())
        stacks = time.monotonic()
        self._workers.kill()
        killed = time.monotonic()
        started = self._start(orders)
        self._phases = {"stacks": stacks - began, "kill": killed - stacks, "start": time.monotonic() - killed}
        log.info("attempt", attempt=orders.attempt, ranks=[r.rank for r in orders.ranks], started=started)

    def _start(self, orders: Orders) -> bool:
        self._copies.partner(orders.partner)
        self._copies.keep(orders.trajectory, orders.restore_step if orders.from_memory else None)
        told = [self._worker_order(orders, index) for index in range(len(orders.ranks))]
        try:
            if orders.from_memory and orders.restore_step is not None:
                self._bring(orders, told, orders.restore_step)
            self._workers.start(told)
        except (NoCopy, OSError) as fault:
            cause: ExitCause = "BadCheckpoint" if isinstance(fault, NoCopy) else "Internal"
            report = ExitReport(
                cause=cause, message=str(fault)[:1000], attempt=orders.attempt, rank=told[0].rank, step=0
            )
            self._workers.fail(told, report)
            return False
        return True

    def _bring(self, orders: Orders, told: list[WorkerOrder], step: int) -> None:
        """Have the states that the workers begin with in their slots; every one that was found damaged is told."""
        for order, placed in zip(told, orders.ranks, strict=True):
            wanted = Copy(unit=order.unit, step=step, trajectory=orders.trajectory)
            problems = self._copies.bring(order.local_rank, wanted, placed.sources)
            self._say("SilentCorruption", *(f"host {order.host}: {words}; taken from elsewhere" for words in problems))

    def _worker_order(self, orders: Orders, index: int) -> WorkerOrder:
        rank, directory = orders.ranks[index].rank, self._identity.directory
        division = Division(orders.pieces, len(orders.ranks))
        return WorkerOrder(
            run=self._identity.run,
            host=self._identity.host,
            attempt=orders.attempt,
            trajectory=orders.trajectory,
            rank=rank,
            local_rank=index,
            world_size=orders.world_size,
            unit=rank % division.units,
            beside=division.beside(index),
            rendezvous=orders.rendezvous,
            restore_step=orders.restore_step,
            from_memory=orders.from_memory,
            values=orders.values,
            hours_between_faults=orders.hours_between_faults,
            directory=str(directory),
            log=str(directory / f"attempt-{orders.attempt}-rank-{rank}.log"),
        )

    def _save_and_stop(self, _: Orders, __: Orders) -> None:
        self._workers.terminate()

    def _idle(self, _: Orders, __: Orders) -> None:
        self._workers.kill()

    def _leave(self, _: Orders, __: Orders) -> None:
        self._workers.kill()
        self._ended.set()

    def _write_changes(self, orders: Orders) -> None:
        """One file for each live change; a reader sees it whole or not at all."""
        folder = self._identity.directory / CHANGES_FOLDER
        folder.mkdir(exist_ok=True)
        for change in orders.changes:
            path = folder / f"{change.sequence}.json"
            fresh = path.with_suffix(".new")
            fresh.write_bytes(change.to_bytes())
            fresh.replace(path)

    def _say(self, cause: Cause, *words: str) -> None:
        """Have these words in the logbook."""
        self._words.extend(AgentWord(cause=cause, text=text[:1000]) for text in words)
        self._dirty.set()

    def _on_full(self, words: str) -> None:
        self._say("OutOfMemory", f"{words}; until the next attempt recovery goes through the store")

    def _on_barren(self, words: str) -> None:
        self._fault = words
        self._ended.set()
        self._orders.put(self._newest)  # nothing new: wakes whoever waits for orders

    def _on_beat(self, beat: Heartbeat) -> None:
        self._beats.append(beat)
        self._dirty.set()

    def _report_all(self) -> None:
        """Report whenever something happened, and at least every poll interval."""
        answered = True
        while not self._ended.is_set():
            self._dirty.wait(self._newest.poll_seconds)
            self._dirty.clear()
            report = self._report()
            try:
                answer = self._coordinator.ask("POST", "/report", report.to_bytes())
                self._orders.put(Orders.from_bytes(answer))
                if not answered:
                    log.info("coordinator again")
                answered = True
                time.sleep(MIN_GAP_S)
            except (Gone, ValueError) as fault:
                self._beats.extendleft(reversed(report.heartbeats))
                self._words.extendleft(reversed(report.words))
                if answered:
                    log.info("no coordinator", fault=str(fault))
                answered = False
                time.sleep(RETRY_S)

    def _poll_all(self) -> None:
        """Hold a request open that is answered the moment there are new orders."""
        while not self._ended.is_set():
            path = f"/orders?host={self._identity.host}&after={self._newest.number}&wait={LONG_POLL_S}"
            try:
                self._orders.put(Orders.from_bytes(self._coordinator.ask("GET", path, timeout_s=LONG_POLL_S + 5)))
            except (Gone, ValueError):
                time.sleep(RETRY_S)
            time.sleep(MIN_GAP_S)

    def _report(self) -> AgentReport:
        """What is, and what was said; ends are looked up before words are taken, so no word comes after its end."""
        identity, notes = self._identity, self._workers.notes()
        beats = [self._beats.popleft() for _ in range(len(self._beats))]
        words = [self._words.popleft() for _ in range(len(self._words))]
        return AgentReport(
            run=identity.run,
            host=identity.host,
            hardware=identity.hardware,
            domain=identity.domain,
            pid=os.getpid(),
            address=self._server.address,
            orders=self._done,
            ready=self._workers.ready.is_set(),
            checking=self._burn_in.running,
            check=self._burn_in.result,
            workers=notes,
            copies=self._copies.listing(),
            heartbeats=tuple(beats),
            words=tuple(words),
            stacks=self._stacks,
            phases=self._phases,
        )


CARRY_OUT: dict[str, Callable[[Agent, Orders, Orders], None]] = {
    "run": Agent._run_gang,
    "save-and-stop": Agent._save_and_stop,
    "idle": Agent._idle,
    "leave": Agent._leave,
}
