"""One rank's telemetry: files, endpoint, heartbeats and lines, each read back as its user reads it."""

from __future__ import annotations

import io
import json
import math
import time
import urllib.request
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opt_trainer.checkpoint.job import Outcome
from opt_trainer.telemetry.hub import open_telemetry
from opt_trainer.telemetry.sinks import Prometheus
from support.checkpoints import identity
from support.plans import tiny_plan
from support.records import record

pytestmark = pytest.mark.integration

TOTAL = tiny_plan().recipe.total_steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(rank=0, **more):
        made.append(open_telemetry(tiny_plan(), identity(rank, 2), tmp_path, **more))
        return made[-1]

    yield make
    for hub in made:
        hub.close()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_rank_writes_its_own_lines(opened, tmp_path):
    for rank in range(2):
        hub = opened(rank, stream=io.StringIO())
        with hub.section("step"):
            hub.step(record(loss=math.nan if rank else 2.5))
        hub.validation(7, {"manual": 3.0})
        hub.saved(7, 0.01)
        hub.outcome(Outcome(step=7, stage="Failed", message="no room"))
    first, second = (lines(tmp_path / f"metrics-{rank:06d}.jsonl") for rank in range(2))
    assert [line["kind"] for line in first] == ["step", "validation", "saved", "save"]
    assert all((line["run"], line["attempt"], line["rank"], line["step"]) == ("run", 1, 0, 7) for line in first)
    assert first[0]["loss"] == 2.5
    assert second[0]["loss"] is None
    assert first[0]["seconds"].keys() == {"init", "step"}
    assert first[1]["losses"] == {"manual": 3.0}
    assert (first[3]["stage"], first[3]["message"]) == ("Failed", "no room")


def test_heartbeats_tell_section_step_and_numbers(opened):
    beats = []
    hub = opened(1, heartbeat=beats.append)
    hub.at_step(7)
    with hub.section("step"):
        hub.step(record())
    assert record().step == 7
    with hub.section("save"):
        pass
    hub.step(record(step=8, loss=math.inf))
    told = [(b.section, b.step) for b in beats]
    assert told[:5] == [("step", 6), ("step", 7), ("init", 7), ("save", 7), ("init", 7)]
    assert beats[1].loss == 2.5
    assert beats[1].memory_bytes > 0
    assert (beats[-1].step, beats[-1].loss, beats[-1].loss_finite) == (8, None, False)
    assert [b.sequence for b in beats] == list(range(1, len(beats) + 1))
    assert (beats[0].rank, beats[0].world_size, beats[0].attempt) == (1, 2, 1)


def test_a_heartbeat_at_any_moment_has_the_numbers_of_its_own_step(opened):
    beats = []
    hub = opened(1, heartbeat=beats.append)
    hub._memory = lambda: hub._pulse.beat() or 1  # asked for while a step's numbers are put together
    for step in range(5, 9):
        hub.at_step(step)
        with hub.section("step"):
            hub.step(record(step=step, own_parameter_norm=100.0 + step))
    told = [(b.step, b.own_parameter_norm) for b in beats]
    assert {step for step, _ in told} == {4, 5, 6, 7, 8}
    assert all(norm == (None if step == 4 else 100.0 + step) for step, norm in told)


def test_heartbeats_tell_how_far_a_load_has_come_while_it_lasts(opened):
    beats = []
    hub = opened(1, heartbeat=beats.append)
    with hub.section("load"):
        hub.progress(1, 4)
        hub._pulse.beat()
        hub.progress(3, 4)
        hub._pulse.beat()
    with hub.section("step"):
        pass
    told = [(b.section, b.done_bytes, b.total_bytes) for b in beats]
    assert [t for t in told if t[0] == "load" and t[1]] == [("load", 1, 4), ("load", 3, 4)]
    assert told[-2] == ("step", None, None)


def test_a_loop_that_hangs_still_beats_and_says_for_how_long(opened):
    beats = []
    hub = opened(1, heartbeat=beats.append)
    with hub.section("eval"):
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [b.section for b in beats[:3]] == ["eval"] * 3
    assert beats[2].section_seconds > beats[1].section_seconds > 0


def test_the_endpoint_speaks_prometheus(opened):
    hub = opened(1, metrics_port=0, metrics_address="127.0.0.1")
    (endpoint,) = (sink for sink in hub._sinks if isinstance(sink, Prometheus))
    hub.step(record())
    hub.step(record(step=8, tokens=512))
    hub.validation(8, {"manual": 3.0})
    hub.saved(8, 0.01)
    hub.outcome(Outcome(step=8, stage="Complete", seconds=2.5))
    hub.outcome(Outcome(step=9, stage="Failed", message="no room"))
    with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics") as answer:
        families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    value = {name: family.samples[0].value for name, family in families.items() if family.samples}
    assert value["opt_loss"] == 2.5
    assert value["opt_step"] == 8
    assert value["opt_tokens"] == 512
    assert value["opt_saved_step"] == 8
    assert value["opt_validation_loss"] == 3.0
    assert (value["opt_durable_step"], value["opt_save_durable_seconds"]) == (8, 2.5)
    assert value["opt_saves_failed"] == 1
    assert "opt_loss_scale" not in value
    assert families["opt_loss"].samples[0].labels == {"run": "run", "attempt": "1", "rank": "1"}


def test_off_a_terminal_there_are_json_lines(opened):
    out = io.StringIO()
    hub = opened(stream=out)
    hub.step(record())
    hub.step(record(step=8))
    hub.validation(8, {"manual": 3.0})
    hub.outcome(Outcome(step=8, stage="Failed", message="no room"))
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in said] == ["step", "validation", "save"]
    assert (said[2]["level"], said[2]["message"]) == ("warning", "no room")
    assert said[0]["eta_seconds"] == round((TOTAL - 7) * 0.5)
    assert {"run", "attempt", "rank", "step", "timestamp", "level"} <= said[0].keys()


def test_on_a_terminal_there_is_a_line_with_the_time_left(opened, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    out = Terminal()
    hub = opened(stream=out)
    hub.step(record())
    hub.validation(7, {"manual": 3.25})
    hub.saved(7, 0.012)
    hub.outcome(Outcome(step=7, stage="Complete", seconds=1.25))
    hub.close()
    text = out.getvalue()
    for part in (
        f"7/{TOTAL}",
        "loss 2.5000",
        "128 tok/s",
        f"left {timedelta(seconds=round((TOTAL - 7) * 0.5))}",
        "manual 3.2500",
        "12 ms",
        "step 7: the checkpoint is durable after 1.2 s",
    ):
        assert part in text, part
