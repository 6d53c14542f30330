"""Divergence and live changes with the real trainer: run again, go back, change what the policy says, write it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opt_api.documents.plan import PrecisionPlan
from opt_api.resolve import resolve
from opt_api.training.optimisation import LossScale
from opt_runtime.local.cluster import wait_for
from support.real_run import STEPS, RealRun, real_run, small_spec

pytestmark = pytest.mark.long


def metrics(run: RealRun, rank: int) -> dict[int, dict]:
    """The last record of each step of a rank."""
    lines = [
        line for p in sorted(run.directory.rglob(f"metrics-{rank:06d}.jsonl")) for line in p.read_text().splitlines()
    ]
    return {entry["step"]: entry for entry in map(json.loads, lines) if entry["kind"] == "step"}


def policy(**more) -> dict:
    return {"divergence": {"lossSpikeSpanSteps": 10, **more}}


def changed(entry) -> list[tuple[str, str, str]]:
    return [(change.field, change.before, change.after) for change in entry.changes]


def test_bad_data_is_run_again_then_skipped_from_the_checkpoint_before(tmp_path: Path, text: str, real_twin) -> None:
    spec = small_spec(resilience=policy(actions=["rollback", "skip-batches"], skipSteps=2))
    with real_run(tmp_path, text, "spoil batch at step 60", training=spec) as run:
        entries = run.until_finished()
        found = [(e.cause, e.rung, e.to_step) for e in entries if e.rung]
        assert found == [("NonFinite", 1, 59), ("NonFinite", 3, 40)]
        rerun, act = (entry for entry in entries if entry.rung)
        assert "run once more to tell hardware from data" in rerun.evidence[1]
        assert changed(act) == [("data.skipBatches", "none", "60-61")]
        series = metrics(run, 0)
        assert {step for step, entry in series.items() if entry["skipped"]} == {60, 61}
        losses = run.losses()
        assert {step: losses[step] for step in range(1, 60)} == {step: real_twin[step] for step in range(1, 60)}
        assert max(losses) == STEPS


def test_a_rate_that_is_far_too_high_is_lowered_from_a_checkpoint(tmp_path: Path, text: str) -> None:
    spec = small_spec(resilience=policy(learningRateFactor=0.00001))
    with real_run(tmp_path, text, training=spec) as run:
        run.until(lambda s: s["step"] >= 45)
        wish = {"fields": {"optimisation.learningRate": 100.0}, "reason": "a slip of the finger", "who": "somebody"}
        answer = run.cluster.ask("/live-change", wish)
        entries = run.until_finished()
        slip = next(entry for entry in entries if entry.cause == "LiveChange")
        assert (slip.by, slip.who, slip.to_step) == ("human", "somebody", answer["atStep"])
        assert changed(slip) == [("optimisation.learningRate", "0.001", "100.0")]
        act = next(entry for entry in entries if entry.rung == 3)
        assert act.cause in ("LossSpike", "NonFinite")
        assert changed(act)[0][:2] == ("optimisation.learningRate", "100.0")
        assert float(changed(act)[0][2]) == pytest.approx(0.001)
        last = [float.fromhex(next(iter(run.losses()[step]))) for step in (20, STEPS)]
        assert last[1] < last[0], "it learned on"


def test_overflows_at_the_loss_scales_floor_are_found_though_no_loss_is_bad(tmp_path: Path, text: str) -> None:
    spec = small_spec(resilience=policy(actions=["rollback", "skip-batches"], skipSteps=1))
    scale = LossScale(initial=4.0, window=1000, floor=4.0)
    half = PrecisionPlan(compute="float16", loss_scale=scale)  # a spec may say so for cuda devices alone
    plan = resolve(spec).model_copy(update={"precision": half})
    with real_run(tmp_path, text, "spoil batch at step 50", "spoil batch at step 51", training=plan) as run:
        entries = run.until_finished()
        found = [(e.cause, e.rung, e.to_step) for e in entries if e.rung]
        assert found == [("LossScaleFloor", 1, 50), ("LossScaleFloor", 3, 40)]
        rerun, act = (entry for entry in entries if entry.rung)
        assert "loss scale 4 is at its floor, and the gradients overflow again" in rerun.evidence[0]
        assert changed(act) == [("data.skipBatches", "none", "51-51")]
        assert max(run.losses()) == STEPS


def test_the_policy_has_a_limit_and_a_person_ends_the_pause(tmp_path: Path, text: str) -> None:
    spec = small_spec(resilience=policy(maxInterventions=1, actions=["rollback", "lower-clip"]))
    with real_run(tmp_path, text, "spoil batch at step 50", training=spec) as run:
        run.until(lambda s: s["pausedFor"] == "NonFinite")
        assert wait_for(lambda: any(entry.rung == 5 for entry in run.logbook()), 10)
        pause = next(entry for entry in run.logbook() if entry.rung == 5)
        assert "1 interventions within 2000 steps; 1 are allowed" in pause.evidence[1]
        skip = {"fields": {"data.skipBatches": [{"first": 50, "last": 50}]}, "reason": "its batch is bad", "who": "me"}
        run.cluster.ask("/live-change", skip)
        run.cluster.ask("/resume", {"reason": "the batch is left out"})
        entries = run.until_finished()
        assert entries[-1].cause == "Completed"
        assert metrics(run, 0)[50]["skipped"]


def test_switched_off_the_policy_does_nothing_and_the_loop_is_named(tmp_path: Path, text: str) -> None:
    spec = small_spec(resilience=policy(enabled=False))
    with real_run(tmp_path, text, "spoil batch at step 50", training=spec) as run:
        run.until(lambda s: s["pausedFor"] == "CrashLoop")
        assert wait_for(lambda: any(entry.rung == 5 for entry in run.logbook()), 10)
        pause = next(entry for entry in run.logbook() if entry.rung == 5)
        assert "NonFinite at step 49, 3 times" in pause.evidence[0]


def test_live_changes_take_hold_at_one_step_on_all_ranks(tmp_path: Path, text: str) -> None:
    with real_run(tmp_path, text) as run:
        run.until(lambda s: s["step"] >= 20)
        wish = {
            "fields": {
                "optimisation.learningRate": 5e-4,
                "optimisation.clip": 0.25,
                "data.skipBatches": [{"first": 90, "last": 91}],
            },
            "reason": "to see it",
        }
        at = run.cluster.ask("/live-change", wish)["atStep"]
        entries = run.until_finished()
        for rank in (0, 1):
            series = metrics(run, rank)
            applied = {step: entry["applied_change"] for step, entry in series.items()}
            assert min(step for step, number in applied.items() if number == 1) == at
            assert {step for step, entry in series.items() if entry["skipped"]} == {90, 91}
            assert series[at]["learning_rate"] == pytest.approx(series[at - 1]["learning_rate"] / 2, rel=0.05)
        entry = next(entry for entry in entries if entry.cause == "LiveChange")
        assert ("optimisation.clip", "1.0", "0.25") in changed(entry)
        with pytest.raises(ConnectionError):
            run.cluster.ask("/live-change", wish)
