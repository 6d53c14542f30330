"""Every generated file of the chart, as path -> text."""

from __future__ import annotations

import json
from pathlib import Path

from optchart import alerts, dashboard, values


def artefacts(root: Path) -> dict[Path, str]:
    """All of them; `root` is the source tree."""
    chart = root / "charts" / "opt-operator"
    crds = {chart / "files" / "crds" / path.name: path.read_text() for path in sorted((root / "crds").glob("*.yaml"))}
    return crds | {
        chart / "values.schema.json": json.dumps(values.schema(), indent=1) + "\n",
        chart / "files" / "alerts.yaml": alerts.rules(),
        chart / "files" / "dashboard.json": json.dumps(dashboard.document(), indent=1) + "\n",
        root / "docs" / "alerts.md": alerts.page(),
    }
