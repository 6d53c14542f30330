"""Every metric that the operator names is fed by what happens, and goes when its training goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from opt_operator.core.views import CoordinatorReport, NewestCheckpoint
from opt_operator.shell.loop import Reconciler
from opt_operator.shell.metrics import REGISTRY
from support.opmodel.harness import KEY, Perturbation, Process, fresh
from support.opmodel.scenarios import submit
from support.opmodel.world import NS, World

pytestmark = pytest.mark.unit

WHERE = {"namespace": NS, "training": "small"}
PER_TRAINING = {
    "opt_training_step": 12.0,
    "opt_training_loss": 2.0,
    "opt_training_tokens_per_second": 5000.0,
    "opt_training_restarts": 0.0,
    "opt_training_steps_lost": 3.0,
    "opt_training_spares": 1.0,
    "opt_training_ettr": 0.9,
    "opt_training_hosts_ready": 2.0,
    "opt_training_hosts_wanted": 2.0,
}


def told(world: World, report: CoordinatorReport | None) -> CoordinatorReport | None:
    """What a coordinator says beyond the model's: speed, classes of time, a checkpoint."""
    if report is None:
        return None
    newest = NewestCheckpoint(step=10, time=world.api.now - timedelta(seconds=90), digest="sha256:" + "2" * 64)
    more: dict[str, Any] = {
        "step": 12, "tokens_per_second": 5000.0, "goodput": {"productive": 80.0, "redone": 2.0}, "ettr": 0.9,
        "steps_lost": 3, "newest_verified": newest,
    }  # fmt: skip
    return report.model_copy(update=more)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {**WHERE, **labels})


def test_every_metric_of_a_training_is_fed_and_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = fresh()
    submit(world)
    before = World.newest
    monkeypatch.setattr(World, "newest", lambda self, key: told(self, before(self, key)))

    async def live() -> None:
        process = Process(world, Perturbation())
        await process.start()
        for _ in range(40):
            world.tick()
            await process.look()
        await looked(process.loop)
        found = {name: value(name) for name in PER_TRAINING}
        assert found == PER_TRAINING
        assert value("opt_training_phase", phase="Running") == 1
        assert value("opt_training_phase", phase="Starting") is None
        assert value("opt_training_host_seconds", **{"class": "productive"}) == 80
        age = value("opt_training_checkpoint_age_seconds")
        assert age is not None
        assert 90 <= age < 120
        mfu = value("opt_training_mfu")
        assert mfu is not None
        assert 0 < mfu < 1
        world.api.remove("OPTTraining", NS, "small")
        await process.look()
        assert all(value(name) is None for name in PER_TRAINING)
        assert value("opt_training_phase", phase="Running") is None

    asyncio.run(live())


async def looked(loop: Reconciler) -> None:
    """One look by way of the queue: what is counted about the operator itself."""
    count = REGISTRY.get_sample_value("opt_operator_reconcile_seconds_count", {"result": "ok"}) or 0
    loop._queue.add(KEY)
    loop._queue.measure()
    assert REGISTRY.get_sample_value("opt_operator_queue_depth") == 1
    assert REGISTRY.get_sample_value("opt_operator_queue_age_seconds") is not None
    worker = asyncio.create_task(loop.run())
    for _ in range(500):
        if (REGISTRY.get_sample_value("opt_operator_reconcile_seconds_count", {"result": "ok"}) or 0) > count:
            break
        await asyncio.sleep(0.01)
    worker.cancel()
    assert (REGISTRY.get_sample_value("opt_operator_reconcile_seconds_count", {"result": "ok"}) or 0) > count
    loop._queue.measure()
    assert REGISTRY.get_sample_value("opt_operator_queue_depth") == 0
    assert (REGISTRY.get_sample_value("opt_operator_looks_at_once") or 0) > 0
