"""The ledger of hosts: its table, identity across names, repeat offenders, the circuit breaker."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opt_runtime.core.hosts import (
    REPEAT_WINDOW_S,
    TRANSITIONS,
    HostEvent,
    HostLedger,
    HostState,
    LedgerError,
)
from support.gang_views import ledger_of

pytestmark = pytest.mark.unit
STATES, EVENTS = get_args(HostState), get_args(HostEvent)


def test_every_state_is_reached_and_only_retired_is_final() -> None:
    assert {*TRANSITIONS.values(), "Candidate"} == set(STATES)
    assert set(STATES) - {state for state, _ in TRANSITIONS} == {"Retired"}
    assert {event for _, event in TRANSITIONS} == set(EVENTS)


def test_only_a_check_leads_to_spare_and_only_a_person_out_of_quarantine() -> None:
    assert {key for key, to in TRANSITIONS.items() if to == "Spare"} == {
        ("BurnIn", "CheckPassed"),
        ("InUse", "Released"),
    }
    assert {e for (s, e), to in TRANSITIONS.items() if s == "Quarantined" and to not in ("Quarantined", "Retired")} == {
        "Pardoned"
    }


def test_an_impossible_transition_names_what_is_possible() -> None:
    with pytest.raises(LedgerError, match=r"machine m0: CheckPassed in state InUse; allowed there: .*Released"):
        ledger_of(1, 1).apply("m0", "CheckPassed")
    with pytest.raises(LedgerError, match="not in the ledger; known: m0"):
        ledger_of(1, 1).apply("m9", "Lost")


def test_a_bad_machine_is_refused_under_another_name() -> None:
    ledger = ledger_of(1, 1).apply("m0", "Condemned", "ECC errors")
    ledger, word = ledger.admit("m0", "fresh-node")
    assert word == "machine m0 is Quarantined under the new name 'fresh-node' (before: h0): ECC errors"
    assert ledger.entries["m0"].names == ("h0", "fresh-node")
    assert ledger.admit("other", "h0")[1] == ""


def test_a_repeat_offender_is_condemned_and_old_faults_are_forgotten() -> None:
    ledger = ledger_of(1, 1)
    for day in range(3):
        ledger = _cycle(ledger, at=day * (REPEAT_WINDOW_S / 2 + 1) * 2)
    assert ledger.state("m0") == "InUse"
    ledger = ledger_of(1, 1)
    for second in range(2):
        ledger = _cycle(ledger, at=float(second))
    ledger = ledger.apply("m0", "Lost", "again", at=2.0)
    assert ledger.state("m0") == "Quarantined"
    assert "3 faults within 24 h" in ledger.entries["m0"].reason


def test_how_many_faults_condemn_is_a_matter_of_the_spec() -> None:
    ledger = ledger_of(1, 1).apply("m0", "Lost", "once", at=0.0, max_faults=1)
    assert ledger.state("m0") == "Quarantined"


def _cycle(ledger: HostLedger, at: float) -> HostLedger:
    ledger = ledger.apply("m0", "Lost", "power", at=at)
    for event in ("Returned", "CheckStarted", "CheckPassed", "Assigned"):
        ledger = ledger.apply("m0", event)
    return ledger


def test_the_breaker_needs_a_mass() -> None:
    one = ledger_of(3, 0).apply("m0", "Condemned")
    assert one.breaker_open(0.3) == ""
    assert "2 of 3" in one.apply("m1", "Condemned").breaker_open(0.3)
    many = ledger_of(10, 0)
    for index in range(3):
        many = many.apply(f"m{index}", "Condemned")
    assert many.breaker_open(0.3) == ""


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(EVENTS)), max_size=60))
def test_no_history_brings_a_condemned_machine_into_use_without_pardon_and_check(
    history: list[tuple[int, HostEvent]],
) -> None:
    ledger, condemned = ledger_of(3, 1), set[str]()
    for index, event in history:
        hardware = f"m{index}"
        if not ledger.allows(hardware, event):
            continue
        ledger = ledger.apply(hardware, event)
        condemned |= {hardware} if ledger.state(hardware) == "Quarantined" else set()
        condemned -= {hardware} if event == "Pardoned" else set()
        assert not (hardware in condemned and ledger.state(hardware) in ("Spare", "InUse"))
        assert len(ledger.entries) == 3
