"""Time, energy and notes against what is known of OPT-175B."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_api.estimate.estimate import Estimate, estimate
from opt_api.parsing import parse
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from support.trainings import training

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).parents[2] / "examples"
GANG = {"hosts": 124, "devicesPerHost": 8, "tensorParallel": 8, "activationCheckpointing": "full"}


def of(made: OPTTraining) -> Estimate:
    return estimate(made, resolve(made))


@pytest.fixture(scope="module")
def opt_175b() -> Estimate:
    made = parse((EXAMPLES / "opt-175b.yaml").read_text())
    assert isinstance(made, OPTTraining)
    return of(made)


def test_work_of_opt_175b(opt_175b):
    # the paper's 4.30e23 counts recomputation; 6 N D alone is 3.15e23
    assert opt_175b.work.hardware_flops == pytest.approx(4.30e23, rel=0.01)
    assert opt_175b.work.model_flops == pytest.approx(6 * 175e9 * 300e9 * 1.025, rel=0.01)
    assert opt_175b.work.tokens == pytest.approx(300e9, rel=1e-5)


def test_device_hours_of_opt_175b(opt_175b):
    assert opt_175b.duration.device_hours == pytest.approx(817_000, rel=0.01)
    assert opt_175b.duration.device_hours == pytest.approx(1024 * 33 * 24, rel=0.01)
    assert opt_175b.duration.model_utilisation == pytest.approx(0.353, abs=0.001)


def test_carbon_of_opt_175b_on_the_papers_basis_and_restated(opt_175b):
    paper, restated = opt_175b.energy.paper_compatible, opt_175b.energy.restated
    assert paper.tonnes_co2 == pytest.approx(75, rel=0.01)
    assert paper.megawatt_hours == pytest.approx(324, rel=0.01)
    assert (paper.pue, paper.grams_co2_per_kwh, paper.device_watts) == (1, 231, 400)
    # 142 hosts for the whole wall time, at the spec's PUE and grid
    hours = 142 * 8 * opt_175b.duration.wall_hours
    assert restated.device_hours == pytest.approx(hours)
    assert restated.tonnes_co2 == pytest.approx(hours * 400 * 1.1 / 1e6 * 429 / 1e3)


def test_an_uneven_batch_is_said_and_paid_for(opt_175b):
    assert opt_175b.duration.balance == pytest.approx(1024 / (124 * 9))
    assert any("2031616" in note for note in opt_175b.notes)


def test_the_launchers_own_batch_divides_evenly():
    even = of(
        training(
            model={"preset": "opt-175b"},
            parallelism=GANG,
            optimisation={"batchTokens": 2031616},
            checkpointing={"memoryTier": False},
        )
    )
    assert even.duration.balance == 1
    assert even.notes == ()


def test_faults_cost_what_young_and_daly_say():
    checkpointing = {"assumedStallSeconds": 60, "assumedHoursBetweenFaults": 12.2}
    found = of(training(model={"preset": "opt-175b"}, parallelism=GANG, checkpointing=checkpointing)).duration
    waste = (2 * 60 / (12.2 * 3600)) ** 0.5 + found.restart_seconds / (12.2 * 3600)
    assert found.expected_ettr == pytest.approx(1 / (1 + waste), rel=1e-4)
    assert found.wall_hours == pytest.approx(found.productive_hours * (1 + waste), rel=1e-4)


def test_recomputation_costs_a_third_more_work_and_time():
    without = of(training(parallelism={"deviceModel": "a100-80gb"}))
    every = of(training(parallelism={"deviceModel": "a100-80gb", "activationCheckpointing": "full"}))
    half = of(training(parallelism={"deviceModel": "a100-80gb", "activationCheckpointing": "selective"}))
    assert every.duration.device_hours == pytest.approx(without.duration.device_hours * 4 / 3)
    assert half.duration.device_hours == pytest.approx(without.duration.device_hours * 7 / 6)
    assert without.work.model_flops == without.work.hardware_flops


def test_a_cpu_workers_speed_is_that_of_its_cores():
    base = {"parallelism": {"device": "cpu"}, "precision": {"compute": "float32"}}
    two = of(training(**base, pods={"resources": {"cpu": "2", "memory": "64Gi"}}))
    half = of(training(**base, pods={"resources": {"cpu": "500m", "memory": "64Gi"}}))
    assert half.duration.step_seconds == pytest.approx(4 * two.duration.step_seconds)
    assert half.energy.restated.device_watts * 4 == pytest.approx(two.energy.restated.device_watts)


def test_measured_power_replaces_the_rated():
    found = of(training(energy={"deviceWatts": 330, "hostWatts": 1000, "pue": 1.5})).energy.restated
    assert (found.device_watts, found.watts_source) == (330, "spec.energy.deviceWatts")
    assert found.megawatt_hours == pytest.approx((found.device_hours * 330 + found.host_hours * 1000) * 1.5 / 1e6)


def test_a_memory_tier_without_room_is_said():
    notes = of(training(model={"preset": "opt-13b"}, parallelism={"hosts": 2, "devicesPerHost": 8})).notes
    assert any("sharedMemory" in note and "1Gi" in note for note in notes)


def test_a_save_is_weights_and_moments_in_float32():
    found = of(training(checkpointing={"interval": {"seconds": 100}}))
    assert found.checkpoint.bytes == 12 * found.parameters
    assert found.checkpoint.bytes_per_second == found.checkpoint.bytes / 100
