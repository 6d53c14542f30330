"""What `optctl run` shows: one screen on a terminal, JSON lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from opt_api.canonical import canonical_json
from opt_api.documents.plan import Plan

BARS = "▁▂▃▄▅▆▇█"
CURVE = 60
EVENTS = 6
STATUS_EVERY = 5
"""Of the statuses, every so many is printed as a JSON line; events all are."""

Told = Callable[[dict[str, Any]], None]


@contextmanager
def screen(plan: Plan, as_json: bool) -> Iterator[Told]:
    """Give the function that shows what is told."""
    if as_json:
        yield Lines().add
        return
    view = View(plan)
    with Live(console=Console(), refresh_per_second=4, get_renderable=view.render) as live:
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
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS))

    def add(self, what: dict[str, Any]) -> None:
        """Take in one thing that was told."""
        if status := what.get("status"):
            self.status = status
            if status["loss"] is not None:
                self.losses[status["step"]] = status["loss"]
        if entry := what.get("entry"):
            self.events.append(f"{entry['cause']}: {entry['summary']}")
        self.events.extend(f"{name}: {what[name]}" for name in ("fault", "stopping") if name in what)

    def render(self) -> Group:
        """The screen."""
        return Group(self._head(), Text(curve(self.losses), style="cyan"), self._hosts(), *map(Text, self.events))

    def _head(self) -> Text:
        s = self.status
        if not s:
            return Text(f"{self.plan.name}: starting", style="bold")
        rate, total = s["tokensPerSecond"], s["totalSteps"]
        left = (total - s["step"]) * self.plan.tokens_per_step / rate if rate else None
        numbers = [
            f"{self.plan.name}  {s['pausedFor'] or s['phase']}",
            f"attempt {s['attempt']}  step {s['step']}/{total}",
            f"loss {s['loss']:.4f}" if s["loss"] is not None else "loss -",
            f"{rate:,.0f} tokens/s" if rate else "- tokens/s",
            f"ETA {duration(left)}",
            f"ETTR {s['ettr']:.1%}" if s["ettr"] is not None else "ETTR -",
        ]
        return Text("  │  ".join(numbers), style="bold")

    def _hosts(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("host", "state", "agent", "ranks"):
            table.add_column(name)
        for agent in self.status.get("agents", []):
            ranks = [w for w in self.status["workers"] if w["host"] == agent["host"]]
            words = ", ".join(f"{w['rank']} (pid {w['pid']}) {w['section']} {w['step']}" for w in ranks)
            table.add_row(agent["host"], agent["state"] or "", str(agent["pid"]), words)
        return table


def curve(losses: dict[int, float]) -> str:
    """The loss over the run in one line of bars, oldest left."""
    values = [value for _, value in sorted(losses.items())]
    if not values:
        return ""
    width = min(CURVE, len(values))
    picked = [values[len(values) * i // width] for i in range(width)]
    low, high = min(picked), max(picked)
    return "".join(BARS[int((v - low) / (high - low or 1) * (len(BARS) - 1))] for v in picked)


def duration(seconds: float | None) -> str:
    """`1:02:03`, or a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
