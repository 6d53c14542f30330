"""`decide` on whole snapshots: what is done, from where, on which hosts - and what is left alone."""

from dataclasses import replace

import pytest

from opt_api.documents.manifests import RunningValues
from opt_api.training.resilience import DivergencePolicy, FailureBudget, ResilienceSpec
from opt_runtime.core.actions import Action, Complete, MarkHost, Note, Pause, Restore, StartAttempt, StopGang
from opt_runtime.core.budget import Failure
from opt_runtime.core.decide import decide
from opt_runtime.core.divergence import CheckpointView
from opt_runtime.core.patience import PARTNER_PATIENCE_S
from opt_runtime.core.readings import Trigger
from opt_runtime.core.snapshot import DivergenceView, GangSnapshot
from support.gang_views import NOW, beat, ended, gang, with_host, with_worker, without_host

pytestmark = pytest.mark.unit


def start(snapshot: GangSnapshot) -> StartAttempt:
    (found,) = [action for action in decide(snapshot).actions if isinstance(action, StartAttempt)]
    return found


def only(snapshot: GangSnapshot, kind: type[Action]) -> Action:
    (found,) = [action for action in decide(snapshot).actions if isinstance(action, kind)]
    return found


def test_a_healthy_gang_is_left_alone() -> None:
    assert decide(gang()).actions == ()


def test_the_same_snapshot_gives_the_same_decision() -> None:
    snapshot = without_host(gang(), "h1")
    assert decide(snapshot) == decide(snapshot)


def test_the_first_attempt_waits_for_the_full_gang() -> None:
    fresh = gang(workers=(), attempt=0, phase="none")
    assert start(fresh).hosts == ("h0", "h1")
    assert start(fresh).cause == "Started"
    assert decide(replace(fresh, wanted_hosts=4, allowed_sizes=(4,))).actions == ()


def test_a_killed_worker_restarts_in_place_from_memory() -> None:
    found = start(with_worker(gang(), 1, exit=ended(signal=9)))
    assert (found.rung, found.cause, found.number, found.hosts) == (1, "WorkerKilled", 2, ("h0", "h1"))
    assert found.restore == Restore(10, {0: ("h0", "h1"), 1: ("h1", "h0")})


def test_the_newest_step_that_all_ranks_have_is_taken() -> None:
    uneven = with_host(with_host(gang(), "h0", holds={0: (10, 11), 1: (9, 10)}), "h1", holds={1: (9, 10)})
    assert start(with_worker(uneven, 1, exit=ended(signal=9))).restore.step == 10


def test_hosts_that_keep_equal_units_are_each_others_copies() -> None:
    held = {0: (9, 10)}
    alike = with_host(with_host(gang(units=1), "h0", holds=held), "h1", holds=held)
    assert start(without_host(alike, "h1")).restore == Restore(10, {0: ("h0",), 1: ("h0",)})


def test_a_host_that_has_not_spoken_since_may_hold_a_newer_step() -> None:
    old = with_host(with_host(gang(), "h0", holds={0: (7, 8), 1: (7, 8)}), "h1", holds={1: (7, 8)})
    killed = with_worker(old, 1, exit=ended(signal=9))
    fault = next(w.exit.at for w in killed.workers if w.exit)
    unheard = with_host(killed, "h0", heard=fault - 0.1)
    assert decide(unheard).actions == ()
    assert start(with_host(with_host(unheard, "h0", heard=fault), "h1", heard=fault)).restore.step == 8
    assert start(with_host(with_host(unheard, "h0", heard=fault - 50), "h1", heard=fault)).rung in (2, 3, 4), "silent"


def test_without_memory_the_whole_gang_comes_from_the_store() -> None:
    found = start(with_worker(gang(holds=False), 1, exit=ended(signal=9)))
    assert (found.rung, found.restore) == (3, Restore())


def test_a_lost_host_is_swapped_and_its_state_comes_from_its_partner() -> None:
    lost = without_host(gang(), "h1")
    found = start(lost)
    assert (found.rung, found.cause, found.hosts) == (2, "HostLost", ("h0", "h2"))
    assert found.restore == Restore(10, {0: ("h0",), 1: ("h0",)})
    assert only(lost, MarkHost) == MarkHost("m1", "Lost", "host h1: no report for 10.0 s", fault=True)


