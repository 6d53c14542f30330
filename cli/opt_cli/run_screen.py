"""What `optctl run` shows: one screen on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from opt_api.canonical import canonical_json
from opt_api.documents.plan import Plan
from opt_cli.loss_chart import chart

CURVE_ROWS = 7
EVENTS = 7
STATUS_EVERY = 5
"""Of the statuses, every so many is printed as a JSON line; events all are."""
COLOURS = {
    "productive": "green", "eval": "cyan", "load": "blue", "init": "blue", "save_stall": "magenta", "redone": "red",
    "detect": "red", "reschedule": "yellow", "idle_spare": "bright_black",
}  # fmt: skip
"""Of the goodput ledger's classes, and of sections."""
GOOD = frozenset({"Started", "Completed", "Resumed", "LiveChange"})
"""Causes that are no trouble."""

Told = Callable[[dict[str, Any]], None]


@contextmanager
def screen(plan: Plan, as_json: bool) -> Iterator[Told]:
    """Give the function that shows what is told."""
    if as_json:
        yield Lines().add
        return
    view = View(plan)
    console = Console()
    with Live(console=console, refresh_per_second=4, get_renderable=lambda: view.render(console.width)) as live:
        yield view.add
        live.refresh()


@dataclass
class Lines:
    """JSON lines on standard output."""

    statuses: int = 0

    def add(self, what: dict[str, Any]) -> None:
        """One line, if it is new enough."""
        self.statuses += "status" in what
        if "status" not in what or self.statuses % STATUS_EVERY == 1:
            click.echo(canonical_json(what).decode())


@dataclass
class View:
    """The newest status, the loss curve, the last events."""

    plan: Plan
    status: dict[str, Any] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)
    rate: float | None = None
    began: float = field(default_factory=time.monotonic)
    events: deque[Text] = field(default_factory=lambda: deque(maxlen=EVENTS))

    def add(self, what: dict[str, Any]) -> None:
        """Take in one thing that was told."""
        if status := what.get("status"):
            self._take_status(status)
        if entry := what.get("entry"):
            self._take_entry(entry)
        if "fault" in what:
            self._say("fault", what["fault"], "bold red")
        if "stopping" in what:
            self._say("stopping", what["stopping"], "bold yellow")

    def _take_status(self, status: dict[str, Any]) -> None:
        self.status = status
        if status["loss"] is not None:
            self.losses[status["step"]] = status["loss"]
        if status["tokensPerSecond"]:
            before = self.rate if self.rate is not None else status["tokensPerSecond"]
            self.rate = before + 0.1 * (status["tokensPerSecond"] - before)

    def _take_entry(self, entry: dict[str, Any]) -> None:
        seconds = entry.get("seconds", {}).get("in_all")
        took = f" ({seconds:.2f} s)" if seconds is not None and entry.get("rung") else ""
        self._say(entry["cause"], entry["summary"] + took, "green" if entry["cause"] in GOOD else "yellow")
        if entry.get("rung"):
            self.marks.add(entry.get("fromStep") or 0)

    def _say(self, what: str, words: str, style: str) -> None:
        line = Text(f"{duration(time.monotonic() - self.began)} ", style="dim", no_wrap=True, overflow="ellipsis")
        self.events.append(line.append(f"{what:<14} ", style=style).append(words, style="default"))

    def render(self, width: int = 100) -> Group:
        """The screen."""
        if not self.status:
            return Group(Panel(Text("starting the hosts"), title=self._title(), title_align="left", width=width))
        curve = chart(self.losses, width - 4, CURVE_ROWS, self.status["totalSteps"], self.marks)
        parts = [
            Panel(self._head(), title=self._title(), title_align="left", width=width),
            Panel(Text("\n".join(curve), style="cyan", no_wrap=True), title="loss", title_align="left", width=width),
            Panel(self._hosts(width), title="hosts", title_align="left", width=width),
            Panel(Group(*self.events), title="events", title_align="left", width=width),
        ]
        return Group(*parts)

    def _title(self) -> str:
        s = self.status
        phase = (s["pausedFor"] or ("evaluating" if s.get("section") == "eval" else s["phase"])) if s else "starting"
        return f"[bold]{self.plan.name}[/bold]: {phase}" + (f", attempt {s['attempt']}" if s else "")

    def _head(self) -> RenderableType:
        s, total = self.status, self.status["totalSteps"]
        left = (total - s["step"]) * self.plan.tokens_per_step / self.rate if self.rate else None
        steps = Table.grid(expand=True, padding=(0, 1))
        steps.add_column(no_wrap=True)
        steps.add_column(ratio=1)
        steps.add_column(no_wrap=True)
        bar = ProgressBar(total=total, completed=s["step"])
        steps.add_row(f"step {s['step']}/{total}", bar, f"ETA {duration(left)}")
        numbers = [
            f"loss {s['loss']:.4f}" if s["loss"] is not None else "loss -",
            f"{self.rate:,.0f} tokens/s" if self.rate else "- tokens/s",
            f"checkpoints {', '.join(map(str, s.get('checkpoints', [])[-3:])) or '-'}",
            f"ETTR {s['ettr']:.1%}" if s["ettr"] is not None else "ETTR -",
        ]
        return Group(steps, Text("  ·  ".join(numbers)), self._goodput())

    def _goodput(self) -> Text:
        """Seconds of all hosts by class, the largest first."""
        spent = sorted(self.status.get("goodput", {}).items(), key=lambda item: -item[1])
        line = Text("host seconds: ", no_wrap=True, overflow="ellipsis")
        for name, seconds in (item for item in spent if item[1] >= 0.5):
            line.append(f"{name.replace('_', ' ')} {seconds:.0f}", style=COLOURS.get(name, "")).append("  ")
        return line

    def _hosts(self, width: int) -> Table:
        table = Table(box=None, pad_edge=False, width=width - 4)
        for name in ("host", "state", "agent", "ranks"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        for agent in self.status.get("agents", []):
            ranks = [w for w in self.status["workers"] if w["host"] == agent["host"]]
            words = Text(", ").join(_rank(worker) for worker in ranks)
            state = "gone" if agent.get("gone") else agent["state"] or ""
            table.add_row(agent["host"], Text(state, style=STATES.get(state, "yellow")), str(agent["pid"]), words)
        return table


STATES = {"InUse": "green", "Spare": "cyan", "gone": "red", "Quarantined": "red"}


def _rank(worker: dict[str, Any]) -> Text:
    where = "ended" if worker.get("ended") else worker["section"]
    return Text(f"rank {worker['rank']} (pid {worker['pid']}) {where} {worker['step']}")


def duration(seconds: float | None) -> str:
    """`1:02:03`, or a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
