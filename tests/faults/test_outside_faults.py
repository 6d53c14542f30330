"""Faults from outside with the tiny worker: frozen, cut off and full machines, programs that stand still."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from opt_runtime.linux import processes_of_session
from opt_runtime.local.acts import ACTS
from opt_runtime.local.cluster import kill, wait_for
from support.local_run import Run, local_run, tiny_plan
from support.rooms import lan_of

pytestmark = pytest.mark.long
STEPS = 400


def freeze(run: Run, host: str) -> list[int]:
    """Stop everything of a host at once; the processes, to be ended with the run."""
    frozen = processes_of_session(run.cluster.programs[host].pid)
    assert ACTS["stop host"](run.cluster, run.status(), host)
    return frozen


def working(status: dict) -> list[dict]:
    """Both workers, once both have a process; before that, one that has done nothing."""
    running = [worker for worker in status["workers"] if worker["pid"] and not worker["ended"]]
    return running if len(running) == 2 else [{"step": -1}]


def test_a_frozen_machine_is_lost_by_the_word_of_its_peers(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS, spares=1) as run:
        run.until(lambda s: s["step"] >= 60 and any(a["state"] == "Spare" for a in s["agents"]))
        host = next(w["host"] for w in run.status()["workers"] if w["rank"] == 1)
        freeze(run, host)
        entries = run.until_finished()
        lost = next(entry for entry in entries if entry.cause == "HostLost")
        assert lost.rung == 2
        assert lost.steps_lost <= 1
        assert "no report for" in lost.evidence[0]
        assert "make no progress" in lost.evidence[1]


def test_programs_that_stand_still_for_a_while_hurt_nobody(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS) as run:
        run.until_step(20)
        agent = run.cluster.programs["host-1"].pid
        for pid in (agent, run.cluster.programs["coordinator"].pid, run.cluster.programs["rendezvous"].pid):
            before = run.steps_written()
            kill(pid, signal.SIGSTOP)
            assert wait_for(lambda before=before: run.steps_written() >= before + 60, 60), "the gang goes on"
            kill(pid, signal.SIGCONT)
        entries = run.until_finished()
        assert [entry.cause for entry in entries] == ["Started", "Completed"]


def test_an_agent_that_stands_still_is_given_up_by_a_coordinator_that_never_heard_it(tmp_path: Path) -> None:
    """Its peers train on with its ranks and have nothing to say of it; what is left is that it is never heard."""
    with local_run(tmp_path, 100_000, spares=1) as run:
        run.until(lambda s: s["step"] >= 20 and any(a["state"] == "Spare" for a in s["agents"]))
        host = next(w["host"] for w in run.status()["workers"] if w["rank"] == 1)
        kill(run.cluster.programs[host].pid, signal.SIGSTOP)
        kill(run.cluster.programs["coordinator"].pid, signal.SIGKILL)
        swapped = run.until(lambda s: s["attempt"] == 2 and host not in {w.get("host", host) for w in working(s)})
        run.until_step(swapped["step"] + 20)
        assert any(a["host"] == host and a["state"] == "Suspect" for a in run.status()["agents"])
        assert [entry.cause for entry in run.logbook()] == ["Started", "CoordinatorLost", "Resumed"]


def test_a_rendezvous_that_stands_still_delays_a_recovery_and_no_more(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS) as run:
        run.until_step(20)
        rendezvous = run.cluster.programs["rendezvous"].pid
        kill(rendezvous, signal.SIGSTOP)
        run.signal_rank(1, signal.SIGKILL)
        run.until(lambda s: s["attempt"] >= 2)
        kill(rendezvous, signal.SIGCONT)
        entries = run.until_finished()
        assert "WorkerKilled" in [entry.cause for entry in entries]
        assert entries[-1].cause == "Completed"


def test_a_host_whose_disk_is_full_is_swapped_and_the_cause_named(tmp_path: Path) -> None:
    with local_run(tmp_path, 1000, spares=1) as run:
        run.until(lambda s: s["step"] >= 20 and any(a["state"] == "Spare" for a in s["agents"]))
        status = run.status()
        host = next(w["host"] for w in status["workers"] if w["rank"] == 0)
        assert ACTS["fill disk of rank"](run.cluster, status, "0")
        entries = run.until_finished()
        full = next(entry for entry in entries if entry.cause == "DiskFull")
        assert any("[Errno 27]" in line for line in full.evidence), full.evidence
        assert full.hosts[0].name == host
        assert full.rung == 2


def test_several_hosts_at_once_more_than_there_are_spares_make_a_smaller_gang(tmp_path: Path) -> None:
    plan = tiny_plan(4, minHosts=2)
    with local_run(tmp_path, STEPS, hosts=4, spares=1, plan=plan) as run:
        run.until(lambda s: s["step"] >= 20 and len(s["agents"]) == 5)
        for host in ("host-1", "host-2", "host-3"):
            run.signal_program(host)
        entries = run.until_finished()
        smaller = [entry for entry in entries if entry.rung == 4]
        assert smaller, entries
        assert {entry.cause for entry in smaller} == {"HostLost"}
        assert len({note.name for note in smaller[-1].hosts if not note.verdict}) == 2


def test_several_hosts_at_once_and_too_few_left_pause_and_say_so(tmp_path: Path) -> None:
    with local_run(tmp_path, STEPS, spares=1) as run:
        run.until(lambda s: s["step"] >= 20 and len(s["agents"]) == 3)
        for host in ("host-0", "host-1"):
            run.signal_program(host)
        run.until(lambda s: s["pausedFor"] == "SparesSpent")
        assert wait_for(lambda: any(entry.rung == 5 for entry in run.logbook()), 10)
        pause = next(entry for entry in run.logbook() if entry.rung == 5)
        assert pause.cause == "SparesSpent"
        assert pause.evidence[-1] == "1 good hosts are left; 2 are needed"


def test_a_machine_that_fails_again_and_again_is_refused_under_any_name(tmp_path: Path) -> None:
    with local_run(tmp_path, 4000) as run:
        for attempt in range(1, 4):
            run.until(lambda s, a=attempt: s["attempt"] == a and all(w["step"] >= 5 for w in working(s)))
            run.signal_program("host-1" if attempt < 3 else "other-name")
            run.until(lambda s: s["pausedFor"] == "SparesSpent")
            if attempt < 3:
                run.cluster.host_returns("host-1", "host-1" if attempt == 1 else "other-name")
        run.cluster.host_returns("other-name", "third-name")
        refused = run.directory / "coordinator.log"
        assert wait_for(lambda: "is Quarantined under the new name 'third-name'" in refused.read_text(), 30)
        assert run.status()["pausedFor"] == "SparesSpent"
        assert run.cluster.programs["third-name"].process.wait(30) == 0, "it was sent away"


def test_a_host_that_is_cut_off_is_swapped_and_does_no_harm_when_it_is_back(tmp_path: Path) -> None:
    names = ["host-0", "host-1", "host-2"]
    with lan_of(names) as lan, local_run(tmp_path, 1200, spares=1, lan=lan) as run:
        run.until(lambda s: s["step"] >= 60 and len(s["agents"]) == 3)
        host = next(w["host"] for w in run.status()["workers"] if w["rank"] == 1)
        lan.cut(host)
        run.until(lambda s: s["attempt"] == 2 and s["step"] >= 200)
        lan.mend(host)
        entries = run.until_finished()
        lost = next(entry for entry in entries if entry.cause == "HostLost")
        assert lost.rung == 2
        assert lost.steps_lost <= 1
        assert f"host {host}: no report" in lost.evidence[0]
        assert [entry.cause for entry in entries if entry.rung] == ["HostLost"], "its zombie worker disturbed nobody"
        assert all(len(seen) == 1 for seen in run.losses().values())
