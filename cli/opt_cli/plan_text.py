"""A plan and its estimate for a person: aligned sections, the same words on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from opt_api.documents.plan import Plan
from opt_api.estimate.compute import Duration
from opt_api.estimate.energy import Footprint
from opt_api.estimate.estimate import Estimate
from opt_api.resources import OPTTraining
from opt_cli.units import count, days, energy, flops, mass, number, percent, rate, size

Rows = Iterable[tuple[str, str]]
PIPE_WIDTH = 110


def show(training: OPTTraining, plan: Plan, needs: Estimate, console: Console | None = None) -> None:
    """Print everything to the console, standard output by default; in a pipe plain, without trailing spaces."""
    out = console or Console(highlight=False)
    if out.is_terminal:
        _everything(out, training, plan, needs)
        return
    out.width = PIPE_WIDTH
    with out.capture() as captured:
        _everything(out, training, plan, needs)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _everything(out: Console, training: OPTTraining, plan: Plan, needs: Estimate) -> None:
    out.print(Text(f"{plan.namespace}/{plan.name}", style="bold"), f" from preset {training.spec.model.preset}", sep="")
    _section(out, "Run", _run(plan))
    _section(out, "Data", _data(plan))
    if plan.until != "Data":
        _training(out, plan, needs)
    out.print()
    out.print(_verdict(plan))


def _training(out: Console, plan: Plan, needs: Estimate) -> None:
    _section(out, "Model", _model(plan, needs))
    _section(out, "Recipe", _recipe(plan))
    _section(out, "Gang", _gang(plan))
    _memory(out, plan, needs)
    _section(out, "Time", _time(plan, needs))
    _section(out, "Checkpoints", _checkpoints(plan, needs))
    _section(out, "Spares", _spares(needs))
    _energy(out, needs)
    _notes(out, needs)


def _verdict(plan: Plan) -> Text:
    if plan.until == "Data":
        return Text("Yes: it prepares data only; nothing has to fit a device.", style="bold green")
    return Text("Yes: it fits.", style="bold green")


def _heading(out: Console, title: str) -> None:
    out.print()
    out.print(Text(title, style="bold cyan"))


def _section(out: Console, title: str, rows: Rows) -> None:
    _heading(out, title)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=21, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    out.print(Padding(grid, (0, 0, 0, 2)))


def _run(plan: Plan) -> Rows:
    yield "plan", plan.digest()
    yield "identity", plan.identity
    yield "runs until", plan.until


def _model(plan: Plan, needs: Estimate) -> Rows:
    a = plan.architecture
    yield "parameters", f"{number(needs.parameters)} ({needs.parameters:,})"
    yield "blocks", f"{a.layers} layers, {a.heads} heads of {a.head_size}, width {a.hidden_size}, ffn {a.ffn_size}"
    embedding = f", embedding width {a.embedding_size} projected" if a.has_projections else ""
    yield "vocabulary", f"{a.vocabulary_size} tokens, {a.max_positions} positions{embedding}"
    yield (
        "layer norm",
        {"pre": "before each half, one after the last block", "post": "after each half"}[a.norm_position],
    )
    yield "dropout", f"{a.dropout:g}, on attention {a.attention_dropout:g}; initial deviation {a.init_std:g}"


def _data(plan: Plan) -> Rows:
    d = plan.data
    if d.sources is None:
        yield "data set", d.dataset or ""
        return
    for source in d.sources:
        weight = f", weight {source.weight:g}" if source.weight != 1 else ""
        yield source.name, source.uri + weight
    near = f"near from Jaccard {d.deduplication.near.threshold:g}" if d.deduplication.near_enabled else ""
    exact = "exact" if d.deduplication.exact else ""
    yield "deduplication", ", ".join(filter(None, (exact, near))) or "none"
    held = d.validation
    yield "held out", f"{100 * held.fraction:g} % of each source, at most {held.max_bytes / 1e6:g} MB in all"


def _recipe(plan: Plan) -> Rows:
    r = plan.recipe
    yield "tokens", f"{number(r.total_steps * plan.tokens_per_step)} in {r.total_steps:,} steps"
    yield "batch", f"{plan.tokens_per_step:,} tokens: {r.batch_sequences:,} sequences of {plan.sequence_length:,}"
    yield "learning rate", f"{r.peak_learning_rate:g} falling linearly to {r.min_learning_rate:g}"
    yield "warm-up", f"{r.warmup_steps:,} steps"
    yield "AdamW", f"betas {r.beta1:g}, {r.beta2:g}; epsilon {r.epsilon:g}; weight decay {r.weight_decay:g}"
    yield "clip", f"gradient norm {r.clip:g}"
    scale = plan.precision.loss_scale
    scaled = f", loss scale from {scale.initial:g}, not below {scale.floor:g}" if scale else ""
    yield "precision", f"{plan.precision.compute}{scaled}; weights, gradients and moments kept in float32"


def _gang(plan: Plan) -> Rows:
    g = plan.layout
    yield "workers", f"{g.world_size:,} = {g.hosts} hosts x {g.devices_per_host} {g.device_model}"
    yield "divided", f"{g.replicate} replicate x {g.shard} shard (FSDP) x {g.tensor_parallel} tensor parallel"
    shares = sorted({len(plan.share(rank)) for rank in range(g.data_parallel)})
    each = " or ".join(map(str, shares))
    yield (
        "share of a worker",
        f"{each} sequences a step, in {g.accumulation} pass(es) of at most {g.micro_batch_sequences}",
    )
    yield (
        "recomputation",
        {"none": "none", "selective": "every second block", "full": "every block"}[g.activation_checkpointing],
    )
    if not g.gathers_again:
        yield "gathered weights", "kept from the forward to the backward pass"
    yield "engine", g.engine + (", blocks compiled" if g.compile else "")


def _memory(out: Console, plan: Plan, needs: Estimate) -> None:
    _heading(out, "Memory of each device" if plan.layout.device == "cuda" else "Memory of each worker")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=21)
    grid.add_column(justify="right")
    grid.add_column(style="blue", no_wrap=True)
    for name, part in needs.memory.model_dump(by_alias=False).items():
        grid.add_row(name, size(part), _bar(part, needs.memory_available))
    grid.add_row("needed", size(needs.memory_needed), "")
    used = f"{percent(needs.memory_needed / needs.memory_available)} used" if needs.memory_available else ""
    grid.add_row("available", size(needs.memory_available), used)
    out.print(Padding(grid, (0, 0, 0, 2)))


def _bar(part: int, whole: int) -> str:
    return "#" * min(40, round(40 * part / whole)) if whole else ""


def _time(plan: Plan, needs: Estimate) -> Rows:
    d, w = needs.duration, needs.work
    yield "work", f"{flops(w.model_flops)} of the model, {flops(w.hardware_flops)} with recomputation"
    yield "device", f"{rate(d.peak_flops)} peak at {percent(d.utilisation)} ({percent(d.model_utilisation)} MFU)"
    yield "", d.utilisation_source
    yield "one step", f"{d.step_seconds:.3g} s, {number(plan.tokens_per_step / d.step_seconds)} tokens/s"
    yield "busy device hours", count(d.device_hours)
    balance = f", shares {percent(d.balance)} balanced" if d.balance < 1 else ""
    yield "all steps", f"{days(d.productive_hours)}{balance}"
    yield "with faults", f"{days(d.wall_hours)}, ETTR {percent(d.expected_ettr)} ({_faults(d)})"


def _faults(d: Duration) -> str:
    return f"assumed: a fault every {d.hours_between_faults:g} h, {d.restart_seconds:.0f} s to be back"


def _checkpoints(plan: Plan, needs: Estimate) -> Rows:
    c = plan.checkpointing
    every = f"{c.interval_steps:,} steps" if c.interval_steps else f"{c.interval_seconds:,} s"
    why = (
        f" (Young and Daly: stall {c.assumed_stall_seconds:g} s, a fault every {c.assumed_hours_between_faults:g} h; "
        "measured anew while running)"
    )
    yield "to the store every", every + (why if c.automatic else "")
    tier = f"every {c.memory_interval_steps} step(s)" if c.memory_tier else "off"
    yield "in hosts' memory", tier
    yield "size of a save", f"{size(needs.checkpoint.bytes)}, {size(needs.checkpoint.bytes_per_second)}/s to the store"
    yield (
        "kept",
        f"last {c.retention.keep_last}"
        + (f", each {c.retention.keep_every_steps:,}th step" if c.retention.keep_every_steps else ""),
    )


def _spares(needs: Estimate) -> Rows:
    s = needs.spares
    yield "spare hosts", str(s.spares)
    if not s.mean_away:
        yield "running out", "not estimated: resilience.hostLossPerDay is 0"
        return
    yield "assumed", f"{s.losses_per_day:g} hosts lost a day, {s.refill_hours:g} h to refill: {s.mean_away:.3g} away"
    yield "running out", f"{percent(s.run_out)} of the time (Poisson)"
    yield "enough for", f"99 %: {s.needed_99} spares, 99.9 %: {s.needed_999}"


_FOOTPRINT: tuple[tuple[str, Callable[[Footprint], str]], ...] = (
    ("energy", lambda f: energy(f.megawatt_hours)),
    ("CO2", lambda f: mass(f.tonnes_co2)),
    ("device hours", lambda f: count(f.device_hours)),
    ("power of a device", lambda f: f"{f.device_watts:g} W, {f.watts_source}"),
    ("power of a host", lambda f: f"{f.host_watts:g} W without devices"),
    ("PUE", lambda f: f"{f.pue:g}"),
    ("grid", lambda f: f"{f.grams_co2_per_kwh:g} g/kWh"),
    ("counted", lambda f: f.boundary),
)


def _energy(out: Console, needs: Estimate) -> None:
    _heading(out, "Energy")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=21)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row("", Text("as the paper counts", style="dim"), Text("restated", style="dim"))
    for name, told in _FOOTPRINT:
        grid.add_row(name, told(needs.energy.paper_compatible), told(needs.energy.restated))
    out.print(Padding(grid, (0, 0, 0, 2)))


def _notes(out: Console, needs: Estimate) -> None:
    if needs.notes:
        _heading(out, "Notes")
    for note in needs.notes:
        out.print(Padding(Text(f"- {note}", style="yellow"), (0, 0, 0, 2)))
