"""The page: tables and charts from what the stages left, and samples of what was kept and dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from opt_api.documents.manifests import SourceCounts
from opt_dataprep.report.charts import bars, columns, number

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6a7a;--line:#dfe4ea;--bar:#2f6f9f;--page:#fff;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#9aa7b5;--line:#333c47;--bar:#6fb1dd;--page:#15191e;--card:#1d232a}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}h3{font-size:.95rem;margin:1rem 0 .3rem}
.soft,.none{color:var(--soft)}table{border-collapse:collapse;width:100%}
td,th{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}th{color:var(--soft);font-weight:600}
.words td{text-align:left;overflow-wrap:anywhere}.words th{text-align:left}.words td:first-child{white-space:nowrap}
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}.tile{background:var(--card);border-radius:8px;padding:.6rem 1rem}
.tile b{display:block;font-size:1.3rem}.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:0 2rem}
svg{width:100%;max-width:660px;font-size:12px}svg rect{fill:var(--bar)}svg text{fill:var(--ink)}svg .value{fill:var(--soft)}
pre{background:var(--card);border-radius:6px;padding:.6rem .8rem;white-space:pre-wrap;overflow-wrap:anywhere;max-height:11rem;overflow:auto;font-size:12.5px}
code{font-size:.85em;overflow-wrap:anywhere}
"""  # noqa: E501 - a style sheet


@dataclass(frozen=True)
class Sample:
    """A piece of one document, and where it is from."""

    kind: str
    uri: str
    position: int
    text: str


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    Attributes:
        identity: Digest of the plan.
        counts: Of each source.
        lengths: Documents by tokens; the key is the power of two.
        clusters: Clusters of exact and of near duplicates by documents; the key is the power of two.
        checked: Documents that the reference tokenizer encoded too.
        blocks: Of the train split, and their width in tokens.
        settings: Names and values of what shaped the data set.
        kept, dropped: Samples.
    """

    identity: str
    counts: Sequence[SourceCounts]
    lengths: Mapping[int, int]
    clusters: Mapping[str, Mapping[int, int]]
    checked: int
    blocks: tuple[int, int]
    settings: Mapping[str, str]
    kept: Sequence[Sample]
    dropped: Sequence[Sample]


def page(found: Findings) -> str:
    """The whole page."""
    drops: Counter[str] = Counter()
    for counts in found.counts:
        drops.update(counts.dropped)
    parts = [
        f"<h1>Data set</h1><div class=soft><code>{escape(found.identity)}</code></div>",
        _tiles(found, drops),
        "<h2>Sources</h2>" + _sources(found.counts),
        "<div class=two>",
        "<section><h2>Tokens of each source, train split</h2>"
        + bars({c.source: c.tokens_train for c in found.counts}, "tokens of each source")
        + "</section><section><h2>Dropped documents by reason</h2>"
        + bars(dict(drops.most_common()), "dropped documents by reason")
        + "</section><section><h2>Document lengths</h2>"
        + columns(found.lengths, "documents by length", "tokens in a document, from (square-root scale)")
        + "</section>",
        *(
            f"<section><h2>{escape(kind)} duplicates by size of cluster</h2>"
            + columns(sizes, f"{kind} duplicates", "documents in a cluster, from (square-root scale)")
            + "</section>"
            for kind, sizes in found.clusters.items()
        ),
        "</div>",
        "<h2>Settings</h2>" + _table(("setting", "value"), found.settings.items(), kind="words"),
        "<h2>Samples of what was dropped</h2>" + _samples(found.dropped),
        "<h2>Samples of what was kept</h2>" + _samples(found.kept),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Data set</title><style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _tiles(found: Findings, drops: Counter[str]) -> str:
    read, kept = (sum(getattr(c, name) for c in found.counts) for name in ("documents_read", "documents_kept"))
    tiles = {
        "documents read": number(read),
        "kept": f"{number(kept)} ({kept / max(1, read):.1%})",
        "dropped": number(sum(drops.values())),
        "tokens, train": number(sum(c.tokens_train for c in found.counts)),
        "tokens, validation": number(sum(c.tokens_validation for c in found.counts)),
        f"blocks of {found.blocks[1]}": number(found.blocks[0]),
        "checked by the reference tokenizer": number(found.checked),
    }
    return "<div class=tiles>" + "".join(f"<div class=tile><b>{v}</b>{k}</div>" for k, v in tiles.items()) + "</div>"


def _sources(counts: Iterable[SourceCounts]) -> str:
    names = (
        "source",
        "read",
        "kept",
        "validation",
        "MB read",
        "MB kept",
        "tokens train",
        "tokens validation",
        "repaired",
    )
    rows = [
        (
            c.source,
            f"{c.documents_read:,}",
            f"{c.documents_kept:,}",
            f"{c.documents_validation:,}",
            f"{c.bytes_read / 1e6:,.1f}",
            f"{c.bytes_kept / 1e6:,.1f}",
            f"{c.tokens_train:,}",
            f"{c.tokens_validation:,}",
            ", ".join(f"{reason} {n:,}" for reason, n in c.repaired.items()) or "0",
        )
        for c in counts
    ]
    return _table(names, rows)


def _table(names: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "numbers") -> str:
    head = "".join(f"<th>{escape(name)}" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table class={kind}><tr>{head}{body}</table>"


def _samples(samples: Sequence[Sample]) -> str:
    if not samples:
        return "<p class=none>none</p>"
    return "".join(
        f"<h3>{escape(s.kind)} <span class=soft><code>{escape(s.uri)}</code> at {s.position:,}</span></h3>"
        f"<pre>{escape(s.text) or '(nothing)'}</pre>"
        for s in samples
    )
