"""A coordinator with a real store and reports made by hand: what hosts are told, and what a successor knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from opt_api.documents.exit_report import EXIT_CODES, ExitReport
from opt_api.documents.keys import checkpoint_prefix, manifest_key, mark_key
from opt_api.documents.manifests import CheckpointManifest, Lineage
from opt_runtime.coordinator.coordinator import KEEP, Coordinator
from opt_runtime.coordinator.server import routes_of
from opt_runtime.coordinator.settings import ADOPT_QUIET_S, Settings
from opt_runtime.coordinator.status import status_of
from opt_runtime.messages import AgentReport, AgentWord, Copy, Orders, WorkerNote
from opt_runtime.records.logbook import Logbook
from opt_runtime.wire import Request
from opt_store import Store, open_store
from support.gang_views import beat
from support.local_run import tiny_plan

pytestmark = pytest.mark.unit
HOSTS = ("h0", "h1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path.as_uri())


@contextmanager
def coordinator(store: Store, **resilience) -> Iterator[Coordinator]:
    c = Coordinator(Settings(tiny_plan(2, **resilience), "rendezvous:1"), store)
    yield c
    c.checkpoints.close()
    assert c.scribe.close(10)


def say(c: Coordinator, host: str, *beats, **more) -> Orders:
    usual = {"run": "tiny", "hardware": f"m-{host}", "pid": 1, "address": f"{host}:1", "ready": True, "orders": 1}
    return c.take(AgentReport(host=host, heartbeats=beats, **{**usual, **more}))


def turns(c: Coordinator) -> None:
    for _ in range(3):
        c.turn()


def started(c: Coordinator) -> None:
    for host in HOSTS:
        say(c, host)
    turns(c)


def test_a_successor_waits_for_the_gang_until_nobody_new_reports(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
    with coordinator(store) as later:
        assert later._adopting(), "nobody has reported"
        say(later, "h0")
        assert later._adopting(), "the other one may be about to"
        later._newcomer_at -= ADOPT_QUIET_S
        assert not later._adopting()
    with coordinator(store) as told:
        word = json.dumps({"host": "h1", "word": "its node is lost"}).encode()
        assert json.loads(routes_of(told)["POST", "/gone"](Request({}, word))[2]) == {"known": True}
        assert told._adopting(), "a word about one is no report of the other"
    with coordinator(store) as whole:
        for host in HOSTS:
            say(whole, host)
        assert not whole._adopting()
    with coordinator(store) as alone:
        assert alone._adopting()
        alone._began -= 2 * alone.settings.adopt_s  # so much time passes
        assert not alone._adopting()


def test_a_host_that_went_with_the_coordinator_is_lost_by_its_peers_word(store: Store) -> None:
    everybody = (*HOSTS, "h2")
    with coordinator(store, spares=1) as c:
        for host in everybody:
            say(c, host)
        turns(c)
    left = ExitReport(cause="LostPeer", message="read error", attempt=1, rank=0, step=5)
    note = WorkerNote(rank=0, attempt=1, pid=7, ended=True, code=EXIT_CODES["LostPeer"], report=left)
    with coordinator(store, spares=1) as later:
        say(later, "h0", workers=(note,))
        say(later, "h2")
        later._newcomer_at -= ADOPT_QUIET_S
        turns(later)
        assert later.state.failures[-1].cause == "HostLost"
        assert (later.state.attempt, later.state.gang) == (2, ("h0", "h2"))
        agents = {agent["host"]: agent["state"] for agent in status_of(later)["agents"]}
        assert agents == {"h0": "InUse", "h1": "Suspect", "h2": "InUse"}, "somebody has to replace h1"


def test_a_host_of_the_gang_that_reports_late_goes_on(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
    with coordinator(store) as later:
        say(later, "h0")
        later._newcomer_at -= ADOPT_QUIET_S
        turns(later)
        assert [agent["host"] for agent in status_of(later)["agents"]] == ["h0"], "h1 is awaited"
        note = WorkerNote(rank=1, attempt=1, pid=8)
        say(later, "h1", beat(1, 6, attempt=1), workers=(note,))
        turns(later)
        assert (later.state.attempt, later.observed.workers[1].exit) == (1, None)


def test_a_dismissed_host_leaves_and_is_not_counted_on(store: Store) -> None:
    with coordinator(store, spares=1) as c:
        for host in (*HOSTS, "h2"):
            say(c, host)
        turns(c)
        assert not c.dismiss("h0", "its pod is being deleted"), "it is at work"
        assert c.dismiss("h2", "its pod is being deleted")
        assert [agent["host"] for agent in status_of(c)["agents"]] == [*HOSTS]
        assert say(c, "h2").state == "leave"
        turns(c)
        assert c.state.attempt == 1
        say(c, "h2-again", hardware="m-h2", pid=2)
        turns(c)
        assert c.state.ledger.state("m-h2") == "Spare", "the machine is as good as before"


def copies(rank: int, *steps: int) -> tuple[Copy, ...]:
    return tuple(Copy(unit=rank, step=step, trajectory=1) for step in steps)


def test_hosts_that_report_are_put_into_a_gang(store: Store) -> None:
    with coordinator(store) as c:
        assert say(c, "h0") == KEEP
        turns(c)
        assert say(c, "h0") == KEEP, "one host is no gang of two"
        say(c, "h1")
        turns(c)
        orders = [say(c, host) for host in HOSTS]
        assert [(o.state, o.attempt, o.ranks[0].rank, o.partner) for o in orders] == [
            ("run", 1, 0, "h1:1"),
            ("run", 1, 1, "h0:1"),
        ]


def test_a_killed_rank_is_restarted_from_memory(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
        killed = WorkerNote(rank=1, attempt=1, pid=7, ended=True, signal=9)
        say(c, "h0", beat(0, 5), copies=copies(0, 4, 5))
        say(c, "h1", beat(1, 5), copies=copies(1, 4), workers=(killed,))
        turns(c)
        orders = say(c, "h1")
        assert (orders.attempt, orders.restore_step, orders.from_memory, orders.trajectory) == (2, 4, True, 1)
        assert c.wait_for_orders("h0", 1, 1.0).attempt == 2


def test_what_an_agent_says_is_worth_a_line_is_in_the_logbook(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
        say(c, "h0", words=(AgentWord(cause="OutOfMemory", text="rank 0 has no place"),))
        assert c.scribe.flush(10)
        entry = Logbook(store, "tiny").read()[-1]
        assert (entry.cause, entry.summary, entry.rung) == ("OutOfMemory", "rank 0 has no place", 0)


def test_a_successor_touches_nothing_and_knows_everything(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
        say(c, "h0", beat(0, 5))
        change = b'{"fields": {"optimisation.clip": 0.5}, "reason": "try", "who": "me"}'
        assert routes_of(c)["POST", "/live-change"](Request({}, change))[0] == 200
        c.save_progress()
    with coordinator(store) as heir:
        assert (heir.state.attempt, heir.state.phase, heir.state.gang) == (1, "running", HOSTS)
        assert heir.state.values is not None
        assert heir.state.values.clip == 0.5
        assert [change.sequence for change in heir.state.changes] == [1]
        turns(heir)
        assert [say(heir, host, beat(i, 6)) for i, host in enumerate(HOSTS)] == [KEEP, KEEP]
        turns(heir)
        assert heir.state.attempt == 1


def test_after_a_restart_of_everything_the_gang_begins_again(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
    with coordinator(store) as heir:
        for host in HOSTS:
            say(heir, host, orders=0, pid=9)
        turns(heir)
        assert say(heir, "h0", orders=0, pid=9).attempt == 2


def test_a_condemned_machine_is_sent_away_under_any_name(store: Store) -> None:
    with coordinator(store) as c:
        say(c, "h0")
        c.record("HostMarked", hardware="m-h0", host_event="Condemned", reason="ECC errors")
        with capture_logs() as lines:
            assert say(c, "other", hardware="m-h0").state == "leave"
        (refused,) = (line["reason"] for line in lines if line["event"] == "a host is refused")
        assert refused == "machine m-h0 is Quarantined under the new name 'other' (before: h0): ECC errors"


def test_a_machine_that_left_the_gang_with_its_agent_is_a_spare_again_with_a_new_one(store: Store) -> None:
    """Its node was drained, say: nobody said that it failed, and its next pod has another name."""
    with coordinator(store) as c:
        started(c)
        assert c.state.ledger.state("m-h1") == "InUse"
        say(c, "other", hardware="m-h1", pid=2)
        assert c.state.ledger.state("m-h1") == "Spare"


def test_a_pardoned_machine_is_taken_in_again_and_checked(store: Store) -> None:
    with coordinator(store) as c:
        say(c, "h0")
        routes = routes_of(c)
        body = b'{"hardware": "m-h0", "reason": "burned in"}'
        assert json.loads(routes["POST", "/pardon"](Request({}, body))[2]) == {"pardoned": False}
        c.record("HostMarked", hardware="m-h0", host_event="Condemned", reason="ECC errors")
        (refused,) = json.loads(routes["GET", "/status"](Request({}, b""))[2])["refused"]
        assert refused == {"hardware": "m-h0", "names": ["h0"], "state": "Quarantined", "reason": "ECC errors"}
        assert json.loads(routes["POST", "/pardon"](Request({}, body))[2]) == {"pardoned": True}
        assert json.loads(routes["GET", "/status"](Request({}, b""))[2])["refused"] == []
        assert say(c, "other", hardware="m-h0", pid=2).state != "leave"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"fields": {"model.layers": 3}, "reason": "x"}', "running fields are optimisation.learningRate"),
        (b'{"fields": {"optimisation.clip": -1}, "reason": "x"}', "greater than 0"),
        (b"not json", "JSONDecodeError"),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_nothing_changes(store: Store, body: bytes, word: str) -> None:
    with coordinator(store) as c:
        status, _, answer = routes_of(c)["POST", "/live-change"](Request({}, body))
        assert status == 400
        assert word in bytes(answer).decode()
        assert c.state.changes == ()


def saved(store: Store, step: int) -> str:
    prefix = checkpoint_prefix("tiny", step, 1)
    manifest = CheckpointManifest(
        run="tiny", attempt=1, step=step, time=datetime.now(UTC), architecture=tiny_plan().architecture, world_size=2,
        objects=(), tensors=(), chunk_bytes=1, tokens=step, lineage=Lineage(code_version="1"),
    )  # fmt: skip
    store.put(manifest_key(prefix), manifest.to_bytes())
    return prefix


def test_a_divergence_goes_back_with_new_values_and_leaves_later_checkpoints_behind(store: Store) -> None:
    policy = {"divergence": {"maxGradientNorm": 10, "rerunFirst": False, "actions": ["rollback", "lower-clip"]}}
    with coordinator(store, **policy) as c:
        early, late = saved(store, 4), saved(store, 8)
        c.checkpoints.look()
        started(c)
        say(c, "h0", beat(0, 7, gradient_norm=11.0))
        turns(c)
        orders = say(c, "h0")
        assert (orders.attempt, orders.restore_step, orders.from_memory, orders.trajectory) == (2, 4, False, 2)
        (change,) = orders.changes
        assert (change.at_step, change.clip, change.who) == (5, pytest.approx(0.3), "policy")
        assert store.exists(mark_key(late, "Poisoned"))
        assert not store.exists(mark_key(early, "Poisoned"))
        assert c.state.interventions == (7,)
        say(c, "h0", beat(0, 4, attempt=2, sequence=1), beat(0, 5, attempt=2, sequence=2))
        assert c.scribe.flush(10)
        entry = Logbook(store, "tiny").read()[-1]
        assert (entry.cause, entry.rung, entry.changes[0].field) == ("LossSpike", 3, "optimisation.clip")


def test_an_old_verified_checkpoint_is_no_news_to_a_successor(store: Store) -> None:
    prefix = saved(store, 4)
    store.put(mark_key(prefix, "Verified"), b"{}")
    with coordinator(store) as c:
        c.checkpoints.look()
        first = c.state.verified_at
        assert first is not None
    with coordinator(store) as heir:
        heir.checkpoints.look()
        assert heir.state.verified_at == first


def test_a_change_is_ahead_of_a_gang_that_runs_and_begins_at_once_for_one_that_does_not(store: Store) -> None:
    change = b'{"fields": {"optimisation.clip": 0.5}, "reason": "try", "who": "me"}'

    def at_step(c: Coordinator) -> int:
        return int(json.loads(routes_of(c)["POST", "/live-change"](Request({}, change))[2])["atStep"])

    with coordinator(store) as c:
        assert at_step(c) == 1
        store.put(mark_key(saved(store, 4), "Verified"), b"{}")
        c.checkpoints.look()
        assert at_step(c) == 5
        started(c)
        say(c, "h0", beat(0, 9))
        assert at_step(c) == 14


def test_status_and_metrics_say_the_same(store: Store) -> None:
    with coordinator(store) as c:
        started(c)
        say(c, "h0", beat(0, 5, loss=2.5))
        routes = routes_of(c)
        metrics = bytes(routes["GET", "/metrics"](Request({}, b""))[2]).decode()
        assert 'opt_runtime_step{run="tiny"} 5.0' in metrics
        assert 'opt_runtime_loss{run="tiny"} 2.5' in metrics
        assert 'class="productive"' in metrics
