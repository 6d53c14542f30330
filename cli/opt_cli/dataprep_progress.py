"""What data preparation shows while it runs: a live table on a terminal, JSON lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from opt_api.canonical import canonical_json
from opt_api.documents.dataprep import PreparationEvent

Told = Callable[[PreparationEvent], None]


@contextmanager
def listener(as_json: bool) -> Iterator[Told]:
    """Give the function that shows events."""
    if as_json:
        yield lambda event: click.echo(canonical_json(event.wire()).decode())
        return
    screen = Screen(_stage_names())
    with Live(console=Console(), refresh_per_second=8, get_renderable=screen.render) as live:
        yield screen.add
        live.refresh()


def _stage_names() -> Sequence[str]:
    from opt_dataprep.work.table import STAGES

    return [stage.name for stage in STAGES]


@dataclass
class Screen:
    """The newest event of each stage, as a table; `names` are those of all stages in order."""

    names: Sequence[str]
    stages: dict[str, PreparationEvent] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def add(self, event: PreparationEvent) -> None:
        """Take in one event."""
        self.began.setdefault(event.stage, event.seconds)
        self.stages[event.stage] = event

    def render(self) -> Group:
        """The table, and below it what was read and dropped."""
        table = Table(box=None, pad_edge=False)
        for title in ("stage", ""):
            table.add_column(title)
        for title in ("tasks", "rate", "time"):
            table.add_column(title, justify="right")
        for name, event in self.stages.items():
            if name not in self.names:
                continue
            bar = ProgressBar(total=event.tasks, completed=event.done, width=24)
            table.add_row(name, bar, f"{event.done}/{event.tasks}", self.rate(event), self.eta(event))
        return Group(table, *map(Text, self.notes()))

    def rate(self, event: PreparationEvent) -> str:
        """Source bytes a second of this stage, where it goes through all of them."""
        seconds = event.seconds - self.began[event.stage]
        return f"{event.bytes_done / seconds / 1e6:.3g} MB/s" if event.bytes_done and seconds else ""

    def eta(self, event: PreparationEvent) -> str:
        """Seconds until the stage is done, at its pace so far."""
        seconds = event.seconds - self.began[event.stage]
        if not event.done or event.done == event.tasks:
            return "" if event.done != event.tasks else f"{seconds:.0f} s"
        return f"~{seconds * (event.tasks - event.done) / event.done:.0f} s"

    def notes(self) -> Iterator[str]:
        """How far all is; documents dropped by reason; tasks found done; workers lost; the data set's place."""
        if not self.stages:
            yield "listing the sources and planning parts"
            return
        last = list(self.stages.values())[-1]
        yield ""
        yield f"stage {self.place(last.stage)} of {len(self.names)}, {last.seconds:.0f} s"
        dropped = sum(last.dropped.values())
        share = f" ({dropped / last.documents:.1%})" if last.documents else ""
        yield f"{last.documents:,} documents read, {dropped:,} dropped{share}"
        for reason, count in sorted(last.dropped.items(), key=lambda item: (-item[1], item[0])):
            yield f"  {count:>12,} {reason}"
        if reused := sum(event.reused for event in self.stages.values()):
            yield f"{reused} tasks found done"
        if last.retries:
            yield f"{last.retries} workers lost and replaced"
        if last.dataset:
            yield f"data set: {last.dataset}"

    def place(self, stage: str) -> int:
        """Number of a stage among all; the last one's when all are done."""
        return self.names.index(stage) + 1 if stage in self.names else len(self.names)
