"""What stays and what goes."""

from __future__ import annotations

import pytest

from opt_api.documents.keys import checkpoint_prefix, manifest_key, mark_key
from opt_api.training.checkpointing import Retention
from opt_store import open_store
from opt_trainer.checkpoint.catalog import catalog, catalog_of, loadable
from opt_trainer.checkpoint.job import RetentionPolicy
from opt_trainer.checkpoint.retention import doomed, retain

pytestmark = pytest.mark.unit


def listing(*made):
    """(step, attempt, marks) with a manifest; marks=None is what a killed save left."""
    for step, attempt, marks in made:
        prefix = checkpoint_prefix("run", step, attempt)
        yield f"{prefix}/rank-000000.safetensors", 10
        if marks is not None:
            yield manifest_key(prefix), 5
            yield from ((mark_key(prefix, m), 1) for m in marks)


def gone(made, attempt=9, keep_last=2, every=None, pinned=()):
    policy = RetentionPolicy(retention=Retention(keep_last=keep_last, keep_every_steps=every), pinned=pinned)
    return sorted((f.step, f.attempt) for f in doomed(catalog_of("run", listing(*made)), attempt, policy))


def test_the_last_k_stay():
    assert gone([(s, 1, ()) for s in (1, 2, 3, 4)]) == [(1, 1), (2, 1)]
    assert gone([(1, 1, ())]) == []


def test_the_newest_attempt_counts_before_the_highest_step():
    assert gone([(10, 1, ()), (11, 1, ()), (8, 2, ()), (9, 2, ())]) == [(10, 1), (11, 1)]
    found = catalog_of("run", listing((10, 1, ()), (9, 2, ())))
    assert [(f.step, f.attempt) for f in found] == [(9, 2), (10, 1)]


def test_multiples_pins_and_known_good_ones_stay():
    made = [(1, 1, ()), (2, 1, ("Pinned",)), (3, 1, ("KnownGood",)), (4, 1, ()), (5, 1, ()), (6, 1, ()), (7, 1, ())]
    assert gone(made, every=4, pinned=(5,), keep_last=1) == [(1, 1), (6, 1)]


def test_poisoned_ones_do_not_count_and_stay_until_enough_newer_ones_are_good():
    assert gone([(1, 1, ()), (2, 1, ()), (3, 1, ("Poisoned",))]) == []
    assert gone([(1, 1, ("Poisoned",)), (2, 1, ()), (3, 1, ())]) == [(1, 1)]


def test_leftovers_of_earlier_attempts_go_and_those_of_this_one_stay():
    assert gone([(1, 3, ()), (2, 3, None), (3, 4, None)], attempt=4) == [(2, 3)]


def test_foreign_keys_are_no_checkpoints():
    assert catalog_of("run", [("runs/run/checkpoints/readme", 3), ("runs/run/checkpoints/12-a3/x", 1)]) == []


def test_loadable_needs_a_manifest_and_no_poison():
    found = catalog_of("run", listing((1, 1, ()), (2, 1, None), (3, 1, ("Poisoned",)), (4, 1, ("Verified",))))
    assert [f.step for f in loadable(found)] == [4, 1]


def test_deleting_removes_every_object_of_it(tmp_path):
    store = open_store(tmp_path.as_uri())
    for key, _ in listing((1, 1, ("Verified",)), (2, 1, ()), (3, 1, ())):
        store.put(key, b"x")
    retain(store, "run", 1, RetentionPolicy(retention=Retention(keep_last=2)))
    assert [f.step for f in catalog(store, "run")] == [3, 2]
    assert not list(store.list(checkpoint_prefix("run", 1, 1)))
