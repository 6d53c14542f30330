"""Every number that a step is promised to give, in all three places, read back by those who read them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opt_trainer.telemetry.hub import open_telemetry
from opt_trainer.telemetry.sinks import Prometheus
from support.checkpoints import identity
from support.plans import tiny_plan
from support.records import record

PROMISED = (
    "loss", "learning_rate", "gradient_norm", "parameter_norm", "activation_norm", "loss_scale", "tokens_per_second",
    "model_flops_utilisation", "hardware_flops_utilisation", "memory_bytes", "step_seconds", "compute_seconds",
)  # fmt: skip
SECTIONS = ("data", "step", "save", "eval")
READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
print(json.dumps({tag: a.Scalars(tag)[-1].value for tag in a.Tags()["scalars"]}))
"""


def tensorboard(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-c", READ, str(folder)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def endpoint(port: int) -> dict[tuple[str, str], float]:
    """Values by name and by source or section."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.get("section") or sample.labels.get("source") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.integration
def test_every_promised_number_is_in_all_three_places(tmp_path: Path) -> None:
    hub = open_telemetry(
        tiny_plan(), identity(0, 1), tmp_path, metrics_port=0, metrics_address="127.0.0.1", stream=io.StringIO()
    )
    (served,) = (sink for sink in hub._sinks if isinstance(sink, Prometheus))
    for name in SECTIONS:
        with hub.section(name):  # type: ignore[arg-type]
            pass
    hub.step(record(loss_scale=1024.0, compute_seconds=0.25))
    hub.validation(7, {"manual": 3.0, "books": 2.0})
    exposed = endpoint(served.port)
    hub.close()
    lines: list[dict[str, Any]] = [json.loads(x) for x in (tmp_path / "metrics-000000.jsonl").read_text().splitlines()]
    step, validation = lines
    curves = tensorboard(tmp_path / "tensorboard")
    for name in PROMISED:
        assert exposed["opt_" + name, ""] == pytest.approx(step[name]), name
        assert curves["train/" + name] == pytest.approx(step[name], rel=1e-6), name
    for name in SECTIONS:
        assert exposed["opt_section_seconds_total", name] == pytest.approx(step["seconds"][name])
        assert curves["seconds/" + name] == pytest.approx(step["seconds"][name], rel=1e-6)
    for source, loss in {"manual": 3.0, "books": 2.0}.items():
        assert validation["losses"][source] == exposed["opt_validation_loss", source] == loss
        assert curves["validation/" + source] == loss
