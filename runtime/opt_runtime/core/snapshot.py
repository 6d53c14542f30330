"""Everything a decision is made from, gathered once and frozen.

Times are seconds on the coordinator's own monotonic clock. A worker's heartbeat carries the worker's clock; only the
moment it was heard is compared here, so clocks of hosts need not agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from opt_api.documents.exit_report import ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.logbook import Cause
from opt_api.documents.manifests import RunningValues
from opt_api.training.resilience import ResilienceSpec, Section
from opt_runtime.core.budget import Failure
from opt_runtime.core.corruption import Disagreement
from opt_runtime.core.divergence import CheckpointView
from opt_runtime.core.hosts import HostLedger
from opt_runtime.core.readings import Trigger

AttemptPhase = Literal["none", "running", "paused", "completed"]


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker process ended, as its agent saw it.

    Attributes:
        at: When the coordinator heard of it.
        code: Exit code; None when a signal ended it.
        signal: Number of that signal; None otherwise.
        report: What the worker itself said, if it could.
        stack: The last lines it wrote, or its stack.
    """

    at: float
    code: int | None = None
    signal: int | None = None
    report: ExitReport | None = None
    stack: str = ""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One rank of the current attempt.

    Attributes:
        rank: In the gang.
        host: Name of the host it runs on.
        started: When its attempt was ordered, or when the coordinator came back and first knew of it.
        heartbeat: The newest; None before the first.
        heard: When that was heard.
        exit: Set once the process is gone.
        stopped: The kernel says the process is stopped (state T): it cannot make progress until someone continues it.
    """

    rank: int
    host: str
    started: float
    heartbeat: Heartbeat | None = None
    heard: float = 0.0
    exit: WorkerExit | None = None
    stopped: bool = False

    @property
    def section(self) -> Section:
        """Where it is; `init` before its first word."""
        return self.heartbeat.section if self.heartbeat else "init"

    @property
    def step(self) -> int:
        """Steps done as far as known; its last word may have come before its last heartbeat."""
        said = self.exit.report.step if self.exit and self.exit.report else 0
        return max(said, self.heartbeat.step if self.heartbeat else 0)

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done, and collectives begun by the process where it says so."""
        return self.step, (self.heartbeat.collectives if self.heartbeat else None) or 0

    def seconds_in_section(self, now: float) -> float:
        """How long it has been there, silence since the last heartbeat included."""
        if self.heartbeat is None:
            return now - self.started
        return self.heartbeat.section_seconds + (now - self.heard)


@dataclass(frozen=True, slots=True)
class HostView:
    """One host with an agent.

    Attributes:
        name: As it calls itself now.
        hardware: Which machine it is, whatever its name.
        heard: When its agent last reported; 0 where it never did to this coordinator.
        gone: What a second source says about its absence ("connection refused", "process ended"); empty for nothing.
        domain: Hosts of one failure domain may fail together; empty when unknown.
        holds: Steps held in memory here, by unit of the state, own ranks' and partners' alike.
        awaited: Since when it is waited for, where it never reported: an earlier coordinator had it in the gang.
    """

    name: str
    hardware: str
    heard: float
    gone: str = ""
    domain: str = ""
    holds: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    awaited: float = 0.0


@dataclass(frozen=True, slots=True)
class DivergenceView:
    """What the divergence policy decides on.

    Attributes:
        trigger: The reading that set it off.
        first_loss: Loss of the triggering step when it was first run.
        rerun: "none" before the step was run once more, "running" meanwhile, "done" after.
        again_loss: Loss of the second run.
        values: Running fields in force.
        checkpoints: Places to return to.
        activations: (step, norm) of the last layer, ascending.
        past_steps: Steps of earlier interventions.
    """

    trigger: Trigger
    first_loss: float | None
    rerun: Literal["none", "running", "done"]
    values: RunningValues
    again_loss: float | None = None
    checkpoints: tuple[CheckpointView, ...] = ()
    activations: tuple[tuple[int, float], ...] = ()
    past_steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GangSnapshot:
    """One training as its coordinator knows it.

    Attributes:
        now: When the snapshot was taken.
        run: Name of the training.
        attempt: Number of the newest attempt; 0 before the first.
        phase: What the newest attempt is in.
        wanted_hosts: Size of the full gang.
        workers_per_host: Ranks on each host.
        units: Units that the state is kept as; a rank keeps unit `rank % units`.
        allowed_sizes: Numbers of hosts that divide the batch evenly, ascending.
        policy: Limits and switches of the spec.
        deadlines: In use now, by section.
        silence: Seconds without a report after which a host counts as silent.
        hosts: All that ever reported and are not retired.
        workers: Ranks of the newest attempt.
        ledger: States of the machines.
        failures: What failed before, oldest first.
        verified_at: When the newest checkpoint was verified; None for never.
        stragglers: Ranks named slow, with the evidence.
        divergence: What the watched numbers say.
        paused_for: Why the run is paused; None while it is not.
        suspend: A person wants it to save, stop and stay stopped.
        stopping: The gang was asked to save and stop.
        usual: 5 x observed p99 of the sections that were seen often, without floors.
        disagreement: What replicas disagree on; None while they agree.
        checkpoints: All of the store.
        final_saved: The checkpoint of the last step is in the store.
        reached: Highest step ever done; where a worker failed that had not yet said where it was.
    """

    now: float
    run: str
    attempt: int
    phase: AttemptPhase
    wanted_hosts: int
    workers_per_host: int
    units: int
    allowed_sizes: tuple[int, ...]
    policy: ResilienceSpec
    deadlines: Mapping[Section, float]
    silence: float
    hosts: tuple[HostView, ...]
    workers: tuple[WorkerView, ...]
    ledger: HostLedger
    failures: tuple[Failure, ...] = ()
    verified_at: float | None = None
    stragglers: Mapping[int, str] = field(default_factory=dict)
    divergence: DivergenceView | None = None
    paused_for: Cause | None = None
    suspend: bool = False
    stopping: bool = False
    usual: Mapping[Section, float] = field(default_factory=dict)
    disagreement: Disagreement | None = None
    checkpoints: tuple[CheckpointView, ...] = ()
    final_saved: bool = False
    reached: int = 0

    @property
    def min_hosts(self) -> int:
        """Smallest gang that may train."""
        return self.policy.min_hosts or self.wanted_hosts

    @property
    def gang(self) -> tuple[str, ...]:
        """Hosts of the newest attempt, in the order of their ranks."""
        return tuple(dict.fromkeys(worker.host for worker in sorted(self.workers, key=lambda w: w.rank)))

    def host(self, name: str) -> HostView | None:
        """The host of that name, if it ever reported."""
        return next((host for host in self.hosts if host.name == name), None)
