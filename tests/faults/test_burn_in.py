"""Hosts burn in as real processes: numbers reach the ledger, bad ones are kept out, many bad ones stop the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from opt_runtime.local.cluster import wait_for
from opt_runtime.records.journal import journal_of
from opt_store import open_store
from support.local_run import Run, local_run, tiny_plan

pytestmark = pytest.mark.integration
STEPS = 60


def words_of(run: Run, event: str) -> list[str]:
    events = journal_of(open_store(run.cluster.store), "tiny").read()
    return [e.reason for e in events if e.what == "HostMarked" and e.host_event == event]


def test_hosts_show_what_they_can_before_they_train(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS, plan=tiny_plan(2, hostChecks={"seconds": 2}), checks=True) as run:
        entries = run.until_finished()
        assert [entry.cause for entry in entries] == ["Started", "Completed"]
        passed = words_of(run, "CheckPassed")
        assert len(passed) == 2
        assert all("GFLOP/s" in word and "GB/s in memory" in word for word in passed)
        assert any("MB/s with another host" in word for word in passed), "the two met at the rendezvous"


def test_a_mass_of_bad_hosts_opens_the_circuit_breaker(tmp_path: Path) -> None:
    """No disk has an exabyte: every host fails, so it is not the hosts' fault."""
    checks = {"seconds": 1, "minDiskBytesFree": 10**18}
    with local_run(tmp_path, STEPS, plan=tiny_plan(2, hostChecks=checks), checks=True) as run:
        run.until(lambda s: s["pausedFor"] == "CircuitBreaker")
        assert wait_for(lambda: any(e.cause == "CircuitBreaker" for e in run.logbook()), 10)
        pause = next(e for e in run.logbook() if e.cause == "CircuitBreaker")
        assert "2 of 2 machines are quarantined" in pause.evidence[0]
        drained = [e for e in run.logbook() if e.cause == "HostDrained"]
        assert {e.hosts[0].verdict for e in drained} == {"quarantined"}
        assert "bytes free" in drained[0].evidence[0]
