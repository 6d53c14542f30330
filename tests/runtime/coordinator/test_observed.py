"""What reports add up to: sections timed, ends noted once, old words ignored, a new agent's old workers buried."""

import pytest

from opt_api.training.resilience import HostChecks, ResilienceSpec, SectionDeadlines
from opt_runtime.coordinator.observed import Observed
from opt_runtime.messages import AgentReport, Copy, WorkerNote
from support.gang_views import beat

pytestmark = pytest.mark.unit


def watching(**policy) -> Observed:
    observed = Observed(ResilienceSpec(**policy))
    observed.begin(1, ("h0", "h1"), 1, 0.0, None)
    return observed


def report(host: str = "h0", pid: int = 1, **more) -> AgentReport:
    return AgentReport(run="r", host=host, hardware=f"m-{host}", pid=pid, address=f"{host}:1", **more)


def take(observed: Observed, now: float, *beats, host: str = "h0", **more) -> None:
    observed.take(report(host, heartbeats=beats, **more), now, "init")


def test_a_section_is_timed_when_the_next_one_begins() -> None:
    observed = watching()
    take(observed, 1.0, beat(0, 1, sequence=1, section="eval", section_seconds=0.0, time=100.0))
    take(observed, 9.0, beat(0, 1, sequence=2, section="eval", section_seconds=8.0, time=108.0))
    floors = SectionDeadlines(eval=1)
    assert observed.deadlines.deadlines(floors)["eval"] == 1.0
    take(observed, 31.0, beat(0, 1, sequence=3, section="step", section_seconds=1.0, time=131.0))
    assert observed.deadlines.deadlines(floors)["eval"] == pytest.approx(5 * 30.0)


def test_late_and_foreign_heartbeats_change_nothing() -> None:
    observed = watching()
    take(observed, 1.0, beat(0, 7, sequence=5))
    take(observed, 2.0, beat(0, 3, sequence=4))
    take(observed, 3.0, beat(0, 9, sequence=9, attempt=2))
    assert (observed.workers[0].step, observed.workers[0].heard) == (7, 1.0)


def test_an_end_is_noted_once_with_its_first_time() -> None:
    observed = watching()
    ended = WorkerNote(rank=0, attempt=1, pid=5, ended=True, signal=9)
    take(observed, 1.0, workers=(ended,))
    take(observed, 2.0, workers=(ended,))
    assert observed.workers[0].exit is not None
    assert (observed.workers[0].exit.at, observed.workers[0].exit.signal) == (1.0, 9)


def test_a_new_agent_on_a_host_means_its_workers_died() -> None:
    observed = watching()
    take(observed, 1.0, host="h1")
    observed.take(report("h1", pid=2), 2.0, "init")
    assert observed.workers[1].exit is not None
    assert observed.workers[0].exit is None


def test_copies_of_another_course_are_not_seen() -> None:
    observed = watching()
    copies = (
        Copy(unit=0, step=4, trajectory=1),
        Copy(unit=0, step=5, trajectory=1),
        Copy(unit=0, step=9, trajectory=2),
    )
    take(observed, 1.0, copies=copies)
    assert observed.views(trajectory=1)[0].holds == {0: (4, 5)}


def test_compute_times_of_all_ranks_name_the_straggler() -> None:
    observed = watching(host_checks=HostChecks(straggler_steps=3))
    for step in range(1, 5):
        take(observed, step, beat(0, step, compute_seconds=1.0))
        take(observed, step, beat(1, step, compute_seconds=2.0), host="h1")
    assert list(observed.straggling()) == [1]


def test_only_steps_of_an_earlier_attempt_are_redone() -> None:
    observed = watching()
    take(observed, 1.0, beat(0, 9, sequence=1))
    take(observed, 3.0, beat(1, 8, sequence=1), host="h1")
    take(observed, 5.0)
    assert observed.goodput.totals(5.0)["redone"] == 0
    observed.begin(2, ("h0", "h1"), 1, 5.0, 4)
    take(observed, 6.0, beat(0, 5, sequence=1, attempt=2))
    assert observed.goodput.totals(8.0)["redone"] == 2.0


def test_a_machine_under_a_new_name_is_gone_under_its_old_one() -> None:
    observed = watching()
    observed.take(report("h0"), 1.0, "idle_spare")
    renamed = report("h9").model_copy(update={"hardware": report("h0").hardware})
    observed.rename(renamed, 2.0)
    assert "h0" not in observed.hosts
    assert observed.workers[0].exit is not None
    assert observed.goodput.current("h0") is None
