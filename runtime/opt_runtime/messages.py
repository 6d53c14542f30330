"""What agents and coordinator say to each other. Agents report what is; orders say what shall be, whole, every time.

Both are level-triggered: a report or an order that is lost is made good by the next one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opt_api.base import Model
from opt_api.documents.base import Document
from opt_api.documents.exit_report import ExitReport
from opt_api.documents.heartbeat import Heartbeat
from opt_api.documents.live_change import LiveChange
from opt_api.documents.logbook import Cause
from opt_api.documents.manifests import RunningValues
from opt_api.types import Count, LongWhole, Message, NonNegative, Positive, ShortText, Text, Whole


class Copy(Model):
    """One unit of a gang's state after one step, in the memory of a host; see `opt_runtime.memory.units`."""

    unit: Whole
    step: LongWhole
    trajectory: Whole


class AgentWord(Model):
    """Something that happened on a host and is worth a line in the logbook, though nobody has to recover."""

    cause: Cause
    text: Message


class Stack(Model):
    """Where a rank was when it was killed for the attempt of that number."""

    rank: Whole
    before_attempt: Whole
    text: Message


class WorkerNote(Model):
    """What an agent sees of one of its workers."""

    rank: Whole
    attempt: Whole
    pid: Whole
    stopped: bool = False
    ended: bool = False
    code: int | None = None
    signal: Whole | None = None
    report: ExitReport | None = None
    stack: Message = ""


class HostCheck(Document):
    """What a host reached under load, before it may train; see `opt_runtime.checks`."""

    kind: Literal["HostCheck"] = "HostCheck"
    version: Literal[1] = 1
    matmul: NonNegative = 0
    """FLOP/s."""
    memory: NonNegative = 0
    """Bytes copied per second."""
    disk_write: NonNegative = 0
    """Bytes written and synced per second."""
    disk_bytes_free: LongWhole = 0
    pair: NonNegative | None = None
    """Bytes per second of a collective with another host; None when no other was there."""
    shared: bool = False
    """The host shares its machine with others of the run: its speeds are told and not judged."""
    failure: Text = ""
    """Why the load could not be finished; empty when it was."""


class AgentReport(Document):
    """One host's newest word."""

    kind: Literal["AgentReport"] = "AgentReport"
    version: Literal[1] = 1
    run: Text
    host: ShortText
    hardware: ShortText
    domain: ShortText = ""
    pid: Whole
    address: ShortText
    """`host:port` of the agent's own server."""
    orders: LongWhole = 0
    """Version of the orders it has carried out."""
    ready: bool = False
    """Its warm parent has imported everything."""
    checking: bool = False
    """It is under load to show what it can do."""
    check: HostCheck | None = None
    workers: tuple[WorkerNote, ...] = ()
    copies: tuple[Copy, ...] = ()
    heartbeats: Annotated[tuple[Heartbeat, ...], Field(max_length=10_000)] = ()
    """Those since the last report that was answered, oldest first."""
    words: tuple[AgentWord, ...] = ()
    """Those since the last report that was answered."""
    stacks: tuple[Stack, ...] = ()
    """Those that the newest orders asked for."""
    phases: dict[str, NonNegative] = Field(default_factory=dict)
    """Seconds of the last start of workers, by phase."""


class PlacedRank(Model):
    """One rank, and whose memory its state is taken from."""

    rank: Whole
    sources: tuple[ShortText, ...] = ()
    """Addresses of other agents that hold it, the best first; this host's own memory is looked into before."""


class Orders(Document):
    """What one host shall do."""

    kind: Literal["Orders"] = "Orders"
    version: Literal[1] = 1
    number: LongWhole
    """Grows with every change."""
    state: Literal["run", "save-and-stop", "idle", "leave"]
    attempt: Whole = 0
    trajectory: Whole = 0
    """Copies of another trajectory are of another course of the run and are dropped."""
    ranks: tuple[PlacedRank, ...] = ()
    world_size: Whole = 0
    pieces: Count = 1
    """Parts of the gang's state that differ; ranks with the same number modulo it hold equal states."""
    rendezvous: ShortText = ""
    """`host:port` of the TCPStore."""
    restore_step: LongWhole | None = None
    """Step to begin from; None for the newest good checkpoint."""
    from_memory: bool = False
    """The step lies in the memory of agents; else in the store."""
    partner: ShortText = ""
    """Address of the agent that keeps a copy of this host's state; empty for none."""
    stacks: tuple[Whole, ...] = ()
    """Ranks of the attempt before whose stacks are wanted before they are killed."""
    values: RunningValues | None = None
    changes: tuple[LiveChange, ...] = ()
    hours_between_faults: Positive | None = None
    """As measured until now; workers choose the interval between saves by it where the plan leaves that open."""
    poll_seconds: NonNegative = 0.25
    """How often to report when nothing happens."""


class WorkerOrder(Document):
    """What a forked worker is told; also what a program in a pod is started with."""

    kind: Literal["WorkerOrder"] = "WorkerOrder"
    version: Literal[1] = 1
    run: Text
    host: ShortText
    attempt: Whole
    trajectory: Whole
    rank: Whole
    local_rank: Whole
    world_size: Count
    unit: Whole
    """Unit of the state that this rank keeps in memory."""
    beside: tuple[Whole, ...]
    """Local ranks that keep the shares of its piece, in their order."""
    rendezvous: ShortText
    restore_step: LongWhole | None = None
    from_memory: bool = False
    values: RunningValues | None = None
    hours_between_faults: Positive | None = None
    directory: Text
    """The host's scratch folder."""
    log: Text
    """File that takes the worker's standard output, errors and stacks."""
