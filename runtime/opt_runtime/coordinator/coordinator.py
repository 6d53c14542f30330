"""The coordinator: reports in, a decision, orders out. One lock; one thread decides; the store is written behind."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import Any

import structlog

from opt_api.documents.live_change import LiveChange
from opt_api.documents.manifests import RunningValues
from opt_runtime.coordinator.applying import Applier
from opt_runtime.coordinator.checkpoints import CheckpointWatch
from opt_runtime.coordinator.divergence import TriggerCourse
from opt_runtime.coordinator.observed import NEVER, Host, Observed
from opt_runtime.coordinator.probe import word_of
from opt_runtime.coordinator.settings import ADOPT_QUIET_S, Settings, allowed_sizes
from opt_runtime.core.decide import decide
from opt_runtime.core.snapshot import GangSnapshot
from opt_runtime.messages import AgentReport, Orders
from opt_runtime.records.journal import RuntimeEvent, StepLoss, What
from opt_runtime.records.kept_state import keep_state, remembered
from opt_runtime.records.logbook import Logbook, entry_of
from opt_runtime.records.replay import fold
from opt_runtime.records.scribe import Scribe
from opt_store import Store

PROGRESS_S = 5.0
"""How often step and goodput are journalled."""
PROBE_S = 0.2
LOSSES_KEPT = 200
"""Losses of one Progress event, at most."""
FAREWELL_S = 0.5
"""So long the last orders, to leave, can still be fetched."""
KEEP = Orders(number=0, state="idle")
"""Number 0 is older than any orders: the agent goes on with what it has."""
log = structlog.get_logger(__name__)


class Coordinator:
    """One training's coordinator. Every public method may be called from any thread.

    Args:
        settings: What to train.
        store: Where the journal, the logbook and the checkpoints are.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self._began, self._epoch = time.monotonic(), time.time()
        self.changed = threading.Condition(threading.RLock())
        self.observed = Observed(settings.plan.resilience)
        self.course = TriggerCourse()
        self.orders: dict[str, Orders] = {}
        self.number = int(self._epoch * 1000)
        self.stopping = self.left = False
        self._logbook = Logbook(store, settings.run)
        self.state, self._journal = remembered(store, settings.run)
        self.trajectory = self.state.trajectory
        self.scribe = Scribe()
        self.sizes = allowed_sizes(settings.plan.layout, settings.plan.recipe.batch_sequences)
        self.checkpoints = CheckpointWatch(store, settings.run, self._on_verified)
        self._applier = Applier(self)
        self._woken = True
        self._adopted = self.state.attempt if self.state.phase == "running" else 0
        self._progress_at = self._newcomer_at = 0.0
        self._absent: frozenset[str] = frozenset()
        self._dismissed: set[str] = set()
        self._take_over()

    def now(self) -> float:
        """Seconds since the epoch on a clock that never steps back while this process lives."""
        return self._epoch + time.monotonic() - self._began

    def run(self) -> None:
        """Decide until the training is complete, another coordinator has taken over, or this one is told to leave."""
        threading.Thread(target=self._probe_all, name="probe", daemon=True).start()
        wait = 0.0
        while not self.scribe.replaced.is_set() and not self.left:
            with self.changed:
                self.changed.wait_for(lambda: self._woken, wait)
                self._woken = False
                wait = self.turn()
            if self.state.phase == "completed":
                time.sleep(FAREWELL_S)
                break
        self.checkpoints.close()
        self.scribe.close()

    def leave(self) -> None:
        """End `run` soon, with all written that was decided; the gang goes on, for the next coordinator to adopt."""
        with self.changed:
            self.left = True
            self.wake()

    def take(self, report: AgentReport) -> Orders:
        """A host's report; the answer is what it shall do."""
        with self.changed:
            if report.host in self._dismissed or self._applier.welcome(report):
                return Orders(number=self.number + 1, state="leave")
            known = self.observed.hosts.get(report.host)
            if known is None or known.heard == NEVER:
                self._newcomer_at = self.now()
                log.info("host", host=report.host, hardware=report.hardware, after_s=round(self.now() - self._epoch, 1))
            self.observed.take(report, self.now(), "init" if self.state.attempt == 0 else "idle_spare")
            if self.state.attempt == self._adopted and report.orders == 0:
                self.observed.bury_workers(report, self.now())
            self._applier.hear(report)
            for word in report.words:
                self.note(cause=word.cause, summary=word.text, evidence=(word.text,))
            self.course.follow(self.observed)
            self.wake()
            return self.orders.get(report.host, KEEP)

    def dismiss(self, host: str, word: str) -> bool:
        """A host outside the gang is not counted on any more and told to leave; False where it is in the gang."""
        with self.changed:
            if host in self.state.gang:
                return False
            self._dismissed.add(host)
            if known := self.observed.hosts.pop(host, None):
                self._applier.lose(known.report.hardware, host, word)
            self.wake()
            return True

    def wait_for_orders(self, host: str, after: int, timeout_s: float) -> Orders:
        """Orders newer than `after`, as soon as there are any; what there is when time runs out."""
        with self.changed:
            self.changed.wait_for(lambda: self.orders.get(host, KEEP).number > after, timeout_s)
            return self.orders.get(host, KEEP)

    def wake(self) -> None:
        """Something happened: decide again."""
        self._woken = True
        self.changed.notify_all()

    def record(self, what: What, **fields: Any) -> None:
        """Fold an event into the state now, and write it behind."""
        moment = self.now()
        writer = f"{os.getpid()}@{self._epoch:.3f}"

        def make(number: int) -> RuntimeEvent:
            return RuntimeEvent(sequence=number, writer=writer, time=moment, what=what, **fields)

        self.state = state = fold(self.state, make(0))
        self.scribe.put(lambda: self._journal.append(make, alone=True))
        self.scribe.put(lambda: keep_state(self.store, self.settings.run, self._journal.number, state))

    def note(self, **fields: Any) -> None:
        """Write an entry into the logbook, behind."""
        fields = {"attempt": self.state.attempt} | fields
        make = entry_of(self.settings.run, **fields)
        self.scribe.put(lambda: self._logbook.append(make))

    def hand_out(self, change: LiveChange) -> None:
        """Journal a live change, remember its values, and give it to the running gang."""
        named = {name: getattr(change, name) for name in RunningValues.model_fields}
        values = self.state.values or self.settings.first_values
        fresh = values.model_copy(update={name: value for name, value in named.items() if value is not None})
        self.record("Changed", live_change=change, values=fresh)
        self.number += 1
        for host in self.state.gang:
            if host in self.orders:
                update = {"number": self.number, "changes": self.state.changes}
                self.orders[host] = self.orders[host].model_copy(update=update)
        self.changed.notify_all()

    def snapshot(self) -> GangSnapshot:
        """Everything there is to decide on, frozen."""
        observed, policy, now = self.observed, self.settings.plan.resilience, self.now()
        values = self.state.values or self.settings.first_values
        return GangSnapshot(
            now=now,
            run=self.settings.run,
            attempt=self.state.attempt,
            phase=self.state.phase,
            wanted_hosts=self.settings.plan.layout.hosts,
            workers_per_host=self.settings.plan.layout.devices_per_host,
            units=self.settings.division(len(observed.workers)).units,
            allowed_sizes=self.sizes,
            policy=policy,
            deadlines=observed.deadlines.deadlines(policy.section_deadlines),
            silence=self.settings.silence_s,
            hosts=observed.views(self.trajectory),
            workers=tuple(worker for _, worker in sorted(observed.workers.items())),
            ledger=self.state.ledger,
            failures=self.state.failures,
            verified_at=self.state.verified_at,
            stragglers=observed.straggling(),
            divergence=self.course.view(observed, values, self.checkpoints.views, self.state.interventions),
            paused_for=self.state.paused_for,
            suspend=self.state.suspend,
            stopping=self.stopping,
            reached=observed.highest_step,
            usual=observed.deadlines.usual(),
            disagreement=observed.disagreement,
            checkpoints=self.checkpoints.views,
            final_saved=any(v.step >= self.settings.plan.recipe.total_steps for v in self.checkpoints.views),
        )

    def turn(self) -> float:
        """Decide and apply once; how long to wait until the next time at the latest, in seconds."""
        with self.changed:
            if self._adopting():
                return 0.1
            self._miss_the_absent()
            self._expect_the_gang()
            decision = decide(self.snapshot())
            for action in decision.actions:
                self._applier.apply(action)
            self._journal_progress()
            if decision.actions:
                self.changed.notify_all()
            return 0.0 if decision.actions else decision.requeue_after

    def _take_over(self) -> None:
        """Go on where the coordinator before left off; its gang runs on and is adopted as its hosts report."""
        self.record("CoordinatorStarted")
        now = self.now()
        self._carry_goodput(now)
        self.observed.deadlines.carry(self.state.section_seconds)
        self.observed.highest_step, self.observed.steps_lost = self.state.highest_step, self.state.steps_lost
        if self.state.phase == "running":
            per_host = self.settings.plan.layout.devices_per_host
            replicas = self.settings.replicas(len(self.state.gang))
            self.observed.begin(self.state.attempt, self.state.gang, per_host, now, self.state.highest_step, replicas)
        if self.state.coordinators > 1 and self.state.phase == "running":
            self.note(cause="CoordinatorLost", summary="a new coordinator took over; the gang was not touched")

    def _carry_goodput(self, now: float) -> None:
        """Go on with the clocks from where they were last written down: while nobody watched, the hosts went on.

        What they did meanwhile counts as what they were doing, productive in the gang and idle elsewhere.
        """
        self.observed.goodput.carry(self.state.goodput, now)
        for entry in self.state.ledger.in_state("Candidate", "BurnIn", "Spare", "InUse"):
            working = self.state.phase == "running" and entry.names[-1] in self.state.gang
            if self.state.goodput:
                self._absent |= {entry.names[-1]}
                self.observed.goodput.join(
                    entry.names[-1], self.state.goodput_at, "productive" if working else "idle_spare"
                )

    def _miss_the_absent(self) -> None:
        """Hosts outside the gang that never reported to this coordinator were lost while nobody watched."""
        if not self._absent or self.now() - self._epoch <= self.settings.adopt_s:
            return
        names = {name for name in self._absent if name not in self.observed.hosts and name not in self.state.gang}
        self._absent = frozenset(self.state.gang) - self.observed.hosts.keys()
        for entry in self.state.ledger.in_state("Candidate", "BurnIn", "Spare"):
            if entry.names[-1] in names:
                self._applier.lose(entry.hardware, entry.names[-1], "it did not report to the new coordinator")

    def _expect_the_gang(self) -> None:
        """Hosts of the gang that never reported to this coordinator are silent from now on: others may tell of them."""
        for name in self.state.gang if self.state.phase == "running" else ():
            if name not in self.observed.hosts:
                self.observed.hosts[name] = self.unheard(name)

    def unheard(self, name: str) -> Host:
        """A host that an earlier coordinator had in its gang and this one has never heard of."""
        known = [entry.hardware for entry in self.state.ledger.entries.values() if name in entry.names]
        hardware = known[-1] if known else name
        report = AgentReport(run=self.settings.run, host=name, hardware=hardware, pid=0, address="")
        return Host(report, NEVER, awaited=self.now())

    def _adopting(self) -> bool:
        """Whether hosts of the gang may still be about to report to this new coordinator."""
        now = self.now()
        if self.state.phase != "running" or now - self._epoch > self.settings.adopt_s:
            return False
        known = [self.observed.hosts[name] for name in self.state.gang if name in self.observed.hosts]
        quiet = any(host.heard != NEVER for host in known) and now - self._newcomer_at > ADOPT_QUIET_S
        return len(known) < len(self.state.gang) and not quiet

    def _journal_progress(self) -> None:
        now = self.now()
        if now - self._progress_at < PROGRESS_S:
            return
        self._progress_at = now
        self.save_progress()

    def save_progress(self) -> None:
        """Journal step, losses, goodput and values."""
        losses = sorted(self.observed.unwritten.items())
        self.observed.unwritten.clear()
        self.record(
            "Progress",
            step=self.observed.highest_step,
            loss=losses[-1][1] if losses else None,
            losses=tuple(StepLoss(step=s, loss=v) for s, v in losses[:: len(losses) // LOSSES_KEPT + 1]),
            steps_lost=self.observed.steps_lost,
            goodput=self.observed.goodput.state(self.now()),
            section_seconds=self.observed.deadlines.known(),
            values=self.state.values,
        )

    def _on_verified(self, step: int) -> None:
        with self.changed:
            if step not in self.state.verified:
                log.info("checkpoint verified", step=step)
                self.record("Verified", step=step)
                self.wake()

    def _probe_all(self) -> None:
        """Ask the machines of silent hosts, outside the lock, because an answer may take its time."""
        while not self.scribe.replaced.is_set():
            time.sleep(PROBE_S)
            with self.changed:
                silent = {
                    name: host.report.address
                    for name, host in self.observed.hosts.items()
                    if host.heard != NEVER and self.now() - host.heard > self.settings.silence_s and not host.gone
                }
            for name, address in silent.items():
                if word := word_of(address):
                    with self.changed:
                        self.observed.hosts[name] = replace(self.observed.hosts[name], gone=word)
                        self.wake()