def test_silence_alone_kills_nothing() -> None:
    assert decide(with_host(gang(), "h1", heard=NOW - 50)).actions == ()


def test_an_agent_that_stands_still_is_given_up_where_a_spare_can_take_its_place() -> None:
    """Its ranks train on, but keep no copies elsewhere and cannot be heard: they save with the others, and stop."""
    still = with_host(gang(), "h1", heard=NOW - 61)
    assert "stands still" in only(still, StopGang).reason
    stopping = replace(still, stopping=True)
    assert decide(stopping).actions == ()
    stopped = start(with_worker(stopping, 0, exit=ended("Stopped")))
    silent = with_worker(with_host(stopping, "h1", heard=NOW - 50), 0, exit=ended("Stopped"))
    assert decide(silent).actions == (), "its rank may be about to say that it saved"
    assert (stopped.rung, stopped.cause, stopped.hosts) == (0, "Resumed", ("h0", "h2"))
    assert decide(with_host(gang(spares=0), "h1", heard=NOW - 61)).actions == ()


def test_so_is_one_that_never_reported_to_a_new_coordinator() -> None:
    """It stood still before the new one came, and its peers, who train on with its ranks, have nothing to say of it."""
    for seconds, given_up in ((50, False), (61, True)):
        still = with_host(gang(), "h1", heard=0.0, awaited=NOW - seconds)
        assert any(isinstance(action, StopGang) for action in decide(still).actions) == given_up
    assert only(with_host(gang(), "h2", heard=0.0, awaited=NOW - 61), MarkHost).event == "Lost"


def test_when_most_hosts_are_silent_the_network_here_is_at_fault() -> None:
    silent = with_host(with_host(gang(), "h1", heard=NOW - 61), "h0", heard=NOW - 61)
    assert decide(silent).actions == ()
    assert decide(with_host(gang(hosts=1), "h1", heard=NOW - 61)).actions == (), "one of two"


def test_a_spare_that_stands_still_is_marked() -> None:
    assert only(with_host(gang(), "h2", heard=NOW - 61), MarkHost).event == "Lost"


def test_peers_that_lost_their_connection_are_a_second_source() -> None:
    silent = with_host(gang(), "h1", heard=NOW - 5)
    assert start(with_worker(silent, 0, exit=ended("LostPeer", at=NOW - 4))).cause == "HostLost"


def test_a_victim_alone_is_not_yet_believed() -> None:
    victim = with_worker(gang(), 0, exit=ended("LostPeer", at=NOW - 0.05))
    assert decide(victim).actions == ()
    assert decide(victim).requeue_after < 0.5
    late = with_worker(gang(), 0, exit=ended("LostPeer", at=NOW - 3))
    assert start(late).cause == "Unknown"


def test_the_killer_and_not_the_victim_is_the_root() -> None:
    both = with_worker(gang(), 0, exit=ended("LostPeer", at=NOW - 1))
    assert start(with_worker(both, 1, exit=ended(signal=9))).cause == "WorkerKilled"


def test_no_spare_and_a_smaller_gang_allowed() -> None:
    policy = ResilienceSpec(min_hosts=1)
    found = start(without_host(gang(spares=0, policy=policy), "h1"))
    assert (found.rung, found.hosts, found.restore) == (4, ("h0",), Restore())


def test_no_spare_and_no_smaller_gang_allowed() -> None:
    pause = only(without_host(gang(spares=0), "h1"), Pause)
    assert pause.cause == "SparesSpent"
    assert "connection refused" in pause.evidence


def test_a_smaller_gang_must_divide_the_batch() -> None:
    policy = ResilienceSpec(min_hosts=1)
    found = start(without_host(gang(hosts=4, spares=0, policy=policy, allowed_sizes=(1, 2, 4)), "h1"))
    assert found.hosts == ("h0", "h2")


def test_a_pause_for_hosts_ends_when_they_come() -> None:
    paused = gang(phase="paused", paused_for="SparesSpent")
    assert start(paused).cause == "Resumed"
    assert decide(replace(paused, paused_for="CrashLoop")).actions == ()


