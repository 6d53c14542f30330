"""The closing report as one HTML page that needs nothing else: curve, recoveries, ledger, energy, samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from opt_cli.report_findings import Findings, Recovery
from opt_cli.run_screen import duration
from opt_cli.units import energy, mass, number

WIDTH, HEIGHT, LEFT, FOOT = 960, 280, 60, 26
POINTS = 1200
"""Points of the curve, at most."""
STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6a7a;--line:#dfe4ea;--curve:#2f6f9f;--mark:#b5482f;--page:#fff;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#9aa7b5;--line:#333c47;--curve:#6fb1dd;--mark:#e88a70;--page:#15191e;--card:#1d232a}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1020px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600}.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}
.tile{background:var(--card);border-radius:8px;padding:.6rem 1rem}.tile b{display:block;font-size:1.3rem}
svg{width:100%;font-size:12px}svg text{fill:var(--soft)}svg polyline{fill:none;stroke:var(--curve);stroke-width:1.5}
svg .mark{stroke:var(--mark);stroke-dasharray:3 3}svg .axis{stroke:var(--line)}
.ledger{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:.5rem 0}.ledger div{min-width:1px}
pre{background:var(--card);border-radius:6px;padding:.6rem .8rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px}
td:last-child{overflow-wrap:anywhere;max-width:32rem}code{font-size:.85em;overflow-wrap:anywhere}
"""  # noqa: E501 - a style sheet
CLASS_COLOURS = {
    "productive": "#3d8f5f", "eval": "#4aa3a8", "load": "#5b7fc4", "init": "#8aa2d6", "save_stall": "#9a6bb5",
    "redone": "#c4533f", "detect": "#e07b54", "reschedule": "#d9a441", "idle_spare": "#9aa3ad",
}  # fmt: skip


def page(found: Findings) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(found.run)}</h1><div class=soft>{escape(found.outcome)}</div>",
        _tiles(found),
        "<h2>Loss</h2>" + _curve(found.losses, [r.step for r in found.recoveries]),
        _validation(found.validation),
        "<h2>What happened on the way</h2>" + _recoveries(found.recoveries),
        "<h2>Where the time of all hosts went</h2>" + _ledger(found.goodput),
        "<h2>Energy and carbon</h2>" + _energy(found),
        "<h2>What it says</h2>" + _samples(found.samples),
        _places(found),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(found.run)}</title><style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _places(found: Findings) -> str:
    places = {"Checkpoint": found.checkpoint, "Export": found.export}
    return "".join(f"<p class=soft>{name} <code>{escape(where or 'none')}</code></p>" for name, where in places.items())


def _tiles(found: Findings) -> str:
    tiles = {
        "steps": f"{found.step:,}",
        "parameters": number(found.parameters),
        "tokens": number(found.tokens),
        "wall time": duration(found.wall_seconds),
        "last loss": f"{found.loss:.4f}" if found.loss is not None else "-",
        "recoveries": str(len(found.recoveries)),
        "productive (ETTR)": f"{found.ettr:.1%}" if found.ettr is not None else "-",
    }
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{v}</b>{k}</div>" for k, v in tiles.items()) + "</div>"


def _curve(losses: Mapping[int, float], marks: Iterable[int]) -> str:
    if len(losses) < 2:
        return "<p class=soft>no losses were recorded</p>"
    steps = sorted(losses)
    steps = steps[:: len(steps) // POINTS + 1]
    low, high, last = min(losses.values()), max(losses.values()), max(losses)
    across = (WIDTH - LEFT - 10) / max(last, 1)
    down = (HEIGHT - FOOT - 10) / ((high - low) or 1.0)
    points = " ".join(f"{LEFT + s * across:.1f},{10 + (high - losses[s]) * down:.1f}" for s in steps)
    lines = "".join(
        f'<line class=mark x1="{LEFT + m * across:.1f}" x2="{LEFT + m * across:.1f}" y1="10" y2="{HEIGHT - FOOT}"/>'
        for m in marks
    )
    axis = f'<line class=axis x1="{LEFT}" x2="{WIDTH - 10}" y1="{HEIGHT - FOOT}" y2="{HEIGHT - FOOT}"/>'
    words = (
        f'<text x="{LEFT - 6}" y="16" text-anchor="end">{high:.3f}</text>'
        f'<text x="{LEFT - 6}" y="{HEIGHT - FOOT}" text-anchor="end">{low:.3f}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">step 0</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{last:,}; dashed: recoveries</text>'
    )
    body = f'{axis}{lines}<polyline points="{points}"/>{words}'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss over steps">{body}</svg>'


def _validation(losses: Mapping[str, float]) -> str:
    if not losses:
        return ""
    return _table(("validation loss, nats per token", ""), ((k, f"{v:.4f}") for k, v in losses.items()))


def _recoveries(recoveries: Iterable[Recovery]) -> str:
    rows = [
        (
            r.cause,
            str(r.rung),
            f"{r.step:,}",
            str(r.redone),
            ", ".join(f"{name.replace('_', ' ')} {seconds:.2f}" for name, seconds in r.seconds.items()),
            r.evidence,
        )
        for r in recoveries
    ]
    if not rows:
        return "<p class=soft>nothing broke</p>"
    return _table(("cause", "rung", "at step", "steps redone", "seconds", "evidence"), rows)


def _ledger(goodput: Mapping[str, float]) -> str:
    whole = sum(goodput.values()) or 1.0
    spent = [(name, seconds) for name, seconds in goodput.items() if seconds > 0]
    bar = "".join(
        f'<div style="width:{seconds / whole:.3%};background:{CLASS_COLOURS.get(name, "#777")}" '
        f'title="{escape(name)} {seconds:.1f} s"></div>'
        for name, seconds in spent
    )
    rows = ((name.replace("_", " "), f"{seconds:,.1f} s", f"{seconds / whole:.1%}") for name, seconds in spent)
    return f"<div class=ledger>{bar}</div>" + _table(("class", "host seconds", "share"), rows)


def _energy(found: Findings) -> str:
    e = found.energy
    rows = [
        ("device hours", f"{e.device_hours:.3f}"),
        ("power of a device", f"{e.device_watts:g} W, {e.watts_source}"),
        ("PUE, grid", f"{e.pue:g}, {e.grams_co2_per_kwh:g} g/kWh"),
        ("energy", energy(e.megawatt_hours)),
        ("CO2", mass(e.tonnes_co2)),
        ("counted", f"{e.boundary}; hours as measured, power as assumed"),
    ]
    return _table(("", ""), rows)


def _samples(samples: Iterable[tuple[str, str]]) -> str:
    shown = [f"<pre><b>{escape(prompt)}</b>{escape(text)}</pre>" for prompt, text in samples]
    return "".join(shown) or "<p class=soft>no export to ask</p>"


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
