"""Alerts and their runbooks, read from `hack/chart/alerts.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

SOURCE = Path(__file__).resolve().parents[1] / "alerts.yaml"
HEAD = """# Alerts

Made by `hack/chart/generate.py` from `hack/chart/alerts.yaml`. The chart installs them as a PrometheusRule with
`metrics.prometheusRule.enabled=true`. NS and RELEASE are the operator's namespace and release, NAME is the training.
"""


class Alert(BaseModel):
    """One alert."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^Opt[A-Za-z]+$")]
    expression: str
    lasting: Annotated[str, Field(alias="for")]
    severity: Literal["critical", "warning"]
    summary: str
    means: str
    act: Annotated[list[str], Field(min_length=1)]


def alerts() -> list[Alert]:
    """All of them."""
    return [Alert.model_validate(entry) for entry in yaml.safe_load(SOURCE.read_text())]


def rules() -> str:
    """`spec` of the PrometheusRule."""
    listed = [
        {
            "alert": alert.name,
            "expr": alert.expression.strip(),
            "for": alert.lasting,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary.strip(), "runbook": f"docs/alerts.md#{alert.name.lower()}"},
        }
        for alert in alerts()
    ]
    spec: dict[str, Any] = {"groups": [{"name": "opt-operator", "rules": listed}]}
    return yaml.safe_dump(spec, sort_keys=False, width=1000)


def page() -> str:
    """docs/alerts.md."""
    return "\n".join([HEAD, *(_section(alert) for alert in alerts())])


def _section(alert: Alert) -> str:
    steps = "\n".join(f"{number}. {step.strip()}" for number, step in enumerate(alert.act, 1))
    about = f"`{alert.severity}`, after {alert.lasting} of:\n```\n{alert.expression.strip()}\n```"
    return f"## {alert.name}\n{about}\n{alert.means.strip()}\n\n{steps}\n"