def test_a_stopped_process_is_the_hang_and_its_waiting_peer_is_not() -> None:
    old = beat(0, section_seconds=500.0)
    both = with_worker(with_worker(gang(), 0, heartbeat=old), 1, stopped=True)
    found = start(both)
    assert (found.cause, found.stacks, found.culprits) == ("Hang", (1,), ("h1",))
    three = with_worker(gang(hosts=3), 2, stopped=True)
    for rank in range(2):
        word = beat(rank, section_seconds=500.0, collectives=rank)
        three = with_worker(three, rank, heartbeat=word)
    assert "collectives" not in start(three).evidence[0], "nothing that is of its peers"


@pytest.mark.parametrize("section", ["init", "load", "data", "step", "save", "eval", "shutdown"])
def test_a_hang_is_found_in_every_section(section: str) -> None:
    limit = gang().deadlines[section]
    fine = with_worker(gang(), 0, heartbeat=beat(0, section=section, section_seconds=limit - 1))
    assert decide(fine).actions == ()
    found = start(with_worker(gang(), 0, heartbeat=beat(0, section=section, section_seconds=limit + 1)))
    assert (found.cause, found.stacks) == ("Hang", (0,))
    assert section in found.evidence[0]


def test_of_ranks_that_wait_for_each_other_the_one_with_fewer_collectives_hangs() -> None:
    limit = gang().deadlines["eval"]

    def waiting(*begun: int | None) -> StartAttempt:
        snapshot = gang()
        for rank, number in enumerate(begun):
            word = beat(rank, section="eval", section_seconds=limit + 1, collectives=number)
            snapshot = with_worker(snapshot, rank, heartbeat=word)
        return start(snapshot)

    found = waiting(813, 812)
    assert (found.cause, found.stacks, found.culprits) == ("Hang", (1,), ("h1",))
    assert found.evidence[0].endswith("it has begun 812 collectives, ranks that wait for it 813")
    assert waiting(812, 813).culprits == ("h0",)
    for nobody_knows in (waiting(813, 813), waiting(None, None)):
        assert nobody_knows.stacks == (0, 1)
        assert "collectives" not in nobody_knows.evidence[0]


def test_a_silent_worker_hangs_too() -> None:
    assert start(with_worker(gang(), 1, heard=NOW - 61)).cause == "Hang"
    assert start(with_worker(gang(), 1, heartbeat=None, started=NOW - 301)).cause == "Hang"


def test_several_hosts_at_once_more_than_there_are_spares() -> None:
    policy = ResilienceSpec(min_hosts=2)
    snapshot = gang(hosts=4, spares=1, policy=policy, allowed_sizes=(1, 2, 4))
    found = start(without_host(without_host(snapshot, "h1"), "h2"))
    assert (found.rung, found.hosts) == (4, ("h0", "h3"))
    marks = [
        a.hardware for a in decide(without_host(without_host(snapshot, "h1"), "h2")).actions if isinstance(a, MarkHost)
    ]
    assert sorted(marks) == ["m1", "m2"]


def test_a_lost_spare_is_only_marked() -> None:
    assert [type(action) for action in decide(without_host(gang(), "h2")).actions] == [MarkHost]


def test_the_same_failure_at_the_same_step_is_a_crash_loop() -> None:
    before = tuple(Failure(NOW - age, "WorkerExit", 10) for age in (30, 20))
    pause = only(with_worker(gang(failures=before), 1, exit=ended("Internal")), Pause)
    assert pause.cause == "CrashLoop"
    assert start(with_worker(gang(failures=before, verified_at=NOW - 25), 1, exit=ended("Internal"))).rung == 1


def test_infrastructure_is_free_and_the_rest_is_counted() -> None:
    policy = ResilienceSpec(budget=FailureBudget(failures=3))
    kills = tuple(Failure(NOW - 50 + i, "WorkerKilled", i) for i in range(40))
    assert start(with_worker(gang(failures=kills, policy=policy), 1, exit=ended(signal=9))).rung == 1
    exits = tuple(Failure(NOW - 50 + i, "WorkerExit", i) for i in range(3))
    assert (
        only(with_worker(gang(failures=exits, policy=policy), 1, exit=ended("Internal")), Pause).cause == "BudgetSpent"
    )


def test_a_bad_spec_goes_to_a_human_at_once() -> None:
    assert only(with_worker(gang(), 0, exit=ended("BadSpec")), Pause).cause == "BadSpec"


