"""The rung table: every row, and `decide` on a snapshot for each kind of trouble."""

from itertools import product
from typing import get_args

import pytest

from opt_api.documents.exit_report import ExitCause, ExitReport
from opt_api.documents.logbook import Cause
from opt_runtime.core.causes import BY_REPORT, TRAITS, Scope, cause_of_exit
from opt_runtime.core.rungs import RUNGS, Resources, Supply, rung_of

pytestmark = pytest.mark.unit
SCOPES, SUPPLIES = get_args(Scope), get_args(Supply)


def test_the_table_has_exactly_one_row_for_everything_that_can_be() -> None:
    assert set(RUNGS) == set(product(SCOPES, (True, False), SUPPLIES))


@pytest.mark.parametrize(("scope", "memory"), list(product(SCOPES, (True, False))))
def test_fewer_hosts_never_give_a_lower_rung(scope: Scope, memory: bool) -> None:
    rungs = [rung_of(scope, Resources(memory, supply)) for supply in SUPPLIES]
    assert rungs == sorted(rungs)
    assert rungs[-1] == 5


@pytest.mark.parametrize(("scope", "supply"), list(product(SCOPES, SUPPLIES)))
def test_memory_never_makes_it_worse(scope: Scope, supply: Supply) -> None:
    assert rung_of(scope, Resources(True, supply)) <= rung_of(scope, Resources(False, supply))


def test_only_memory_makes_rungs_one_and_two_possible() -> None:
    assert {key[1] for key, rung in RUNGS.items() if rung in (1, 2)} == {True}


def test_a_human_is_wanted_whatever_is_left() -> None:
    assert {rung for (scope, _, _), rung in RUNGS.items() if scope == "human"} == {5}


def test_every_cause_of_an_exit_has_its_trait() -> None:
    assert set(BY_REPORT) == set(get_args(ExitCause))
    assert {cause for cause in BY_REPORT.values() if cause} <= set(TRAITS) <= set(get_args(Cause))


def test_only_causes_that_replace_the_host_are_blamed_on_it() -> None:
    assert all(trait.scope == "host" for trait in TRAITS.values() if trait.blames_host)


@pytest.mark.parametrize(
    ("code", "signal", "report", "cause"),
    [
        (None, 9, None, "WorkerKilled"),
        (None, 11, "Completed", "WorkerExit"),
        (0, None, None, None),
        (0, None, "Completed", None),
        (75, None, "LostPeer", "Unknown"),
        (1, None, None, "WorkerExit"),
        (71, None, "OutOfMemory", "OutOfMemory"),
    ],
)
def test_why_a_worker_ended(code: int | None, signal: int | None, report: ExitCause | None, cause: Cause) -> None:
    said = ExitReport(cause=report, message="so", attempt=1, rank=0, step=1) if report else None
    assert cause_of_exit(code, signal, said) == cause


def test_a_full_disk_is_known_by_the_words_of_whoever_met_it() -> None:
    full = ExitReport(cause="Internal", message="OSError: [Errno 28] No space left", attempt=1, rank=0, step=1)
    assert cause_of_exit(1, None, full) == "DiskFull"
