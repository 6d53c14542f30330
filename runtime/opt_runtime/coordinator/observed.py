"""What has been seen of hosts and workers, folded from their reports as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.logbook import GoodputClass
from opt_api.training.resilience import ResilienceSpec
from opt_runtime.core.corruption import Disagreement, Norms, disagreement
from opt_runtime.core.deadlines import DeadlineBook
from opt_runtime.core.goodput import GoodputLedger, class_of
from opt_runtime.core.readings import Reading, Trigger, Watch, observe
from opt_runtime.core.snapshot import HostView, WorkerExit, WorkerView
from opt_runtime.core.stragglers import StragglerState, observe_step, stragglers
from opt_runtime.messages import AgentReport, WorkerNote

NEVER = 0.0
"""When a host was heard that never was: not by this coordinator."""
STEPS_WATCHED = 64
"""Steps for which compute times of all ranks are awaited before they are given up."""


@dataclass
class Host:
    """One host's newest report, when it came, and what a second source says of it; or since when one is awaited."""

    report: AgentReport
    heard: float
    gone: str = ""
    awaited: float = 0.0


@dataclass
class Observed:
    """Mutable memory of the shell; everything decided on is copied out of it into a snapshot."""

    policy: ResilienceSpec
    hosts: dict[str, Host] = field(default_factory=dict)
    workers: dict[int, WorkerView] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    deadlines: DeadlineBook = field(default_factory=DeadlineBook)
    goodput: GoodputLedger = field(default_factory=GoodputLedger)
    slow: StragglerState = field(default_factory=StragglerState)
    watch: Watch = field(default_factory=Watch)
    trigger: Trigger | None = None
    losses: dict[int, float | None] = field(default_factory=dict)
    attempt: int = 0
    highest_step: int = 0
    steps_lost: int = 0
    """Steps that are done again because of faults, over all attempts."""
    redone_below: int = 0
    """Steps below it were done by an earlier attempt."""
    newest: Heartbeat | None = None
    unwritten: dict[int, float] = field(default_factory=dict)
    """Losses by step that no journal has yet."""
    disagreement: Disagreement | None = None
    replicas: int = 1
    _compute: dict[int, dict[int, float]] = field(default_factory=dict)
    _norms: dict[int, dict[int, Norms]] = field(default_factory=dict)

    def begin(
        self, attempt: int, gang: Sequence[str], per_host: int, now: float, from_step: int | None, replicas: int = 1
    ) -> None:
        """Watch a new attempt; nothing said of older ones counts any more."""
        self.replicas, self.disagreement = replicas, None
        self._norms.clear()
        self.attempt, self.redone_below = attempt, self.highest_step
        ranks = enumerate(host for host in gang for _ in range(per_host))
        self.workers = {rank: WorkerView(rank, host, now) for rank, host in ranks}
        self.pids.clear()
        self._compute.clear()
        self.slow = StragglerState()
        self.trigger = None
        self.watch = replace(self.watch, last_step=-1 if from_step is None else from_step, rising=0)

    def end(self) -> None:
        """No attempt is going on."""
        self.workers = {}

    def take(self, report: AgentReport, now: float, joining: GoodputClass) -> None:
        """Fold in a host's report; a host that was not here before joins in the class given."""
        host = self.hosts.get(report.host)
        self.hosts[report.host] = Host(report, now)
        if self.goodput.current(report.host) is None:
            self.goodput.join(report.host, now, joining)
        if host is not None and host.heard != NEVER and host.report.pid != report.pid:
            self.bury_workers(report, now)
        for beat in report.heartbeats:
            if beat.attempt == self.attempt and beat.rank in self.workers:
                self._take_beat(beat, now)
        for note in report.workers:
            if note.attempt == self.attempt and note.rank in self.workers:
                self._take_note(note, now)

    def rename(self, report: AgentReport, now: float) -> None:
        """A machine that reports under another name is no longer there under its old one."""
        for name in [n for n, h in self.hosts.items() if h.report.hardware == report.hardware and n != report.host]:
            self.bury_workers(self.hosts.pop(name).report, now)
            self.goodput.leave(name, now)

    def bury_workers(self, report: AgentReport, now: float) -> None:
        """The host has a new agent: the workers of the one before died with it."""
        words = f"host {report.host} came back with a new agent; its workers had died with the old one"
        for rank, worker in self.workers.items():
            if worker.host == report.host and worker.exit is None:
                self.workers[rank] = replace(worker, exit=WorkerExit(now, signal=9, stack=words))

    def views(self, trajectory: int) -> tuple[HostView, ...]:
        """All hosts, with the copies that are of the present course of the run."""
        return tuple(
            HostView(name, h.report.hardware, h.heard, h.gone, h.report.domain, _holds(h.report, trajectory), h.awaited)
            for name, h in sorted(self.hosts.items())
        )

    def straggling(self) -> dict[int, str]:
        """Ranks named slow, with the evidence."""
        return stragglers(self.slow, self.policy.host_checks)

    def last_progress(self, host: str, otherwise: float) -> float:
        """When a worker of the host was last heard of alive."""
        heard = [w.heard for w in self.workers.values() if w.host == host and w.heartbeat]
        return max(heard, default=otherwise)

    def _take_note(self, note: WorkerNote, now: float) -> None:
        worker = self.workers[note.rank]
        self.pids[note.rank] = note.pid
        ended = worker.exit
        if note.ended and ended is None:
            ended = WorkerExit(now, note.code, note.signal, note.report, note.stack)
            self._hear_diverged(note)
        self.workers[note.rank] = replace(worker, stopped=note.stopped, exit=ended)

    def _hear_diverged(self, note: WorkerNote) -> None:
        """A worker whose step was not finite ends without a heartbeat of that step: its report is the reading."""
        if note.signal is not None or note.report is None or note.report.cause != "Diverged":
            return
        step = note.report.step + 1
        if self.trigger is None and self.policy.divergence.enabled:
            self.trigger = Trigger("NonFinite", step, note.report.message)
        self.losses.setdefault(self.trigger.step if self.trigger else step, math.nan)

    def _take_beat(self, beat: Heartbeat, now: float) -> None:
        worker = self.workers[beat.rank]
        if worker.heartbeat and beat.sequence <= worker.heartbeat.sequence:
            return
        if worker.heartbeat:
            self._time_section(worker.heartbeat, beat)
        self.workers[beat.rank] = replace(worker, heartbeat=beat, heard=now)
        self.goodput.switch(worker.host, class_of(beat.section, beat.step, self.redone_below), now)
        self._time_compute(beat)
        self._compare(beat)
        if beat.rank == 0:
            self._read(beat)
        self.highest_step = max(self.highest_step, beat.step)

    def _time_section(self, before: Heartbeat, beat: Heartbeat) -> None:
        """The section before came to its end when this one began, or when its step did."""
        if beat.section == before.section and beat.section_seconds >= before.section_seconds:
            if beat.step > before.step:
                self.deadlines.observe(before.section, max(beat.time - before.time, 0.0))
            return
        spent = beat.time - beat.section_seconds - before.time + before.section_seconds
        self.deadlines.observe(before.section, max(spent, before.section_seconds))

    def _time_compute(self, beat: Heartbeat) -> None:
        if beat.compute_seconds is None:
            return
        ranks = self._compute.setdefault(beat.step, {})
        ranks[beat.rank] = beat.compute_seconds
        if len(ranks) == len(self.workers):
            self.slow = observe_step(self.slow, ranks, self.policy.host_checks, beat.step_seconds or 0.0)
            del self._compute[beat.step]
        while len(self._compute) > STEPS_WATCHED:
            del self._compute[min(self._compute)]

    def _compare(self, beat: Heartbeat) -> None:
        """Hold a step's own norms of all ranks beside each other, once all have told theirs."""
        if self.replicas < 2 or beat.own_parameter_norm is None:
            return
        ranks = self._norms.setdefault(beat.step, {})
        ranks[beat.rank] = Norms(beat.own_gradient_norm, beat.own_parameter_norm)
        if len(ranks) == len(self.workers):
            self.disagreement = self.disagreement or disagreement(beat.step, ranks, self.replicas)
            del self._norms[beat.step]
        while len(self._norms) > STEPS_WATCHED:
            del self._norms[min(self._norms)]

    def _read(self, beat: Heartbeat) -> None:
        self.newest = beat
        if beat.loss is None and beat.loss_finite:
            return
        reading = Reading.of(beat)
        self.losses[beat.step] = reading.loss
        if reading.loss is not None and math.isfinite(reading.loss):
            self.unwritten[beat.step] = reading.loss
        while len(self.losses) > STEPS_WATCHED:
            del self.losses[min(self.losses)]
        self.watch, trigger = observe(self.watch, reading, self.policy.divergence)
        self.trigger = self.trigger or trigger


def _holds(report: AgentReport, trajectory: int) -> Mapping[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for copy in report.copies:
        if copy.trajectory == trajectory:
            found[copy.unit] = (*found.get(copy.unit, ()), copy.step)
    return found
