"""`python -m opt_operator.tables`: the tables that decisions are made from, as a page for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from opt_operator.core.nodes import SIGNS
from opt_operator.core.phases import MEANING, PHASES, TRANSITIONS
from opt_operator.core.serving import phases as serving
from opt_operator.core.symptoms import POLICY

HEAD = """# How the operator decides

Generated from the tables in `operator/opt_operator/core` by `python -m opt_operator.tables`; a test keeps it fresh.
[The operator](../operator.md) says how they are used.
"""


def page() -> str:
    """All tables in Markdown."""
    return "\n".join([HEAD, *_phases(), "", *_serve_phases(), "", *_symptoms(), "", *_signs(), ""])


def _phases() -> Iterable[str]:
    yield "## Phases\n"
    rows = ((phase, MEANING[phase], ", ".join(sorted(TRANSITIONS[phase])) or "nothing") for phase in PHASES)
    yield from _table(("phase", "meaning", "may be followed by"), rows)
    yield "\n```mermaid\nstateDiagram-v2"
    yield from (f"  {before} --> {after}" for before in PHASES for after in sorted(TRANSITIONS[before]))
    yield "```"


def _serve_phases() -> Iterable[str]:
    yield "## Phases of a served model\n"
    rows = (
        (phase, serving.MEANING[phase], ", ".join(sorted(serving.TRANSITIONS[phase])) or "nothing")
        for phase in serving.PHASES
    )
    yield from _table(("phase", "meaning", "may be followed by"), rows)


def _symptoms() -> Iterable[str]:
    yield "## What may be wrong with a pod, and what is done\n"
    rows = (
        (name, p.meaning, p.treatment, p.cause or "", "yes" if p.counted else "", "yes" if p.degraded else "")
        for name, p in POLICY.items()
    )
    yield from _table(("symptom", "meaning", "treatment", "cause in the logbook", "counted", "Degraded"), rows)


def _signs() -> Iterable[str]:
    yield "## What is seen on nodes\n"
    rows = ((s.kind, f"`{_cell(s.key)}`", f"`{_cell(s.value)}`", s.state, s.source) for s in SIGNS)
    yield from _table(("where", "key (pattern)", "value (pattern)", "the node is", "set by"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
