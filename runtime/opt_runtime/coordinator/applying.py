"""Carries out what was decided: journal first, then orders. One function for each kind of action."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from opt_api.documents.live_change import LiveChange
from opt_api.documents.logbook import HostNote
from opt_runtime.coordinator.ordering import Peer, gang_orders
from opt_runtime.coordinator.recovery import Recovery
from opt_runtime.core.actions import (
    Action,
    Complete,
    MarkHost,
    Note,
    Pause,
    RememberFailure,
    StartAttempt,
    StopGang,
)
from opt_runtime.core.burn_in import Reached, refusal
from opt_runtime.core.hosts import HostEvent
from opt_runtime.core.interval import hours_between_faults
from opt_runtime.messages import AgentReport, HostCheck, Orders

if TYPE_CHECKING:
    from opt_runtime.coordinator.coordinator import Coordinator

log = structlog.get_logger(__name__)

JOINING: dict[str, HostEvent] = {"Candidate": "CheckStarted", "Suspect": "Returned"}
"""What a report of a host in this state means to the ledger."""


class Applier:
    """The imperative half of one coordinator; called with its lock held."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._c = coordinator
        self._recovery: Recovery | None = None
        self._lost: set[str] = set()
        """Machines that fell silent; to be heard again is all that they lack. Others need a new agent."""

    def apply(self, action: Action) -> None:
        """Carry out one action."""
        log.info("action", what=type(action).__name__, action=str(action)[:400])
        APPLY[type(action)](self, action)

    def welcome(self, report: AgentReport) -> str:
        """Take a reporting host into the ledger, as far as it has come; why it is refused, or nothing."""
        c = self._c
        known = c.state.ledger.entries.get(report.hardware)
        _, refused = c.state.ledger.admit(report.hardware, report.host)  # before its name is known, if it is a new one
        if known is None or report.host not in known.names:
            c.record("HostSeen", hardware=report.hardware, host=report.host)
        if refused:
            log.warning("a host is refused", host=report.host, reason=refused)
            return refused
        c.observed.rename(report, c.now())
        host = c.observed.hosts.get(report.host)
        fresh = host is None or host.report.pid != report.pid
        self._bring_forward(report, fresh)
        return ""

    def hear(self, report: AgentReport) -> None:
        """Let a running recovery hear the heartbeats and the stacks of a report."""
        if self._recovery is not None:
            self._recovery.take_stacks(report.stacks)
        for beat in report.heartbeats:
            if self._recovery is None or beat.attempt != self._recovery.start.number:
                continue
            if self._recovery.hear(beat, self._c.now()):
                self._close_recovery()

    def _bring_forward(self, report: AgentReport, fresh: bool) -> None:
        """Walk a host through the ledger's states as far as its report proves."""
        if fresh and report.host not in self._c.state.gang and self._c.state.ledger.state(report.hardware) == "InUse":
            self._mark(report.hardware, "Lost", "it is back with a new agent; the one that was in the gang is gone")
        state = self._c.state.ledger.state(report.hardware)
        back = report.hardware in self._lost
        if state == "Suspect" and not (fresh or back):
            return
        self._lost.discard(report.hardware)
        while event := JOINING.get(self._c.state.ledger.state(report.hardware) or ""):
            self._mark(report.hardware, event, "its agent reports")
        if self._c.state.ledger.state(report.hardware) == "BurnIn" and report.ready and not report.checking:
            self._judge(report)

    def _judge(self, report: AgentReport) -> None:
        """Once all that are under load together are done, hold this host's numbers against the others'."""
        c, mine = self._c, report.check
        if mine is None:
            self._mark(report.hardware, "CheckPassed", "its warm parent has run a step")
            return
        others = [host.report for name, host in c.observed.hosts.items() if name != report.host and not host.gone]
        if any(other.checking for other in others):
            return
        peers = [_reached(other.check) for other in others if other.check]
        if word := refusal(_reached(mine), peers, c.settings.plan.resilience.host_checks):
            self._mark(report.hardware, "CheckFailed", word)
            notes = (HostNote(name=report.host, hardware=report.hardware, verdict="quarantined"),)
            c.note(cause="HostDrained", summary=f"host {report.host} failed its burn-in", evidence=(word,), hosts=notes)
        else:
            self._mark(report.hardware, "CheckPassed", _words(mine))

    def _mark(self, hardware: str, event: HostEvent, reason: str, *, fault: bool = False) -> None:
        if not self._c.state.ledger.allows(hardware, event):
            return
        limit = self._c.settings.plan.resilience.host_checks.max_faults_per_day if fault else None
        words = reason[:1000]
        self._c.record("HostMarked", hardware=hardware, host_event=event, reason=words, fault=fault, max_faults=limit)

    def _start(self, start: StartAttempt) -> None:
        c, now = self._c, self._c.now()
        before = c.snapshot()
        self._close_recovery()
        progress = max((c.observed.last_progress(host, 0.0) for host in before.gang), default=0.0) or now
        if not start.restore.sources:
            c.trajectory = start.number
        c.record(
            "AttemptStarted",
            attempt=start.number,
            gang=start.hosts,
            cause=start.cause,
            values=start.values,
            trajectory=c.trajectory,
        )
        self._intervene(start)
        self._leave_behind(start)
        self._assign(start, before.gang, progress, now)
        self._recovery = Recovery(start, progress, now, c.observed.highest_step, self._notes(start))
        self._follow_divergence(start)
        c.stopping = False
        replicas = c.settings.replicas(len(start.hosts))
        c.observed.begin(start.number, start.hosts, before.workers_per_host, now, start.restore.step, replicas)
        self._send(start, before.workers_per_host)

    def _intervene(self, start: StartAttempt) -> None:
        """New values become a live change from the first step on."""
        c, trigger = self._c, self._c.course.trigger
        if start.values is None or trigger is None:
            return
        c.record("Intervened", step=trigger.step)
        began = c.observed.highest_step if start.restore.step is None else start.restore.step
        values = start.values.model_dump(include=set(start.values.model_fields_set))
        c.hand_out(
            LiveChange(
                sequence=len(c.state.changes) + 1,
                at_step=began + 1,
                reason=trigger.evidence,
                who="policy",
                time=datetime.now(UTC),
                **values,
            )
        )

    def _leave_behind(self, start: StartAttempt) -> None:
        if start.poison_after is not None:
            self._c.checkpoints.leave_behind(start.poison_after, start.evidence[0][:1000])

    def _follow_divergence(self, start: StartAttempt) -> None:
        course = self._c.course
        again = course.trigger is not None and start.rung == 1 and start.restore.step == course.trigger.step - 1
        course.run_again(self._c.observed) if again and course.rerun == "none" else course.close()

    def _assign(self, start: StartAttempt, gang: tuple[str, ...], progress: float, now: float) -> None:
        """Ledger of hosts and goodput clocks: who joins, who stays, who leaves."""
        c = self._c
        for name in set(gang) - c.observed.hosts.keys():
            c.observed.goodput.leave(name, now)  # it was in the gang and never reported to this coordinator
        for name, host in c.observed.hosts.items():
            if name in start.hosts:
                self._mark(host.report.hardware, "Assigned", f"attempt {start.number}")
                if name in gang:
                    c.observed.goodput.switch(name, "detect", progress)
                c.observed.goodput.switch(name, "reschedule", now)
            elif host.gone:
                c.observed.goodput.leave(name, now)
            elif c.observed.goodput.current(name) is not None:  # a lost host has no clock any more
                self._mark(host.report.hardware, "Released", f"attempt {start.number} goes on without")
                c.observed.goodput.switch(name, "idle_spare", now)

    def _send(self, start: StartAttempt, per_host: int) -> None:
        c = self._c
        c.number += 1
        hosts = {n: h for n, h in c.observed.hosts.items() if not h.gone}
        peers = {name: Peer(name, h.report.address, h.report.domain) for name, h in hosts.items()}
        values = c.state.values
        gang = gang_orders(
            start,
            c.trajectory,
            c.settings.division(per_host * len(start.hosts)),
            peers,
            c.settings.rendezvous,
            values,
            c.state.changes,
            c.number,
        )
        told = {"hours_between_faults": self._hours_between_faults()}
        gang = {name: orders.model_copy(update=told) for name, orders in gang.items()}
        idle = Orders(number=c.number, state="idle", attempt=start.number)
        c.orders = {**{name: idle for name in c.observed.hosts if name not in gang}, **gang}

    def _hours_between_faults(self) -> float:
        c = self._c
        assumed = c.settings.plan.checkpointing.assumed_hours_between_faults
        watched = c.now() - (c.now() if c.state.began is None else c.state.began)
        return hours_between_faults(assumed, len(c.state.failures), max(watched, 0.0))

    def _notes(self, start: StartAttempt) -> tuple[HostNote, ...]:
        c = self._c
        names = dict.fromkeys((*start.culprits, *start.hosts))
        found = [(name, c.observed.hosts.get(name)) for name in names]
        return tuple(
            HostNote(
                name=name,
                hardware=host.report.hardware if host else "",
                verdict="cause" if name in start.culprits else "",
            )
            for name, host in found
        )

    def _close_recovery(self) -> None:
        if self._recovery is not None:
            entry = self._recovery.entry()
            self._c.observed.steps_lost += entry["steps_lost"]
            self._c.note(**entry)
            self._recovery = None

    def _mark_host(self, action: MarkHost) -> None:
        self._mark(action.hardware, action.event, action.reason, fault=action.fault)
        if action.event == "Lost":
            for name, host in self._c.observed.hosts.items():
                if host.report.hardware == action.hardware:
                    self._gone(action.hardware, name)

    def lose(self, hardware: str, name: str, reason: str) -> None:
        """A host is gone, and its clock stops."""
        self._mark(hardware, "Lost", reason)
        self._gone(hardware, name)

    def _gone(self, hardware: str, name: str) -> None:
        """Since the host was last heard of, its time went into noticing that it is gone."""
        goodput, now = self._c.observed.goodput, self._c.now()
        self._lost.add(hardware)
        if goodput.current(name) not in (None, "idle_spare"):
            goodput.switch(name, "detect", self._c.observed.last_progress(name, now))
        goodput.leave(name, now)

    def _remember(self, action: RememberFailure) -> None:
        self._c.record("Failed", cause=action.cause, step=action.step)

    def _note(self, action: Note) -> None:
        self._c.note(cause=action.cause, summary=action.evidence[0], evidence=action.evidence)
        self._c.course.close()

    def _pause(self, action: Pause) -> None:
        c = self._c
        self._close_recovery()
        c.save_progress()
        c.record("Paused", cause=action.cause, reason="; ".join(action.evidence)[:1000])
        words = f"paused: {action.evidence[0]}"
        c.note(cause=action.cause, rung=5, summary=words, evidence=action.evidence, from_step=c.observed.highest_step)
        self._stand_down("idle")

    def _stop(self, action: StopGang) -> None:
        c = self._c
        c.stopping = True
        log.info("the gang saves and stops", reason=action.reason)
        c.number += 1
        for name in c.state.gang:
            if name in c.orders:
                changed: dict[str, Any] = {"number": c.number, "state": "save-and-stop"}
                c.orders[name] = c.orders[name].model_copy(update=changed)
            else:
                c.orders[name] = Orders(number=c.number, state="save-and-stop", attempt=c.state.attempt)

    def _complete(self, _: Complete) -> None:
        c = self._c
        self._close_recovery()
        c.save_progress()
        c.record("Completed", reason="every rank came to its end")
        seconds = c.observed.goodput.state(c.now())
        c.note(
            cause="Completed", summary="every rank came to its end", to_step=c.observed.highest_step, seconds=seconds
        )
        self._stand_down("leave")

    def _stand_down(self, state: Any) -> None:
        """No gang any more: all hosts are told, and count as spares."""
        c = self._c
        c.number += 1
        c.course.close()
        c.orders = {name: Orders(number=c.number, state=state, attempt=c.state.attempt) for name in c.observed.hosts}
        for name, host in c.observed.hosts.items():
            self._mark(host.report.hardware, "Released", state)
            if c.observed.goodput.current(name) is not None:
                c.observed.goodput.switch(name, "idle_spare", c.now())
        c.observed.end()


def _reached(check: HostCheck) -> Reached:
    return Reached(
        check.matmul, check.memory, check.disk_bytes_free, check.pair, shared=check.shared, failure=check.failure
    )


def _words(check: HostCheck) -> str:
    pair = f", {check.pair / 1e6:.3g} MB/s with another host" if check.pair else ""
    return f"{check.matmul / 1e9:.3g} GFLOP/s, {check.memory / 1e9:.3g} GB/s in memory{pair}"


APPLY: dict[type[Action], Callable[[Applier, Any], None]] = {
    StartAttempt: Applier._start,
    MarkHost: Applier._mark_host,
    RememberFailure: Applier._remember,
    Note: Applier._note,
    Pause: Applier._pause,
    StopGang: Applier._stop,
    Complete: Applier._complete,
}