def test_a_straggler_is_swapped_only_for_a_spare() -> None:
    slow = {1: "own compute time 1.9 x its peers' median"}
    found = start(gang(stragglers=slow))
    assert (found.cause, found.hosts, found.restore.step) == ("Straggler", ("h0", "h2"), 10)
    assert decide(gang(spares=0, stragglers=slow, policy=ResilienceSpec(min_hosts=1))).actions == ()


def test_mass_quarantine_opens_the_breaker() -> None:
    snapshot = gang(hosts=2, spares=3)
    ledger = snapshot.ledger.apply("m2", "Condemned", "bad").apply("m3", "Condemned", "bad")
    assert only(replace(snapshot, ledger=ledger), Pause).cause == "CircuitBreaker"


def test_suspend_saves_and_stops_and_resume_starts_again() -> None:
    assert only(gang(suspend=True), StopGang).reason == "suspended by a person"
    assert decide(gang(suspend=True, stopping=True)).actions == ()
    stopped = gang(suspend=True)
    for rank in (0, 1):
        stopped = with_worker(stopped, rank, exit=ended("Stopped", rank=rank))
    assert only(stopped, Pause).cause == "Suspended"
    assert start(gang(phase="paused", paused_for="Suspended")).cause == "Resumed"


def test_a_smaller_gang_grows_after_its_first_verified_checkpoint() -> None:
    small = gang(hosts=1, spares=1, wanted_hosts=2, allowed_sizes=(1, 2), policy=ResilienceSpec(min_hosts=1))
    assert decide(small).actions == ()
    assert isinstance(only(replace(small, verified_at=NOW - 1), StopGang), StopGang)
    assert start(with_worker(small, 0, exit=ended("Stopped"))).hosts == ("h0", "h1")


VALUES = RunningValues(learning_rate=1e-3, clip=1.0)
SPIKE = DivergenceView(
    Trigger("LossSpike", 10, "loss 9, above 1.5 x its mean 2"), 9.0, "none", VALUES, checkpoints=(CheckpointView(5),)
)


def test_a_spike_is_first_run_again_from_the_state_before_it() -> None:
    found = start(gang(divergence=SPIKE))
    assert (found.rung, found.restore.step) == (1, 9)


def test_another_result_of_the_rerun_means_hardware_and_the_run_goes_on() -> None:
    note = only(gang(divergence=replace(SPIKE, rerun="done", again_loss=2.0)), Note)
    assert note.cause == "SilentCorruption"


def test_the_same_result_means_data_and_the_policy_acts() -> None:
    found = start(gang(divergence=replace(SPIKE, rerun="done", again_loss=9.0)))
    assert (found.rung, found.restore) == (3, Restore(5))
    assert found.values == VALUES.model_copy(update={"learning_rate": 1e-3 * 0.9})
    assert found.changes[0].field == "optimisation.learningRate"


def test_the_policy_can_be_switched_off() -> None:
    policy = ResilienceSpec(divergence=DivergencePolicy(enabled=False))
    assert decide(gang(divergence=SPIKE, policy=policy)).actions == ()


def test_no_good_checkpoint_asks_for_a_human() -> None:
    poisoned = replace(SPIKE, rerun="done", again_loss=9.0, checkpoints=(CheckpointView(5, poisoned=True),))
    assert only(gang(divergence=poisoned), Pause).cause == "LossSpike"


def test_peers_that_wait_far_longer_than_ever_confirm_a_silent_host() -> None:
    silent = with_host(gang(usual={"step": 0.5}), "h1", heard=NOW - 5)
    patience = silent.silence + PARTNER_PATIENCE_S
    waiting = with_worker(silent, 0, heartbeat=beat(0, section_seconds=patience + 0.5))
    assert start(waiting).cause == "HostLost"
    for_its_partner = beat(0, section_seconds=PARTNER_PATIENCE_S)
    assert decide(with_worker(silent, 0, heartbeat=for_its_partner)).actions == ()


def test_the_last_checkpoint_proves_what_a_silent_host_cannot_say() -> None:
    silent = with_worker(with_host(gang(), "h1", heard=NOW - 50), 0, exit=ended("Completed"))
    assert decide(silent).actions == ()
    assert [type(action) for action in decide(replace(silent, final_saved=True)).actions] == [Complete]
