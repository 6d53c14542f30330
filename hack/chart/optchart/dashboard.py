"""The Grafana dashboard, from a table of panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, COLUMNS = 8, 7, 3
SOURCE = {"type": "prometheus", "uid": "${source}"}
CHOSEN = 'namespace=~"$namespace",training=~"$training"'


@dataclass(frozen=True)
class Panel:
    """One panel: title, PromQL, legend, Grafana's name of the unit, what it shows."""

    title: str
    expression: str
    legend: str
    unit: str
    meaning: str


PANELS = (
    Panel("Loss", f"opt_training_loss{{{CHOSEN}}}", "{{training}}", "none", "Training loss of the newest step."),
    Panel(
        "Step",
        f"opt_training_step{{{CHOSEN}}}",
        "{{training}}",
        "none",
        "Optimiser steps done; never falls by more than one on rungs 1 and 2.",
    ),
    Panel(
        "Tokens per second", f"opt_training_tokens_per_second{{{CHOSEN}}}", "{{training}}", "none", "Of the whole gang."
    ),
    Panel(
        "MFU",
        f"opt_training_mfu{{{CHOSEN}}}",
        "{{training}}",
        "percentunit",
        "Model FLOPs over the peak of the gang's devices.",
    ),
    Panel(
        "Steps lost",
        f"opt_training_steps_lost{{{CHOSEN}}}",
        "{{training}}",
        "none",
        "Steps done again after faults, since the run began.",
    ),
    Panel("ETTR", f"opt_training_ettr{{{CHOSEN}}}", "{{training}}", "percentunit", "Productive time over wall time."),
    Panel(
        "Host seconds by class",
        f"sum by (class) (deriv(opt_training_host_seconds{{{CHOSEN}}}[5m]))",
        "{{class}}",
        "none",
        "Hosts in each class of the goodput ledger; the classes add up to all hosts.",
    ),
    Panel(
        "Hosts ready", f"opt_training_hosts_ready{{{CHOSEN}}}", "{{training}}", "none", "Hosts of the gang that step."
    ),
    Panel(
        "Spares ready",
        f"opt_training_spares{{{CHOSEN}}}",
        "{{training}}",
        "none",
        "Warm hosts that could be swapped in.",
    ),
    Panel("Restarts", f"opt_training_restarts{{{CHOSEN}}}", "{{training}}", "none", "Attempts after the first."),
    Panel(
        "Checkpoint age",
        f"opt_training_checkpoint_age_seconds{{{CHOSEN}}}",
        "{{training}}",
        "s",
        "Since the newest Verified checkpoint.",
    ),
    Panel("Trainings by phase", "sum by (phase) (opt_training_phase)", "{{phase}}", "none", "All watched trainings."),
    Panel(
        "Reconcile seconds, p99",
        "histogram_quantile(0.99, sum by (le) (rate(opt_operator_reconcile_seconds_bucket[5m])))",
        "p99",
        "s",
        "From taking a training off the queue to its status written.",
    ),
    Panel("Queue", "opt_operator_queue_depth", "{{pod}}", "none", "Trainings waiting for a decision."),
    Panel(
        "Oldest in the queue",
        "opt_operator_queue_age_seconds",
        "{{pod}}",
        "s",
        "How long the longest waiting one waits.",
    ),
    Panel(
        "Watch silence",
        "max by (kind) (opt_operator_watch_silence_seconds)",
        "{{kind}}",
        "s",
        "Since the last word of each watch.",
    ),
    Panel(
        "Writes",
        "sum by (verb, result) (rate(opt_operator_writes_total[5m]))",
        "{{verb}} {{result}}",
        "none",
        "Requests that change something, by answer.",
    ),
    Panel("Leader", "opt_operator_leader", "{{pod}}", "none", "1 for the replica that holds the Lease."),
)


def document() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "opt-operator",
        "title": "opt-operator",
        "description": "Made by hack/chart/generate.py; changes here are lost.",
        "tags": ["opt-operator"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_source(), _choice("namespace", ""), _choice("training", 'namespace=~"$namespace"')]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    place = {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": panel.expression, "legendFormat": panel.legend}],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}


def _choice(label: str, narrowed: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values(opt_training_step{{{narrowed}}}, {label})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
